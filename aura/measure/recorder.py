"""What is kept of a materialization's cost, and the port to whatever keeps it.

Belongs here: the record and the protocol. Does not: a particular store (see `aura.measure.mlflow_recorder`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from aura.measure.cost import Cost

# The letters that MLflow allows in the name of a metric or parameter.
_NAME = re.compile(r"[\w\-. :/]{1,250}")
_MAX_TAGS = 100


class RecordError(ValueError):
    """A record that no store could keep."""


@dataclass(frozen=True)
class Record:
    """One materialization and its cost.

    Attributes:
        subject: The asset's name.
        partition: Its partition, None without partitions.
        run_id: The orchestrator's run.
        group: The asset's group.
        code_version: Version of the code that made it, None if unknown.
        cost: What it cost.
        figures: Further figures of the materialization by name, finite.
        tags: What it was made with, by name; at most 100.
        succeeded: False if the body raised.
        reused: True if nothing was computed because nothing had changed.

    Raises:
        RecordError: If a name, a figure or the number of tags is out of bounds.
    """

    subject: str
    partition: str | None
    run_id: str
    group: str
    code_version: str | None
    cost: Cost
    figures: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    succeeded: bool = True
    reused: bool = False

    def __post_init__(self) -> None:
        for name in (*self.figures, *self.tags):
            if not _NAME.fullmatch(name):
                raise RecordError(
                    f"{self.subject}: {name!r} is no name of a figure or tag; "
                    "use up to 250 letters, digits, underscores, dashes, dots, spaces, colons and slashes"
                )
        for name, figure in self.figures.items():
            if not math.isfinite(figure):
                raise RecordError(f"{self.subject}: the figure {name!r} is {figure}; leave it out where there is none")
        if len(self.tags) > _MAX_TAGS:
            raise RecordError(f"{self.subject}: {len(self.tags)} tags, at most {_MAX_TAGS}")


class Recorder(Protocol):
    """Keeps records."""

    def record(self, record: Record) -> str | None:
        """Keep a record.

        Args:
            record: The materialization.

        Returns:
            A reference to it in the store; None if the store did not take it, which the recorder logs.
        """
        ...
