"""The event, in the words of CloudEvents 1.0, and the record that it becomes in the log.

Belongs here: the types and how a new event is made. Does not: bytes and headers (`wire`), what the data must look like
(`schemas`).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

URN = "urn:aura:event:"

EARLIEST, LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
"""Bounds of the moments that can be written in every time zone."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        type: What happened, e.g. `corpus.items.changed`; with `version` it names the JSON Schema of `data`.
        data: The payload, a JSON object.
        source: Who says so. Together with `id` it identifies the event: publishing it again changes nothing.
        key: Events with the same key keep their order (CloudEvents' extension `partitionkey`).
        id: Unique within the source.
        time: When it happened, with a time zone.
        version: Version of the schema.
        subject: What it is about, if not already in the data.
        traceparent: W3C trace context of the producer.
    """

    type: str
    data: Mapping[str, Any]
    source: str
    key: str
    id: str
    time: datetime
    version: int = 1
    subject: str | None = None
    traceparent: str | None = None

    @property
    def dataschema(self) -> str:
        """URN of the schema of the data."""
        return f"{URN}{self.type}:{self.version}"

    @property
    def identity(self) -> str:
        """What makes two deliveries the same event: source and id."""
        return f"{self.source} {self.id}"


def new_event(
    kind: str,
    data: Mapping[str, Any],
    *,
    source: str,
    key: str,
    version: int = 1,
    subject: str | None = None,
    id: str | None = None,  # noqa: A002  CloudEvents' name
    time: datetime | None = None,
    traceparent: str | None = None,
) -> Event:
    """Make an event that happened now, with an id of its own and the trace context of the running span, unless told.

    Pass `id` where the same fact may be published twice, for instance after a crash: the log keeps it once.
    """
    return Event(
        type=kind,
        data=data,
        source=source,
        key=key,
        id=id or str(uuid.uuid4()),
        time=time or datetime.now(UTC),
        version=version,
        subject=subject,
        traceparent=traceparent or current_traceparent(),
    )


def moment_at(milliseconds: int) -> datetime:
    """So many milliseconds since 1970, in UTC, but no earlier than EARLIEST and no later than LATEST.

    What others write need not be such a number: timestamps in micro- or nanoseconds lie beyond the year 9999.
    """
    first, last = (EARLIEST - _EPOCH) // _MILLISECOND, (LATEST - _EPOCH) // _MILLISECOND
    return _EPOCH + min(max(milliseconds, first), last) * _MILLISECOND


def in_utc(time: datetime) -> datetime:
    """A time of any zone in UTC, but no earlier than EARLIEST and no later than LATEST."""
    return min(max(time, EARLIEST), LATEST).astimezone(UTC)


def current_traceparent() -> str | None:
    """W3C traceparent of the running span; None outside of one."""
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


@dataclass(frozen=True, slots=True)
class Record:
    """An event at its place in the log. `timestamp` is in milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: str
    event: Event


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that cannot be decoded, or whose data does not fit its schema: the bytes as they are, and why."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    value: bytes
    reason: str
