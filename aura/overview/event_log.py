"""What is in the event log: topics, who is how far behind, the latest records, dead letters.

Belongs here: reading the log without changing it, or making one where there is none. Does not: the log, drawing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

from aura.events.errors import LogUnavailableError
from aura.events.event import Poison, Record, in_utc, moment_at
from aura.events.groups import GROUPS
from aura.events.log import EventLog
from aura.events.opening import open_event_log
from aura.events.topics import DEAD
from aura.settings import Settings

ALERTS, DRIFT = "alerts", "drift"
"""Topics that somebody should look at."""

_File: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class TopicFigures:
    """One topic now.

    Attributes:
        name: Its name.
        partitions: Number of partitions.
        retention: Older records may be deleted.
        records: Records that are kept.
        published: Records that were ever published, by the offsets.
        dead: Records in its topic of dead letters.
        latest_at: Time of the latest event, None where there is none.
        lag: Records that each group has not committed, of the groups that ever did.
    """

    name: str
    partitions: int
    retention: timedelta
    records: int
    published: int
    dead: int
    latest_at: datetime | None
    lag: Mapping[str, int]


@dataclass(frozen=True)
class TailRecord:
    """One record of a topic, for people.

    Attributes:
        partition: Where it is.
        offset: Its place there.
        time: When it happened, in UTC.
        key: Its key.
        kind: Its event type; "(undecodable)" for one that cannot be read.
        data: The payload, or the reason why there is none.
    """

    partition: int
    offset: int
    time: datetime
    key: str
    kind: str
    data: Mapping[str, Any] | str


class EventView:
    """Looks into one event log. Thread-safe: one look at a time."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is opened yet."""
        self._settings = settings
        self._lock = threading.Lock()
        self._opened: tuple[EventLog, _File | None] | None = None

    def topics(self) -> tuple[TopicFigures, ...]:
        """Every topic but those of dead letters, in the order of the registry.

        Raises:
            EventError: The log does not answer, or there is none yet; the message has the remedy.
        """
        with self._lock:
            log = self._log()
            return tuple(_figures(log, topic.name) for topic in log.registry.all() if not topic.name.endswith(DEAD))

    def tail(self, topic: str, count: int) -> list[TailRecord]:
        """The latest records of a topic, the newest first.

        Raises:
            EventError: As in `topics`.
        """
        with self._lock:
            return _tail(self._log(), topic, count)

    def close(self) -> None:
        """Hang up; the next look opens the log again."""
        with self._lock:
            self._hang_up()

    def exists(self) -> bool:
        """Whether there is a log to look into: a broker that is configured, or the file that the first event makes."""
        return self._settings.events.kafka is not None or self._settings.event_log_file.is_file()

    def _log(self) -> EventLog:
        """The log, opened when it was not, or when its file is another one than then."""
        settings = self._settings
        if not self.exists():
            self._hang_up()
            raise LogUnavailableError(
                f"There is no event log in {settings.home} yet. The first event makes it: run `make up`, or "
                "`aura events publish`."
            )
        file = None if settings.events.kafka is not None else _file(settings.event_log_file)
        if self._opened is None or self._opened[1] != file:
            self._hang_up()
            self._opened = (open_event_log(settings), file)
        return self._opened[0]

    def _hang_up(self) -> None:
        if self._opened is not None:
            self._opened[0].close()
            self._opened = None


def _file(path: Path) -> _File | None:
    """What tells a file from one that was made later under its name; open files keep their numbers to themselves."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino)


def _tail(log: EventLog, topic: str, count: int) -> list[TailRecord]:
    found: list[TailRecord] = []
    begins = log.begin_offsets(topic)
    for partition, end in log.end_offsets(topic).items():
        batch = log.read(topic, partition, max(begins[partition], end - count), end, limit=count)
        found += [*map(_record, batch.records), *map(_poison, batch.poison)]
    return sorted(found, key=lambda each: (each.time, each.offset), reverse=True)[:count]


def _figures(log: EventLog, name: str) -> TopicFigures:
    topic = log.registry.get(name)
    begins, ends = log.begin_offsets(name), log.end_offsets(name)
    latest = _tail(log, name, 1) if sum(ends.values()) > sum(begins.values()) else []
    dead_begins, dead_ends = log.begin_offsets(topic.dead.name), log.end_offsets(topic.dead.name)
    return TopicFigures(
        name=name,
        partitions=topic.partitions,
        retention=topic.retention,
        records=sum(ends.values()) - sum(begins.values()),
        published=sum(ends.values()),
        dead=sum(dead_ends.values()) - sum(dead_begins.values()),
        latest_at=latest[0].time if latest else None,
        lag={group: sum(log.lag(group, name).values()) for group in GROUPS if log.committed(group, name)},
    )


def _record(record: Record) -> TailRecord:
    event = record.event
    return TailRecord(record.partition, record.offset, in_utc(event.time), record.key, event.type, dict(event.data))


def _poison(poison: Poison) -> TailRecord:
    key = (poison.key or b"").decode(errors="replace")
    return TailRecord(poison.partition, poison.offset, moment_at(poison.timestamp), key, "(undecodable)", poison.reason)
