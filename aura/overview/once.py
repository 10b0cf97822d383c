"""The state of a project once: printed, or as plain values.

Belongs here: what `aura top --once` and `aura top --json` say. Does not: the live screen (`top`).
"""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from aura.overview.assets import AssetRow
from aura.overview.event_log import TopicFigures
from aura.overview.machine import Load
from aura.overview.panels import absence, assets_panel, events_panel, machine_panel, tiers_panel
from aura.overview.stored import TierFigures
from aura.overview.top import Sources

PATIENCE_SECONDS = 120.0
"""The first reading of the costs imports MLflow."""
LOAD_SECONDS = 0.5
"""How long the load of the machine is measured."""


def print_once(sources: Sources, console: Console) -> None:
    """Print the panels; for what is not there, the remedy."""
    now = datetime.now(UTC)
    console.rule("machine", align="left")
    load = _load(sources)
    console.print(machine_panel(load, [load], 1))
    tiers = sources.tiers.latest(max_age_seconds=0, patience_seconds=PATIENCE_SECONDS)
    console.rule("tiers", align="left")
    console.print(Text(absence(tiers) or "") if tiers.value is None else tiers_panel(tiers.value))
    topics = sources.topics.latest(max_age_seconds=0, patience_seconds=PATIENCE_SECONDS)
    console.rule("events", align="left")
    console.print(Text(absence(topics) or "") if topics.value is None else events_panel(topics.value, now))
    rows = sources.assets(PATIENCE_SECONDS)
    costs = sources.costs.latest(max_age_seconds=PATIENCE_SECONDS, patience_seconds=0)
    console.rule("assets", align="left")
    console.print(Text(absence(costs) or "") if costs.value is None else assets_panel(rows, now))


def as_object(sources: Sources) -> dict[str, Any]:
    """The state as JSON values; what is not there is null, with the reason under `errors`."""
    now = datetime.now(UTC)
    load = _load(sources)
    rows = sources.assets(PATIENCE_SECONDS)
    tiers = sources.tiers.latest(max_age_seconds=0, patience_seconds=PATIENCE_SECONDS)
    topics = sources.topics.latest(max_age_seconds=0, patience_seconds=PATIENCE_SECONDS)
    costs = sources.costs.latest(max_age_seconds=PATIENCE_SECONDS, patience_seconds=0)
    values = sources.latest_values(0)
    readings = {"tiers": tiers, "events": topics, "costs": costs, "values": values}
    return {
        "at": now.isoformat(),
        "machine": {**asdict(load), "taken_at": load.taken_at.isoformat()},
        "tiers": None if tiers.value is None else [_tier(each) for each in tiers.value],
        "events": None if topics.value is None else [_topic(each) for each in topics.value],
        "assets": [_asset(row, now) for row in rows],
        "errors": {name: reason for name, reading in readings.items() if (reason := absence(reading)) is not None},
    }


def _load(sources: Sources) -> Load:
    while (load := sources.machine.sample(LOAD_SECONDS)) is None:
        time.sleep(LOAD_SECONDS)
    return load


def _tier(figures: TierFigures) -> dict[str, Any]:
    return {**asdict(figures.state), "tier": str(figures.state.tier)}


def _topic(topic: TopicFigures) -> dict[str, Any]:
    latest = None if topic.latest_at is None else topic.latest_at.isoformat()
    return {**asdict(topic), "retention": topic.retention.total_seconds(), "latest_at": latest, "lag": dict(topic.lag)}


def _asset(row: AssetRow, now: datetime) -> dict[str, Any]:
    cost = row.computed
    return {
        "asset": row.asset,
        "partition": row.partition,
        "group": row.group,
        "freshness": str(row.freshness(now)),
        "succeeded_at": None if row.succeeded_at is None else row.succeeded_at.isoformat(),
        "setback": row.setback,
        "wall_seconds": None if cost is None else cost.wall_seconds,
        "cpu_seconds": None if cost is None else cost.cpu_seconds,
        "energy_source": None if cost is None else cost.energy_source,
        "joules": None if cost is None else cost.joules,
        "bytes": None if row.stored is None else row.stored.bytes,
        "checks": dict(row.checks),
    }
