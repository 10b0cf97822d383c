"""Administration of Kafka: topics, offsets of partitions, retention.

Belongs here: the requests that AdminClient makes; each is idempotent. Does not: records (`kafka_log`), groups
(`kafka_groups`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from aura.events.errors import EventsRefusedError
from aura.events.kafka_calls import KafkaAddress, PassingError, call_kafka
from aura.events.topics import Topic
from aura.resilience.deadline import Deadline

if TYPE_CHECKING:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

GRACE_SECONDS = 1.0
"""The client library reports its own time-out a little late."""
MASK = 0xFFFFFFFFFFFFFFFF
"""The halves of a topic's id come as signed 64-bit numbers."""

Answer = TypeVar("Answer")


class KafkaAdministration:
    """Requests about topics; safe between threads."""

    def __init__(self, address: KafkaAddress, timeout_seconds: float) -> None:
        self._address = address
        self._timeout = timeout_seconds
        self._lock = threading.Lock()
        self._client: AdminClient | None = None
        self._known: set[str] = set()
        self._identities: dict[str, str] = {}

    def _ask(self, ask: Callable[[AdminClient, Deadline], Answer], deadline: Deadline | None = None) -> Answer:
        chosen = deadline or Deadline(self._timeout)

        def attempt() -> Answer:
            client = self._connected()
            try:
                return ask(client, chosen)
            except Exception:
                # What it remembers of the leaders from before a broker's restart does not go away by asking again.
                self._forget(client)
                raise

        return call_kafka(attempt, chosen, self._address.bootstrap)

    def _forget(self, client: AdminClient) -> None:
        with self._lock:
            if self._client is client:
                self._client = None

    def _connected(self) -> AdminClient:
        from confluent_kafka.admin import AdminClient

        with self._lock:
            if self._client is None:
                self._client = AdminClient(self._address.client_config(self._timeout))
            return self._client

    def offsets(self, topic: Topic, spec: str, *values: int) -> dict[int, int]:
        """Offsets of a topic's partitions.

        Args:
            topic: The topic.
            spec: `earliest`, `latest` or `for_timestamp` (-1 where there is nothing that late).
            values: Of `for_timestamp`: milliseconds since 1970.
        """
        from confluent_kafka import admin

        deadline = Deadline(self._timeout)
        self.ensure(topic, deadline)
        wanted_offset = getattr(admin.OffsetSpec, spec)(*values)  # type: ignore[attr-defined]
        wanted = dict.fromkeys(_places(topic), wanted_offset)

        def ask(client: AdminClient, deadline: Deadline) -> dict[int, int]:
            answers = client.list_offsets(wanted, request_timeout=deadline.remaining())
            return {
                place.partition: answer.result(deadline.left() + GRACE_SECONDS).offset
                for place, answer in answers.items()
            }

        return self._ask(ask, deadline)

    def identity(self, topic: Topic) -> str:
        """The cluster's id and the topic's, which is another one each time that the topic is created.

        A broker that gives topics no id (before Kafka 2.8) is known by the cluster and the topic's name.

        Raises:
            LogUnavailableError: The broker did not answer.
        """
        if topic.name not in self._identities:
            deadline = Deadline(self._timeout)
            self.ensure(topic, deadline)
            self._identities[topic.name] = self._ask(lambda client, left: _identity(client, topic.name, left), deadline)
        return self._identities[topic.name]

    def delete_before(self, topic: Topic, offsets: Mapping[int, int]) -> None:
        """Delete the records before these offsets."""
        from confluent_kafka import TopicPartition

        places = [TopicPartition(topic.name, partition, offset) for partition, offset in offsets.items()]

        def ask(client: AdminClient, deadline: Deadline) -> None:
            for answer in client.delete_records(places, request_timeout=deadline.remaining()).values():
                answer.result(deadline.left() + GRACE_SECONDS)

        self._ask(ask)

    def ensure(self, topic: Topic, deadline: Deadline) -> None:
        """Create the topic if need be.

        Raises:
            EventsRefusedError: It may not be created, or its number of partitions is another: keys would change their
                place.
            LogUnavailableError: The broker did not answer.
        """
        if topic.name in self._known:
            return
        found = self._ask(lambda client, left: _found(client, topic.name, left), deadline)
        if found is None:
            self._ask(lambda client, left: _create(client, topic, left), deadline)
            found = self._ask(lambda client, left: _appeared(client, topic.name, left), deadline)
        if found != topic.partitions:
            raise EventsRefusedError(
                f"{topic.name} has {found} partitions on {self._address.bootstrap}, but AURA spreads its keys over "
                f"{topic.partitions}. Add partitions, or delete the topic and publish anew."
            )
        self._known.add(topic.name)

    def look_again(self, topic: str) -> None:
        """Ask about a topic before its next use: somebody may have deleted it."""
        self._known.discard(topic)


def _found(client: AdminClient, topic: str, deadline: Deadline) -> int | None:
    """Number of partitions of a topic that has a leader for each; None where there is no such topic."""
    from confluent_kafka import KafkaError

    found = client.list_topics(timeout=deadline.remaining()).topics.get(topic)
    if found is None or (found.error is not None and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART):
        return None
    if found.error is not None or any(partition.leader < 0 for partition in found.partitions.values()):
        raise PassingError(f"the topic {topic} has no leader yet")
    return len(found.partitions)


def _identity(client: AdminClient, topic: str, deadline: Deadline) -> str:
    from confluent_kafka import TopicCollection

    left = deadline.remaining()
    cluster = client.describe_cluster(request_timeout=left).result(left + GRACE_SECONDS).cluster_id
    left = deadline.remaining()
    described = client.describe_topics(TopicCollection([topic]), request_timeout=left)[topic]
    number = described.result(left + GRACE_SECONDS).topic_id
    high, low = number.get_most_significant_bits(), number.get_least_significant_bits()
    return f"{cluster}/{high & MASK:016x}{low & MASK:016x}" if high or low else f"{cluster}/{topic}"


def _create(client: AdminClient, topic: Topic, deadline: Deadline) -> None:
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

    config = {"retention.ms": str(int(topic.retention.total_seconds() * 1000))}
    # Replication as the broker is configured.
    new = NewTopic(topic.name, topic.partitions, -1, config=config)
    try:
        client.create_topics([new], operation_timeout=deadline.remaining())[topic.name].result(
            deadline.left() + GRACE_SECONDS
        )
    except KafkaException as error:
        # Another process may have been faster.
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def _appeared(client: AdminClient, topic: str, deadline: Deadline) -> int:
    while (found := _found(client, topic, deadline)) is None:
        time.sleep(0.02)
    return found


def _places(topic: Topic) -> list[TopicPartition]:
    from confluent_kafka import TopicPartition

    return [TopicPartition(topic.name, partition) for partition in range(topic.partitions)]
