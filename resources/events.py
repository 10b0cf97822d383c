"""The event log of this deployment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aura.events.buffered import BufferedEventLog
from aura.events.log import EventLog
from aura.events.opening import open_event_log
from aura.resilience.deadline import Deadline
from aura.settings import Settings


@dataclass(frozen=True)
class Events:
    """Opens the log when it is needed: most runs need none, and must not fail because a broker is down."""

    settings: Settings

    @contextmanager
    def open(self) -> Iterator[EventLog]:
        """The log, for as long as the block lasts.

        Raises:
            EventError: It cannot be opened.
        """
        log = open_event_log(self.settings)
        try:
            yield log
        finally:
            log.close()

    def send_waiting(self, seconds: float) -> int:
        """Send what waits for Kafka, for at most this long; returns the number of events that still wait.

        Raises:
            EventError: Kafka does not answer, or the outbox cannot be read.
        """
        with self.open() as log:
            if not isinstance(log, BufferedEventLog):
                return 0
            if log.waiting:
                log.drain(Deadline(seconds))
            return log.waiting
