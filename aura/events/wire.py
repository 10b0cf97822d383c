"""Events as bytes: CloudEvents 1.0 in the binary mode of the Kafka protocol binding, the same on every adapter.

The attributes are headers `ce_...`, the data is the value as JSON, the key is the record's key, and the W3C trace
context is the header `traceparent`. Does not belong here: whether the data fits its schema (`schemas`).
"""

from __future__ import annotations

import json
import json.encoder
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from aura.events.errors import EventInvalidError
from aura.events.event import URN, Event

CONTENT_TYPE = "application/json"
TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _json_encoder() -> Callable[[Any], str]:
    """An encoder of compact JSON that refuses NaN.

    `JSONEncoder.encode` makes a new encoder in C for each call, which takes as long as the encoding of an event; here
    one is kept, where the interpreter has it.
    """
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

    def refuse(value: object) -> None:
        raise TypeError(f"{type(value).__name__} is no JSON type")

    sort_keys = skip_keys = allow_nan = False
    chunks = make(None, refuse, json.encoder.encode_basestring, None, ":", ",", sort_keys, skip_keys, allow_nan)
    join = "".join
    return lambda data: join(chunks(data, 0))


_encode_json = _json_encoder()


Headers = list[tuple[str, bytes]]


class Message(NamedTuple):
    """What goes over the wire. `timestamp` is in milliseconds since 1970, `identity` is `Event.identity`.

    A tuple: one is made for each event that is published, and a frozen data class takes three times as long.
    """

    key: bytes
    headers: Headers
    value: bytes
    timestamp: int
    identity: str


@lru_cache(maxsize=1024)
def _constant_headers(kind: str, version: int, source: str) -> Headers:
    return [
        ("content-type", CONTENT_TYPE.encode()),
        ("ce_specversion", b"1.0"),
        ("ce_type", kind.encode()),
        ("ce_dataschema", f"{URN}{kind}:{version}".encode()),
        ("ce_source", source.encode()),
    ]


@lru_cache(maxsize=1024)
def parse_dataschema(dataschema: str) -> tuple[str, int]:
    """Split `urn:aura:event:TYPE:VERSION` into type and version."""
    kind, _, version = dataschema.removeprefix(URN).rpartition(":")
    if not dataschema.startswith(URN) or not kind or not version.isdecimal():
        raise EventInvalidError(f"dataschema is {dataschema!r}; expected {URN}<type>:<version>")
    return kind, int(version)


def encode(event: Event) -> Message:
    """Encode an event.

    Raises:
        EventInvalidError: An attribute is missing or malformed, or the data is not JSON.
    """
    return with_headers(event, encode_data(event))


def encode_data(event: Event) -> bytes:
    """Encode the data of an event, after a check of everything that could make `with_headers` fail.

    Raises:
        EventInvalidError: An attribute is missing or malformed, or the data is not JSON.
    """
    if not (event.id and event.source and event.type and event.key):
        raise EventInvalidError(f"{event!r} needs a non-empty id, source, type and key")
    if event.time.tzinfo is None:
        raise EventInvalidError(f"the time {event.time} of event {event.id!r} has no time zone")
    if event.traceparent is not None and not TRACEPARENT.fullmatch(event.traceparent):
        raise EventInvalidError(f"traceparent is {event.traceparent!r}; expected W3C's 00-<32>-<16>-<2> hex digits")
    try:
        texts = f"{event.id}{event.source}{event.key}{event.subject}"
        if not texts.isascii():
            texts.encode()
        return _encode_json(event.data).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise EventInvalidError(f"event {event.id!r} is not JSON in UTF-8: {error}") from error


def with_headers(event: Event, value: bytes) -> Message:
    """The message of an event whose data is encoded."""
    time = event.time
    key = event.key.encode()
    headers = [
        *_constant_headers(event.type, event.version, event.source),
        ("ce_id", event.id.encode()),
        ("ce_time", _rfc3339(time)),
        ("ce_partitionkey", key),
    ]
    if event.subject is not None:
        headers.append(("ce_subject", event.subject.encode()))
    if event.traceparent is not None:
        headers.append(("traceparent", event.traceparent.encode()))
    return Message(key, headers, value, int(time.timestamp() * 1000), f"{event.source} {event.id}")


def _rfc3339(time: datetime) -> bytes:
    if time.tzinfo is UTC:
        # Twice as fast as asking the time zone for its offset.
        return f"{time.replace(tzinfo=None).isoformat()}+00:00".encode()
    return time.isoformat().encode()


def milliseconds(time: datetime) -> int:
    """Milliseconds since 1970, rounded down."""
    return int(time.timestamp() * 1000)


def decode(key: bytes | None, headers: Iterable[tuple[str, bytes | None]], value: bytes | None) -> Event:
    """Decode a record into an event, without looking at its data.

    Raises:
        EventInvalidError: It is not a CloudEvent in binary mode, or its value is not a JSON object.
    """
    found = dict(headers)
    try:
        kind, version = parse_dataschema(found["ce_dataschema"].decode())  # type: ignore[union-attr]
        data = json.loads(value)  # type: ignore[arg-type]
        if type(data) is not dict:
            raise EventInvalidError(f"the value is a JSON {type(data).__name__}, not an object")
        subject, traceparent = found.get("ce_subject"), found.get("traceparent")
        if found["ce_specversion"] != b"1.0":
            raise EventInvalidError(f"ce_specversion is {found['ce_specversion']!r}; this program reads 1.0")
        event = Event(
            kind,
            data,
            found["ce_source"].decode(),  # type: ignore[union-attr]
            (key if key is not None else found["ce_partitionkey"]).decode(),  # type: ignore[union-attr]
            found["ce_id"].decode(),  # type: ignore[union-attr]
            datetime.fromisoformat(found["ce_time"].decode()),  # type: ignore[union-attr]
            version,
            None if subject is None else subject.decode(),
            None if traceparent is None else traceparent.decode(),
        )
        if found["ce_type"] != kind.encode():
            raise EventInvalidError(f"ce_type is {found['ce_type']!r} but the schema is of {kind!r}")
    except KeyError as error:
        raise EventInvalidError(f"the header {error.args[0]!r} is missing") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise EventInvalidError(f"not a CloudEvent in binary mode with JSON data: {error}") from error
    if event.time.tzinfo is None:
        raise EventInvalidError(f"ce_time is {found['ce_time']!r}, without a time zone")
    return event
