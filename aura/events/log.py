"""The port: an event log in the words of Kafka, what every adapter promises, and what the adapters share.

Belongs here: the protocol, its answers, validation on the way in and out. Does not: storage (`sqlite_log`,
`kafka_log`), consumer groups' leases and effects (`consumer`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, NoReturn, Protocol

from aura.events.errors import EventInvalidError, UnknownTopicError
from aura.events.event import Event, Poison, Record
from aura.events.schemas import SchemaSet
from aura.events.topics import Topic, TopicRegistry
from aura.events.wire import Message, decode, encode_data, with_headers

MAX_BYTES = 900_000
"""Largest data of an event: with its headers it stays below the million bytes that Kafka takes by default."""

Partition = int
Offset = int


class Ack(NamedTuple):
    """That an event is durable. A tuple: one is made for each event.

    Attributes:
        topic: Where it was published.
        partition: Partition of its key.
        offset: Its place in the log; None while it waits in the outbox on this machine's disk.
    """

    topic: str
    partition: Partition
    offset: Offset | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What a read found.

    Attributes:
        records: In the order of their offsets.
        poison: Records that could not be decoded; their offsets lie between those of `records`.
        next_offset: Where the next read begins.
    """

    records: tuple[Record, ...]
    poison: tuple[Poison, ...]
    next_offset: Offset


class EventLog(Protocol):
    """A partitioned log of events.

    Within a partition, and so within a key, records keep the order of their publication. All adapters are safe to
    share between threads. Errors of reaching the log are `LogUnavailableError`: a failed read is never an empty one.
    """

    @property
    def registry(self) -> TopicRegistry:
        """The topics."""
        ...

    def identity(self, topic: str) -> str:
        """Name of this very log of a topic: another one for a log that was made anew at the same address.

        Offsets mean something only together with it. It is asked for once and kept as long as this object is open.

        Raises:
            LogUnavailableError: The log did not answer.
        """
        ...

    def publish(self, topic: str, events: Sequence[Event]) -> list[Ack]:
        """Append events; returns once all are durable, one acknowledgement per event in order.

        Publishing an event again after an error, with the same source and id, has no further effect: a log that can
        look ids up answers with the first offset, on any other the consumers recognise it.

        Raises:
            EventInvalidError: One does not fit its schema or the topic. Nothing was published.
            PublishError: Not all became durable.
            EventsRefusedError: The log will never take some of them.
        """
        ...

    def read(
        self, topic: str, partition: Partition, start: Offset, stop: Offset | None = None, *, limit: int = 1000
    ) -> Batch:
        """Read the offsets [start, stop) of a partition, at most `limit` of them; without `stop` up to the end.

        Does not wait for records that are not there yet.

        Raises:
            OffsetExpiredError: `start` lies before the first offset that retention left.
            LogUnavailableError: The log did not answer.
        """
        ...

    def begin_offsets(self, topic: str) -> dict[Partition, Offset]:
        """First offset of each partition that is still kept."""
        ...

    def end_offsets(self, topic: str) -> dict[Partition, Offset]:
        """Offset that the next record of each partition will get."""
        ...

    def offsets_at(self, topic: str, time: datetime) -> dict[Partition, Offset]:
        """Of each partition the first offset whose event is at `time` or later; the end where there is none."""
        ...

    def commit(self, group: str, topic: str, offsets: Mapping[Partition, Offset]) -> None:
        """Tell the log how far a group has come (the next offsets it will read), for `lag` and for people.

        The offsets that a consumer goes by are kept with its effects: see `aura.events.consumer`.
        """
        ...

    def committed(self, group: str, topic: str) -> dict[Partition, Offset]:
        """What `commit` was told last; partitions without a commit are absent."""
        ...

    def lag(self, group: str, topic: str) -> dict[Partition, int]:
        """Records of each partition that the group has not committed; all that are kept where it never did."""
        ...

    def expire(self, topic: str, now: datetime) -> dict[Partition, Offset]:
        """Delete the records at the front that are older than the topic's retention; returns the first offsets left."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


def encode_checked(topic: Topic, events: Sequence[Event], schemas: SchemaSet) -> list[Message]:
    """Encode events for a topic.

    Raises:
        EventInvalidError: One does not fit its schema or the topic.
    """
    return list(map(with_headers, events, encode_data_checked(topic, events, schemas)))


def encode_data_checked(topic: Topic, events: Iterable[Event], schemas: SchemaSet) -> list[bytes]:
    """Encode the data of events for a topic, so that nothing is left that could fail.

    Raises:
        EventInvalidError: One does not fit its schema or the topic.
    """
    values, types, check = [], topic.types, schemas.check
    for event in events:
        if event.type not in types:
            _refuse_type(topic, event)
        try:
            check(event.type, event.version, event.data)
        except EventInvalidError as error:
            raise EventInvalidError(f"event {event.id!r} of {event.source}: {error}") from error
        value = encode_data(event)
        if len(value) > MAX_BYTES:
            raise EventInvalidError(
                f"event {event.id!r} of {event.source} has {len(value)} bytes of data; at most {MAX_BYTES} fit. "
                "Publish several events, or a reference to the data."
            )
        values.append(value)
    return values


def _refuse_type(topic: Topic, event: Event) -> NoReturn:
    raise EventInvalidError(
        f"{topic.name} takes events of the types {', '.join(topic.types)}, not {event.type!r} (event {event.id!r})"
    )


RawRecord = tuple[Offset, int, bytes | None, Sequence[tuple[str, bytes]], bytes]
"""Offset, time stamp, key, headers, value."""


def decode_checked(
    topic: Topic, partition: Partition, raw: Iterable[RawRecord], schemas: SchemaSet
) -> tuple[list[Record], list[Poison]]:
    """Decode records and check their data; those that cannot be used are set apart with the reason."""
    records: list[Record] = []
    poison: list[Poison] = []
    name, types, check = topic.name, topic.types, schemas.check
    for offset, timestamp, key, headers, value in raw:
        try:
            event = decode(key, headers, value)
            if event.type not in types:
                _refuse_type(topic, event)
            check(event.type, event.version, event.data)
        except EventInvalidError as error:
            kept = tuple((header, data or b"") for header, data in headers)
            poison.append(Poison(name, partition, offset, timestamp, key, kept, value, str(error)))
        else:
            records.append(Record(name, partition, offset, timestamp, event.key, event))
    return records, poison


def check_partition(topic: Topic, partition: Partition) -> None:
    """Raise UnknownTopicError if the topic has no such partition."""
    if not 0 <= partition < topic.partitions:
        raise UnknownTopicError(f"{topic.name} has the partitions 0 to {topic.partitions - 1}, not {partition}.")


def lag_of(
    begin: Mapping[Partition, Offset], end: Mapping[Partition, Offset], committed: Mapping[Partition, Offset]
) -> dict[Partition, int]:
    """Records between what is committed (at least the beginning) and the end."""
    return {p: end[p] - min(max(committed.get(p, 0), begin[p]), end[p]) for p in end}
