"""Publish events of some keys from a process of its own: LOG TOPIC PARTITIONS KEYS COUNT, LOG a file or host:port."""

import sys
from datetime import timedelta
from pathlib import Path

from events_samples import corpus_event

from aura.events.kafka_calls import KafkaAddress
from aura.events.kafka_log import KafkaEventLog
from aura.events.sqlite_log import SqliteEventLog
from aura.events.topics import Topic, TopicRegistry

place, name, partitions, keys, count = sys.argv[1:]
registry = TopicRegistry([Topic(name, int(partitions), timedelta(days=3650), ("corpus.items.changed",))])
log = (
    SqliteEventLog(Path(place), registry=registry)
    if place.startswith("/")
    else KafkaEventLog(KafkaAddress(place), registry=registry)
)
for number in range(0, int(count), 10):
    for key in keys.split(","):
        log.publish(name, [corpus_event(key, number + more) for more in range(10)])
log.close()
