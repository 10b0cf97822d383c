"""What the memory tiers did, published to the event log in batches.

Belongs here: turning the access log of a store into events. Does not: counting (`aura.tiers`), or what follows from it
(the `sensors` package).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

import numpy as np

from aura.events.errors import EventError
from aura.events.event import Event, new_event
from aura.events.log import EventLog
from aura.tiers.errors import StoreError
from aura.tiers.store import TieredStore

logger = logging.getLogger(__name__)

TOPIC = "memory.operations"
KIND = "memory.operations.counted"

KEYS_IN_AN_EVENT = 500
"""Rows of one event; with keys of a hundred characters it stays below 100 KiB."""


class OperationsPublisher:
    """Publishes how often each object was read since the last time, with the tier that it lives in."""

    def __init__(
        self,
        store: TieredStore,
        open_log: Callable[[], EventLog],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Begin to count at the present end of the access log.

        Args:
            store: The store that is watched, as its owner or a client.
            open_log: Opens the log that the counts go to; it is closed after each use.
            clock: The time, with its zone.
        """
        self._store = store
        self._open_log = open_log
        self._clock = clock
        self._published = store.access_log().total
        self._since = clock()

    def publish(self) -> int:
        """Publish what was read since the last time.

        Accesses that fell off the old end of the access log meanwhile are missing from the counts.

        Returns:
            The number of accesses that were published; 0 publishes nothing.

        Raises:
            StoreError: The store failed.
            EventError: The log refused the events; they are published with the next ones.
        """
        access = self._store.access_log()
        fresh = access.ids[len(access.ids) - min(access.total - self._published, len(access.ids)) :]
        tiers = {entry.key: entry.tier for entry in self._store.entries()}
        ids, gets = np.unique(fresh, return_counts=True)
        counts = [
            {"key": key, "tier": str(tiers[key]), "gets": int(number)}
            for key, number in zip((access.keys[each] for each in ids), gets, strict=True)
            if key in tiers
        ]
        now = self._clock()
        if counts:
            with closing(self._open_log()) as log:
                log.publish(TOPIC, self._events(counts, now))
        self._published, self._since = access.total, now
        return sum(row["gets"] for row in counts)

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
