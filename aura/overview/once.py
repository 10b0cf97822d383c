"""The state of a project once: printed, or as plain values.

Belongs here: what `aura top --once` and `aura top --json` say. Does not: reading (`sources`), the live screen (`top`).
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from aura.overview.assets import AssetRow
from aura.overview.event_log import TopicFigures
from aura.overview.machine import Load
from aura.overview.panels import absence, assets_panel, events_panel, machine_panel, remarks, tiers_panel
from aura.overview.readings import Reading
from aura.overview.sources import AssetReadings, Sources, absences
from aura.overview.stored import TierFigures
from aura.terminal import Tell

PATIENCE_SECONDS = 120.0
"""Longest wait for each source; the first reading of the costs imports MLflow."""
LOAD_SECONDS = 0.5
"""How long the load of the machine is measured."""


@dataclass(frozen=True)
class Look:
    """What one look at everything has found.

    Attributes:
        at: When it ended, in UTC.
        load: Of the machine.
        tiers: The memory tiers.
        topics: The topics of the event log.
        assets: What is known of the assets.
    """

    at: datetime
    load: Load
    tiers: Reading[tuple[TierFigures, ...]]
    topics: Reading[tuple[TopicFigures, ...]]
    assets: AssetReadings

    @property
    def readings(self) -> dict[str, Reading[object]]:
        """By name."""
        return {"tiers": self.tiers, "events": self.topics, **self.assets.readings}

    @property
    def errors(self) -> dict[str, str]:
        """What is not there, by name, each with the reason and the remedy."""
        return absences({"tiers": self.tiers, "events": self.topics}) | self.assets.errors


def look_at(sources: Sources, tell: Tell) -> Look:
    """Read everything, each source for PATIENCE_SECONDS at most.

    Args:
        sources: What is read.
        tell: Told what is under way.
    """
    tell("Measuring the load ...")
    load = _load(sources)
    tell("Asking the owner of the store ...")
    tiers = sources.tiers.latest(max_age_seconds=0, patience_seconds=PATIENCE_SECONDS)
    tell("Reading the event log ...")
    topics = sources.topics.latest(max_age_seconds=0, patience_seconds=PATIENCE_SECONDS)
    tell("Reading costs and assets ...")
    assets = sources.assets(PATIENCE_SECONDS)
    return Look(datetime.now(UTC), load, tiers, topics, assets)


def print_look(look: Look, console: Console) -> None:
    """Print the panels; for what is not there, the remedy."""
    console.rule("machine", align="left")
    console.print(machine_panel(look.load, [look.load], 1))
    console.rule("tiers", align="left")
    tiers, topics = look.tiers.value, look.topics.value
    console.print(Text(absence(look.tiers) or "") if tiers is None else tiers_panel(tiers))
    console.rule("events", align="left")
    console.print(Text(absence(look.topics) or "") if topics is None else events_panel(topics, look.at))
    console.rule("assets", align="left")
    console.print(*remarks(look.assets.errors), assets_panel(look.assets.rows, look.at), sep="\n")


def as_object(look: Look) -> dict[str, Any]:
    """The state as JSON values; what is not there is null, with the reason under `errors`."""
    tiers, topics = look.tiers.value, look.topics.value
    return {
        "at": look.at.isoformat(),
        "taken_at": {
            name: None if reading.value is None else reading.taken_at.isoformat()
            for name, reading in look.readings.items()
        },
        "machine": {**asdict(look.load), "taken_at": look.load.taken_at.isoformat()},
        "tiers": None if tiers is None else [_tier(each) for each in tiers],
        "events": None if topics is None else [_topic(each) for each in topics],
        "assets": [_asset(row, look.at) for row in look.assets.rows],
        "errors": look.errors,
    }


def _load(sources: Sources) -> Load:
    while (load := sources.machine.sample(LOAD_SECONDS)) is None:
        time.sleep(LOAD_SECONDS)
    return load


def _tier(figures: TierFigures) -> dict[str, Any]:
    known = figures.recent_seconds > 0
    return {
        **asdict(figures.state),
        "tier": str(figures.state.tier),
        "recent_gets": figures.recent_gets if known else None,
        "recent_get_seconds": figures.recent_get_seconds if known else None,
        "recent_seconds": figures.recent_seconds if known else None,
    }


def _topic(topic: TopicFigures) -> dict[str, Any]:
    latest = None if topic.latest_at is None else topic.latest_at.isoformat()
    return {**asdict(topic), "retention": topic.retention.total_seconds(), "latest_at": latest, "lag": dict(topic.lag)}


def _asset(row: AssetRow, now: datetime) -> dict[str, Any]:
    cost, stored = row.computed, row.stored
    return {
        "asset": row.asset,
        "partition": row.partition,
        "group": row.group,
        "freshness": str(row.freshness(now)),
        "succeeded_at": None if row.succeeded_at is None else row.succeeded_at.isoformat(),
        "current_at": None if row.current_at is None else row.current_at.isoformat(),
        "setback": row.setback,
        "rows": row.rows,
        "wall_seconds": None if cost is None else cost.wall_seconds,
        "cpu_seconds": None if cost is None else cost.cpu_seconds,
        "peak_memory_mib": None if cost is None else cost.peak_memory_mib,
        "energy_source": None if cost is None else cost.energy_source,
        "joules": None if cost is None else cost.joules,
        "bytes": None if stored is None else stored.bytes,
        "tier_bytes": None if stored is None else {str(tier): held for tier, held in stored.tier_bytes.items()},
        "checks": dict(row.checks),
    }
