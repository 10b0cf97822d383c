"""Where long work shows how far it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import dagster as dg
from pydantic import Field

Report = Callable[[int, int], None]
"""Called with (done, total)."""

Progress = Callable[[str], Report]
"""Gives the report for a piece of work by its name."""


class LogProgress(dg.ConfigurableResource[Progress]):
    """Writes a line to the run's log now and then; silent for work that is over sooner."""

    every_seconds: float = Field(5.0, description="At most one line in this time.")

    def create_resource(self, context: dg.InitResourceContext) -> Progress:
        """Hand out reports that write to the run's log."""
        log: logging.Logger = context.log or logging.getLogger(__name__)

        def progress(name: str) -> Report:
            last = time.monotonic()

            def report(done: int, total: int) -> None:
                nonlocal last
                if time.monotonic() - last >= self.every_seconds:
                    last = time.monotonic()
                    log.info("%s: %d of %d", name, done, total)

            return report

        return progress
