"""Committed offsets of consumer groups on Kafka, for the display of lag.

Through a consumer of the group, not through AdminClient: its ListConsumerGroupOffsets ends the process with a
segmentation fault (librdkafka 2.16, `rd_kafka_cgrp_op`) when the group's coordinator is still being chosen, as on a new
broker. Does not belong here: the offsets that consumers go by (`leases`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aura.events.kafka_calls import KafkaAddress, PassingError, call_kafka, check_kafka_error
from aura.events.topics import Topic
from aura.resilience.deadline import Deadline

if TYPE_CHECKING:
    from confluent_kafka import Consumer

POLL_SECONDS = 0.05


class KafkaGroups:
    """One connection for each group that was asked about; safe between threads."""

    def __init__(self, address: KafkaAddress, timeout_seconds: float) -> None:
        self._address = address
        self._timeout = timeout_seconds
        self._lock = threading.Lock()
        self._members: dict[str, Consumer] = {}
        self._answers: list[Any] = []

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for member in self._members.values():
                member.close()
            self._members.clear()

    def _member(self, group: str) -> Consumer:
        from confluent_kafka import Consumer

        if group not in self._members:
            config = {
                **self._address.client_config(self._timeout),
                "group.id": group,
                "enable.auto.commit": False,
                "on_commit": lambda error, _: self._answers.append(error),
            }
            self._members[group] = Consumer(config)
        return self._members[group]

    def commit(self, group: str, topic: Topic, offsets: Mapping[int, int]) -> None:
        """Set the offsets of a group.

        Raises:
            LogUnavailableError: The broker did not answer in time.
        """
        from confluent_kafka import TopicPartition

        deadline = Deadline(self._timeout)
        places = [TopicPartition(topic.name, partition, offset) for partition, offset in offsets.items()]

        def attempt() -> None:
            member = self._member(group)
            self._answers.clear()
            # The synchronous form takes no time-out.
            member.commit(offsets=places, asynchronous=True)
            while not self._answers:
                member.poll(min(POLL_SECONDS, deadline.remaining()))
            if self._answers[0] is not None:
                check_kafka_error(self._answers[0])

        with self._lock:
            call_kafka(attempt, deadline, self._address.bootstrap)

    def committed(self, group: str, topic: Topic) -> dict[int, int]:
        """Offsets of a group; partitions without one are absent.

        Raises:
            LogUnavailableError: The broker did not answer in time.
        """
        from confluent_kafka import TopicPartition

        deadline = Deadline(self._timeout)
        places = [TopicPartition(topic.name, partition) for partition in range(topic.partitions)]

        def attempt() -> dict[int, int]:
            found = self._member(group).committed(places, timeout=deadline.remaining())
            for place in found:
                if place.error is not None:
                    raise PassingError(place.error.str())
            return {place.partition: place.offset for place in found if place.offset >= 0}

        with self._lock:
            return call_kafka(attempt, deadline, self._address.bootstrap)
