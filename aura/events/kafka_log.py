"""The event log on Kafka, through confluent-kafka.

Idempotent producer with `acks=all`, every delivery report counted; readers that are assigned their offsets, so that no
group coordinator decides who reads what; administration for offsets, groups, topics and retention. Does not belong
here: what happens while Kafka is down (`buffered`), leases and effects of consumers (`leases`).

An event that a producer publishes again after a crash lies in the topic twice; consumers recognise it by its identity.
Kafka acknowledges from the page cache: the death of a broker's process loses nothing, a power cut on a single node can.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from aura.events.errors import EventError, EventsRefusedError, PublishError
from aura.events.event import Event
from aura.events.kafka_admin import KafkaAdministration
from aura.events.kafka_calls import KafkaAddress, lasting_reason
from aura.events.kafka_groups import KafkaGroups
from aura.events.kafka_reader import KafkaReaders
from aura.events.log import Ack, Batch, check_partition, encode_data_checked, lag_of
from aura.events.schemas import SchemaSet, packaged_schemas
from aura.events.topics import TOPICS, Topic, TopicRegistry
from aura.events.wire import Message, milliseconds, with_headers
from aura.resilience.deadline import Deadline

if TYPE_CHECKING:
    from confluent_kafka import Producer

POLL_EVERY = 512
"""Messages between two looks at the delivery reports while a batch is handed over."""
GRACE_SECONDS = 1.0
"""What is on its way at the deadline may still be reported."""


def producer_config(address: KafkaAddress, timeout_seconds: float) -> dict[str, Any]:
    """The durability and the order that are promised: idempotent, acknowledged by all replicas, never a gap."""
    return {
        **address.client_config(timeout_seconds),
        "enable.idempotence": True,
        "acks": "all",
        # A message that timed out by itself could be overtaken by the next one of its key. So none does: `send` keeps
        # the deadline, and at its end drops the producer with everything that it still holds.
        "message.timeout.ms": 0,
        "linger.ms": 5,
        "compression.type": "lz4",
    }


class _Batch:
    """The delivery reports of one call, by the place of the message in it."""

    def __init__(self, count: int) -> None:
        self.errors: list[Any] = []
        self._partitions = [0] * count
        self._offsets = [-1] * count

    def _report(self, index: int, error: Any, message: Any) -> None:  # noqa: ANN401  confluent-kafka's types
        if error is None:
            self._offsets[index] = message.offset()
        else:
            self.errors.append(error)

    def hand_over(self, producer: Producer, topic: Topic, messages: Iterable[Message], deadline: Deadline) -> None:
        """Give every message to the client library, waiting while its queue is full."""
        produce, poll, report, partitions = producer.produce, producer.poll, self._report, self._partitions
        name = topic.name
        known: dict[bytes, int] = {}
        for index, message in enumerate(messages):
            key = message.key
            partition = known.get(key, -1)
            if partition < 0:
                partition = known[key] = topic.partition_of(key.decode())
            partitions[index] = partition
            while True:
                try:
                    produce(
                        name,
                        message.value,
                        key,
                        partition,
                        on_delivery=partial(report, index),
                        timestamp=message.timestamp,
                        headers=message.headers,  # type: ignore[arg-type]
                    )
                    break
                except BufferError:
                    if deadline.is_over:
                        raise
                    poll(0.05)
            if not index % POLL_EVERY:
                poll(0)

    def acks(self, topic: str) -> list[Ack | None]:
        """One per message; None for one that was not acknowledged."""
        places = zip(self._partitions, self._offsets, strict=True)
        return [None if offset < 0 else Ack(topic, partition, offset) for partition, offset in places]


class KafkaEventLog:
    """The `EventLog` on Kafka. A topic that does not exist is created when it is first used."""

    def __init__(
        self,
        address: KafkaAddress,
        *,
        registry: TopicRegistry = TOPICS,
        schemas: SchemaSet | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        """Prepare; the first call connects.

        Args:
            address: Where Kafka is.
            registry: The topics.
            schemas: The events' schemas (None: those that AURA ships).
            timeout_seconds: Deadline of a call.

        Raises:
            EventError: The client library is not installed.
        """
        try:
            import confluent_kafka  # noqa: F401
        except ImportError as error:
            raise EventError(
                "events.kafka is set but confluent-kafka is not installed: install AURA with the extra `servers`."
            ) from error
        self.address = address
        self._registry = registry
        self._schemas = schemas or packaged_schemas()
        self._timeout = timeout_seconds
        self._lock = threading.Lock()
        self._producer: Producer | None = None
        self._administration = KafkaAdministration(address, timeout_seconds)
        self._groups = KafkaGroups(address, timeout_seconds)
        self._readers = KafkaReaders(address.client_config(timeout_seconds), address.bootstrap)

    @property
    def registry(self) -> TopicRegistry:
        """The topics."""
        return self._registry

    def identity(self, topic: str) -> str:
        """The cluster's id and the topic's; see `EventLog.identity`."""
        return self._administration.identity(self._registry.get(topic))

    def close(self) -> None:
        """Close the connections."""
        self._readers.close()
        self._groups.close()
        with self._lock:
            self._drop_producer()

    def publish(self, topic: str, events: Sequence[Event]) -> list[Ack]:
        """Append events; see `EventLog.publish`."""
        chosen = self._registry.get(topic)
        values = encode_data_checked(chosen, events, self._schemas)
        # The rest of the encoding overlaps with the sending of what was handed over before.
        return self.send(chosen, map(with_headers, events, values), len(values))

    def send(self, topic: Topic, messages: Iterable[Message], count: int) -> list[Ack]:
        """Append `count` messages.

        Raises:
            PublishError: Not all were acknowledged within the deadline.
            EventsRefusedError: Some never will be.
        """
        from confluent_kafka import KafkaException

        deadline = Deadline(self._timeout)
        self._administration.ensure(topic, deadline)
        batch = _Batch(count)
        with self._lock:
            producer = self._producer = self._producer or self._new_producer()
        try:
            batch.hand_over(producer, topic, messages, deadline)
            unsent = producer.flush(deadline.left() + GRACE_SECONDS)
        except (KafkaException, BufferError) as error:
            batch.errors.append(error)
            unsent = count
        acks = batch.acks(topic.name)
        if None in acks:
            self._give_up(producer)
            self._administration.look_again(topic.name)
            lasting = next(filter(None, map(lasting_reason, batch.errors)), None)
            if lasting:
                raise EventsRefusedError(
                    f"Kafka at {self.address.bootstrap} refused {acks.count(None)} of {count} events for {topic.name}: "
                    f"{lasting}. Mend the events, the topic's configuration or the rights of events.kafka_user.",
                    acks,
                )
            raise PublishError(
                f"Kafka at {self.address.bootstrap} acknowledged {count - acks.count(None)} of {count} events within "
                f"{self._timeout:g} s ({unsent} were still on their way; "
                f"{batch.errors[0] if batch.errors else 'no error was reported'}). Check the broker with `aura status` "
                "and publish them again.",
                acks,
            )
        return [ack for ack in acks if ack is not None]

    def _new_producer(self) -> Producer:
        from confluent_kafka import Producer

        return Producer(producer_config(self.address, self._timeout))

    def _give_up(self, producer: Producer) -> None:
        """Let go of a producer after a failure: what it still holds must not overtake what is published again."""
        with self._lock:
            if self._producer is producer:
                self._drop_producer()

    def _drop_producer(self) -> None:
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(1.0)
            self._producer = None

    def read(self, topic: str, partition: int, start: int, stop: int | None = None, *, limit: int = 1000) -> Batch:
        """Read offsets of a partition; see `EventLog.read`."""
        chosen = self._registry.get(topic)
        check_partition(chosen, partition)
        deadline = Deadline(self._timeout)
        self._administration.ensure(chosen, deadline)
        return self._readers.read(chosen, partition, start, stop, limit, schemas=self._schemas, deadline=deadline)

    def begin_offsets(self, topic: str) -> dict[int, int]:
        """First offset that is kept, by partition."""
        return self._administration.offsets(self._registry.get(topic), "earliest")

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Offset of the next record, by partition."""
        return self._administration.offsets(self._registry.get(topic), "latest")

    def offsets_at(self, topic: str, time: datetime) -> dict[int, int]:
        """First offset at a time or later, by partition; see `EventLog.offsets_at`."""
        ends = self.end_offsets(topic)
        found = self._administration.offsets(self._registry.get(topic), "for_timestamp", milliseconds(time))
        return {partition: ends[partition] if offset < 0 else offset for partition, offset in found.items()}

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Note how far a group has come; see `EventLog.commit`."""
        chosen = self._registry.get(topic)
        for partition in offsets:
            check_partition(chosen, partition)
        self._administration.ensure(chosen, Deadline(self._timeout))
        self._groups.commit(group, chosen, offsets)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """What `commit` was told last."""
        return self._groups.committed(group, self._registry.get(topic))

    def lag(self, group: str, topic: str) -> dict[int, int]:
        """Records that the group has not committed, by partition."""
        return lag_of(self.begin_offsets(topic), self.end_offsets(topic), self.committed(group, topic))

    def expire(self, topic: str, now: datetime) -> dict[int, int]:
        """Delete what is older than the topic's retention; see `EventLog.expire`.

        The broker does so of its own accord as well, by whole segments.
        """
        chosen = self._registry.get(topic)
        self._administration.delete_before(chosen, self.offsets_at(topic, now - chosen.retention))
        return self.begin_offsets(topic)
