"""The checker: compares what was acknowledged with what the log and the effects hold. Knows nothing of any crash."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aura.events.errors import OffsetExpiredError
from aura.events.log import EventLog
from events_crash.bugs import number_of
from events_crash.plan import KEYS, acknowledged

Sighting = tuple[str, str, int]
"""Producer, key, number."""


@dataclass(frozen=True)
class Verdict:
    """What was found; every count but the first three should be 0.

    Attributes:
        acknowledged: Events that were acknowledged.
        in_log: Records in the log, repeated ones included.
        effects: Effects.
        lost: Acknowledged events that are not in the log.
        without_effect: Acknowledged events that had no effect.
        duplicates: Effects beyond the first of an event.
        disordered: Effects that came before that of an earlier event of their key.
        unplanned: Effects of events that nobody published.
    """

    acknowledged: int
    in_log: int
    effects: int
    lost: int
    without_effect: int
    duplicates: int
    disordered: int
    unplanned: int

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.without_effect or self.duplicates or self.disordered or self.unplanned)


def acknowledged_by_producer(folder: Path) -> dict[str, int]:
    """How many events of each producer were acknowledged."""
    return {path.stem: acknowledged(path) for path in sorted(folder.glob("*.acknowledged"))}


def in_log(log: EventLog, topic: str) -> list[Sighting]:
    """What the log holds, partition after partition."""
    found = []
    for partition, begin in log.begin_offsets(topic).items():
        position = begin
        while True:
            try:
                batch = log.read(topic, partition, position, limit=5000)
            except OffsetExpiredError as error:
                position = error.begin
                continue
            found += [(record.event.source, record.key, number_of(record)) for record in batch.records]
            if batch.next_offset == position:
                break
            position = batch.next_offset
    return found


def in_effects(path: Path) -> list[Sighting]:
    """The effects in the order in which they were made."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT producer, key, number FROM effect ORDER BY id").fetchall()
    finally:
        connection.close()


def check(acked: Mapping[str, int], logged: Iterable[Sighting], effects: Iterable[Sighting]) -> Verdict:
    """Compare."""
    logged, effects = list(logged), list(effects)
    wanted = {(producer, number) for producer, count in acked.items() for number in range(count)}
    seen = Counter((producer, number) for producer, _, number in effects)
    highest: dict[str, int] = defaultdict(lambda: -1)
    disordered = unplanned = 0
    for producer, key, number in effects:
        disordered += number < highest[key]
        highest[key] = max(highest[key], number)
        unplanned += producer not in acked or key != f"{producer}/{number % KEYS}"
    return Verdict(
        acknowledged=len(wanted),
        in_log=len(logged),
        effects=len(effects),
        lost=len(wanted - {(producer, number) for producer, _, number in logged}),
        without_effect=len(wanted - seen.keys()),
        duplicates=sum(seen.values()) - len(seen),
        disordered=disordered,
        unplanned=unplanned,
    )
