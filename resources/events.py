"""The event log of this deployment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aura.events.log import EventLog
from aura.events.opening import open_event_log
from aura.settings import Settings


@dataclass(frozen=True)
class Events:
    """Opens the log when it is needed: most runs need none, and must not fail because a broker is down."""

    settings: Settings

    @property
    def place(self) -> str:
        """Which log it is; offsets mean nothing on another one."""
        return self.settings.events.kafka or str(self.settings.event_log_file)

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
