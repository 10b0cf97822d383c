"""Readers of Kafka partitions: consumers that are assigned an offset and kept, so that reading on costs no new seek.

Belongs here: getting [start, stop) of one partition. Does not: groups; a reader belongs to none.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aura.events.errors import OffsetExpiredError
from aura.events.kafka_calls import call_kafka, check_kafka_error
from aura.events.log import Batch, RawRecord, decode_checked
from aura.events.schemas import SchemaSet
from aura.events.topics import Topic
from aura.resilience.deadline import Deadline

if TYPE_CHECKING:
    from confluent_kafka import Consumer

KEPT = 8
"""Consumers kept open; each has its own connection and threads."""
POLL_SECONDS = 0.25
CONFIG: Mapping[str, Any] = {
    "group.id": "aura-reader",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "check.crcs": True,
    "fetch.wait.max.ms": 100,
    "fetch.error.backoff.ms": 100,
    "queued.max.messages.kbytes": 16384,
}


@dataclass(slots=True)
class _Reader:
    """A consumer and where it stands; `end` is the end of the partition when last asked."""

    consumer: Consumer
    place: tuple[str, int] | None = None
    position: int = -1
    end: int = -1


class KafkaReaders:
    """A small pool of readers, shared by threads."""

    def __init__(self, client_config: Mapping[str, Any], bootstrap: str) -> None:
        self._config = {**client_config, **CONFIG}
        self._bootstrap = bootstrap
        self._lock = threading.Lock()
        self._idle: list[_Reader] = []

    def close(self) -> None:
        """Close the readers that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.consumer.close()

    @contextmanager
    def _borrowed(self, place: tuple[str, int]) -> Iterator[_Reader]:
        """A reader, rather one that stands in this partition; after an error it is thrown away."""
        from confluent_kafka import Consumer

        with self._lock:
            fitting = [reader for reader in self._idle if reader.place == place]
            reader = fitting[-1] if fitting else self._idle[0] if len(self._idle) >= KEPT else None
            if reader is not None:
                self._idle.remove(reader)
        if reader is None:
            reader = _Reader(Consumer(self._config))
        try:
            yield reader
        except BaseException:
            reader.consumer.close()
            raise
        with self._lock:
            self._idle.append(reader)

    def read(
        self,
        topic: Topic,
        partition: int,
        start: int,
        stop: int | None,
        limit: int,
        *,
        schemas: SchemaSet,
        deadline: Deadline,
    ) -> Batch:
        """Read offsets of a partition; see `EventLog.read`."""
        wanted = start + limit if stop is None else min(stop, start + limit)

        def attempt() -> tuple[int, list[RawRecord]]:
            with self._borrowed((topic.name, partition)) as reader:
                upper = self._upper(reader, (topic.name, partition), start, wanted, deadline)
                return upper, list(self._fetch(reader, upper, deadline)) if upper > start else []

        upper, raw = call_kafka(attempt, deadline, self._bootstrap)
        records, poison = decode_checked(topic, partition, raw, schemas)
        return Batch(tuple(records), tuple(poison), max(start, upper))

    def _upper(self, reader: _Reader, place: tuple[str, int], start: int, wanted: int, deadline: Deadline) -> int:
        """Place the reader; returns where to stop.

        The broker is asked for the bounds unless the reader stands there and knows of enough.
        """
        from confluent_kafka import TopicPartition

        if reader.place == place and reader.position == start and reader.end >= wanted:
            return wanted
        bounds = reader.consumer.get_watermark_offsets(TopicPartition(*place), timeout=deadline.remaining())
        if bounds is None:
            raise TimeoutError(f"no answer about its bounds within {deadline.seconds:g} s")
        begin, reader.end = bounds
        if start < begin:
            raise OffsetExpiredError(
                f"Offset {start} of {place[0]}-{place[1]} was deleted by retention; the log begins at {begin}.", begin
            )
        upper = min(wanted, reader.end)
        if upper > start and (reader.place != place or reader.position != start):
            reader.consumer.assign([TopicPartition(*place, start)])
            reader.place, reader.position = place, start
        return upper

    def _fetch(self, reader: _Reader, upper: int, deadline: Deadline) -> Iterator[RawRecord]:
        from confluent_kafka import KafkaError

        while reader.position < upper:
            timeout = min(POLL_SECONDS, deadline.remaining())
            for message in reader.consumer.consume(upper - reader.position, timeout):
                error = message.error()
                if error is not None:
                    if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  the library's constant
                        check_kafka_error(error)
                    continue
                offset: Any = message.offset()
                headers: Any = message.headers() or ()
                reader.position = offset + 1
                yield offset, message.timestamp()[1], message.key(), headers, message.value() or b""
