"""What the tiers held and what reading cost, placement after placement.

Belongs here: the record that each placement takes over from the one before and extends. Does not: planning
(`plan.py`), drawing it (`plots.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from aura.tiers.records import Tier

KEPT = 365
"""Placements that are remembered: a year of one a day."""

HISTORY = pa.schema(
    [
        ("at", pa.timestamp("us", tz="UTC")),
        *((f"{tier}_bytes", pa.int64()) for tier in Tier),
        ("accesses", pa.int64()),
        ("cost_before_seconds", pa.float64()),
        ("cost_seconds", pa.float64()),
        ("lower_bound_seconds", pa.float64()),
        ("measured_mean_seconds", pa.float64()),
        ("predicted_mean_seconds", pa.float64()),
    ]
)
"""One row a placement, oldest first. Bytes are those that each tier held after it, null for a tier that the store did
not have; costs are those of the horizon, the last access counts of the log, null means where nothing was replayed."""


@dataclass(frozen=True)
class Moment:
    """One placement in the history; see `HISTORY`."""

    at: datetime
    held: Mapping[Tier, int]
    accesses: int
    cost_before_seconds: float
    cost_seconds: float
    lower_bound_seconds: float
    measured_mean_seconds: float | None
    predicted_mean_seconds: float | None


def extended(history: pa.Table | None, moment: Moment) -> pa.Table:
    """The history with one more placement, of which the oldest are forgotten beyond `KEPT`.

    Args:
        history: Table with the schema `HISTORY`; None for the first placement.
        moment: What to add.
    """
    row = {f"{tier}_bytes": moment.held.get(tier) for tier in Tier}
    row |= {name: getattr(moment, name) for name in HISTORY.names if not name.endswith("_bytes")}
    latest = pa.Table.from_pylist([row], schema=HISTORY)
    everything = latest if history is None else pa.concat_tables([history, latest])
    return everything.slice(max(0, everything.num_rows - KEPT)).combine_chunks()
