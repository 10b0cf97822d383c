"""What the memory tiers did, published to the event log in batches.

Belongs here: turning the logs of a store into events. Does not: counting (`aura.tiers`), or what follows from it
(the `sensors` package).
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from aura.events.errors import EventError
from aura.events.event import Event, new_event
from aura.events.log import EventLog
from aura.tiers.errors import StoreError
from aura.tiers.records import Access, Operation, Tier
from aura.tiers.store import TieredStore

logger = logging.getLogger(__name__)

TOPIC = "memory.operations"
KIND = "memory.operations.counted"

OPERATIONS = {
    Operation.PUT: "puts",
    Operation.DELETE: "deletes",
    Operation.PROMOTION: "promotions",
    Operation.DEMOTION: "demotions",
}
"""What is published besides reads, by its name in the event."""

KEYS_IN_AN_EVENT = 500
"""Rows of one event; with keys of a hundred characters it stays below 100 KiB."""


class OperationsPublisher:
    """Publishes what was done to each object since the last time.

    Reads count for the tier that the object lives in now; puts, promotions and demotions for the tier where they ended,
    and deletes for L3.
    """

    def __init__(
        self,
        store: TieredStore,
        open_log: Callable[[], EventLog],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Begin to count at the present end of the logs.

        Args:
            store: The store that is watched, as its owner or a client.
            open_log: Opens the log that the counts go to; it is closed after each use.
            clock: The time, with its zone.
        """
        self._store = store
        self._open_log = open_log
        self._clock = clock
        self._published = store.access_log().total
        self._published_operations = store.operations().total
        self._since = clock()

    def publish(self) -> int:
        """Publish what was done since the last time.

        What fell off the old end of a log meanwhile is missing from the counts, as are the reads of an object that is
        deleted by now. Where nothing happened, the store is asked for nothing but how much did.

        Returns:
            The number of operations, reads included, that were published; 0 publishes nothing.

        Raises:
            StoreError: The store failed.
            EventError: The log refused the events; they are published with the next ones.
        """
        done = self._store.operations(self._published_operations)
        now = self._clock()
        if (done.total, done.reads) == (self._published_operations, self._published):
            self._since = now
            return 0
        access = self._store.access_log()
        fresh = access.ids[len(access.ids) - min(access.total - self._published, len(access.ids)) :]
        tiers = {entry.key: entry.tier for entry in self._store.entries()}
        counted: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(lambda: {"gets": 0})
        for number, count in _counts(fresh):
            key = _key(access, number)
            if key in tiers:
                counted[key, tiers[key]]["gets"] += count
        for operation, name in OPERATIONS.items():
            for tier_number, tier in enumerate(Tier):
                rows = done.rows[(done.rows[:, 1] == operation) & (done.rows[:, 2] == tier_number), 0]
                for number, count in _counts(rows):
                    key = done.deleted.get(number) or _key(access, number)
                    if key:
                        row = counted[key, tier]  # several ids may have had this key
                        row[name] = row.get(name, 0) + count
        counts: list[dict[str, object]] = [{"key": key, "tier": tier, **row} for (key, tier), row in counted.items()]
        if counts:
            with closing(self._open_log()) as log:
                log.publish(TOPIC, self._events(counts, now))
        self._published, self._published_operations, self._since = access.total, done.total, now
        return sum(sum(row.values()) for row in counted.values())

    def run(self, stop: threading.Event, every_seconds: float) -> None:
        """Publish every so often until told to stop; what goes wrong is logged and tried again the next time."""
        while not stop.wait(every_seconds):
            try:
                self.publish()
            except (EventError, StoreError) as error:
                logger.warning("The operations of the tiers are not published: %s", error)

    def _events(self, counts: list[dict[str, object]], now: datetime) -> list[Event]:
        return [
            new_event(
                KIND,
                {
                    "started": self._since.isoformat(),
                    "ended": now.isoformat(),
                    "counts": counts[start : start + KEYS_IN_AN_EVENT],
                },
                source=str(self._store.directory),
                key=str(self._store.directory),
            )
            for start in range(0, len(counts), KEYS_IN_AN_EVENT)
        ]


def _counts(ids: NDArray[np.int32] | NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Each id, and how often it occurs."""
    found, counts = np.unique(ids, return_counts=True)
    return zip(found.tolist(), counts.tolist(), strict=True)


def _key(access: Access, number: int) -> str:
    """The key of an id; nothing for one that is deleted, or that was given after the keys were read."""
    return access.keys[number] if number < len(access.keys) else ""
