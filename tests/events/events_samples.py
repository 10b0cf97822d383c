"""Topics of a test's own, and events for them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from aura.events.event import new_event
from aura.events.topics import Topic, TopicRegistry

START = datetime(2026, 1, 5, 10, tzinfo=UTC)


def own_topic(partitions=3, retention=timedelta(days=3650), types=("corpus.items.changed",)):
    """A topic that no other test knows, and a registry with it."""
    topic = Topic(f"test.{uuid.uuid4().hex[:12]}", partitions, retention, types)
    return topic, TopicRegistry([topic])


def corpus_event(key, number, *, seconds=0.0, source="tests", **more):
    """The event `number` of a key; its time is `seconds` after START."""
    return new_event(
        "corpus.items.changed",
        {"source": key, "changed": [f"{key}-{number}"], "removed": []},
        source=source,
        key=key,
        id=f"{key}-{number}",
        time=START + timedelta(seconds=seconds),
        **more,
    )


def number_of(record):
    """The number that `corpus_event` was given."""
    return int(record.event.id.rpartition("-")[2])


def read_all(log, topic, start=None):
    """Every record and every poison of a topic, partition after partition."""
    records, poison = [], []
    begins = start or log.begin_offsets(topic)
    for partition, first in begins.items():
        position = first
        while True:
            batch = log.read(topic, partition, position, limit=500)
            records += batch.records
            poison += batch.poison
            if batch.next_offset == position:
                break
            position = batch.next_offset
    return records, poison
