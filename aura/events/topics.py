"""The topics: how many partitions each has, how long it keeps records, which event types it takes.

Belongs here: the registry and the mapping from a key to a partition, which is Kafka's. Does not: the schemas' text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from types import MappingProxyType

from aura.events.errors import UnknownTopicError

DEAD = ".dead"
DEAD_LETTER = "dead.letter"
KEPT_KEYS = 65_536
"""Keys whose hash is remembered; hashing one costs some microseconds in Python."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic.

    Attributes:
        name: Its name, the same on every adapter.
        partitions: Number of partitions; keys are spread over them.
        retention: Records older than this may be deleted.
        types: Event types that may be published to it.
    """

    name: str
    partitions: int
    retention: timedelta
    types: tuple[str, ...]

    @property
    def dead(self) -> Topic:
        """The topic that takes what could not be processed."""
        return Topic(self.name + DEAD, 1, max(self.retention, timedelta(days=30)), (DEAD_LETTER,))

    def partition_of(self, key: str) -> int:
        """Partition of a key: murmur2 as in Kafka's Java client."""
        return (_murmur2(key.encode()) & 0x7FFFFFFF) % self.partitions


class TopicRegistry:
    """Topics by name, each with its topic of dead letters."""

    def __init__(self, topics: Iterable[Topic]) -> None:
        chosen = tuple(topics)
        self._topics: Mapping[str, Topic] = MappingProxyType({t.name: t for own in chosen for t in (own, own.dead)})

    def get(self, name: str) -> Topic:
        """Return the topic.

        Raises:
            UnknownTopicError: There is none of this name.
        """
        topic = self._topics.get(name)
        if topic is None:
            raise UnknownTopicError(f"There is no topic {name!r}. The topics are: {', '.join(self._topics)}.")
        return topic

    def all(self) -> tuple[Topic, ...]:
        """Every topic, dead letters included."""
        return tuple(self._topics.values())


TOPICS = TopicRegistry(
    (
        Topic("corpus.items", 6, timedelta(days=30), ("corpus.items.changed",)),
        Topic("memory.operations", 1, timedelta(days=7), ("memory.operations.counted",)),
        Topic("expert.requests", 6, timedelta(days=7), ("expert.requests.routed",)),
        Topic("component.health", 6, timedelta(days=7), ("component.health.observed",)),
        Topic("neural.spikes", 6, timedelta(days=2), ("neural.spikes.counted",)),
        Topic("council.decisions", 1, timedelta(days=365), ("council.decisions.made",)),
        Topic("drift", 1, timedelta(days=365), ("drift.detected",)),
        Topic("alerts", 1, timedelta(days=90), ("alerts.raised", "alerts.resolved")),
    )
)


@lru_cache(maxsize=KEPT_KEYS)
def _murmur2(data: bytes) -> int:
    """32-bit murmur2 with Kafka's seed (org.apache.kafka.common.utils.Utils.murmur2), unsigned."""
    length, m, mask = len(data), 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ length
    for start in range(0, length - 3, 4):
        k = int.from_bytes(data[start : start + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    rest = data[length & ~3 :]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
