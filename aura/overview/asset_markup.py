"""Assets and their materializations as HTML: state, costs, checks, runs.

Belongs here: what the overview says of assets. Does not: what all panels are made of, the other panels (`markup`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from urllib.parse import quote

from aura.measure.history import MaterializationCost
from aura.overview import units
from aura.overview.assets import FRESH_FOR, AssetRow, Freshness
from aura.overview.costs import ended_at, outcome
from aura.overview.markup import Cell, faint, line, link, table, tier_chips, tile
from aura.overview.stored import StoredValue


@dataclass(frozen=True)
class Known:
    """Which sources answered."""

    costs: bool
    store: bool


def overview(rows: Sequence[AssetRow], now: datetime) -> str:
    """The summary over all assets: freshness, what computing everything cost, energy by source.

    Values whose computation is not known, since all that is recorded took them over, have no part in the costs.
    """
    states = [row.freshness(now) for row in rows]
    limited = len(rows) - states.count(Freshness.NEVER) - states.count(Freshness.MADE)
    words = {
        Freshness.LATE: "late",
        Freshness.UNKNOWN: "unknown",
        Freshness.NEVER: "never",
        Freshness.MADE: "made by hand, without a limit",
    }
    others = [f"{states.count(state)} {word}" for state, word in words.items() if state in states]
    made = [row.computed for row in rows if row.computed is not None]
    costs = [cost for cost in made if not cost.reused]
    setbacks = [f"{_named(row)} {row.setback}" for row in rows if row.setback not in {None, "skipped"}]
    failed = [f"{_named(row)}: {name}" for row in rows for name, passed in row.checks.items() if not passed]
    checks = sum(len(row.checks) for row in rows)
    wall, cpu = sum(cost.wall_seconds for cost in costs), sum(cost.cpu_seconds for cost in costs)
    limit = f"limit {units.span(FRESH_FOR)}"
    unknown = [f"not known for {len(made) - len(costs)}"] if len(costs) < len(made) else []
    tiles = [
        tile("fresh", f"{states.count(Freshness.FRESH)} of {limited}", " · ".join([limit, *others, *setbacks])),
        tile("checks passed", f"{checks - len(failed)} of {checks}", ", ".join(failed) or "when last computed"),
        tile(
            "computing it all took",
            units.seconds(wall) if costs else "unknown",
            ", ".join([f"{units.seconds(cpu)} of CPU time"] * bool(costs) + unknown) or "no computation is known",
        ),
        tile("energy of that", *_energies(costs)),
    ]
    return f'<div class="au-tiles">{"".join(tiles)}</div>'


def _named(row: AssetRow) -> str:
    return row.asset if row.partition is None else f"{row.asset} of {row.partition}"


def _energies(costs: Iterable[MaterializationCost]) -> tuple[str, str]:
    totals: dict[str, float] = {}
    without = 0
    for cost in costs:
        if cost.joules is None:
            without += 1
        else:
            totals[cost.energy_source] = totals.get(cost.energy_source, 0.0) + cost.joules
    if not totals:
        return "unavailable", "no counter was read" if without else "no computation is known"
    shown = [f"{units.joules(total)} {source}" for source, total in sorted(totals.items())]
    rest = [*shown[1:], *([f"unavailable for {without}"] if without else [])]
    first, _, source = shown[0].rpartition(" ")
    return first, ", ".join([source, *rest])


def asset_table(rows: Iterable[AssetRow], now: datetime, dagster: str | None, known: Known) -> str:
    """One line per asset; on a narrow screen one card.

    Args:
        rows: The assets of one partition, at least one.
        now: The time that ages count to.
        dagster: Address of the Dagster UI, for links; None without.
        known: Without costs, their columns are left out.
    """
    return table([_cells(row, now, dagster, known) for row in rows])


def _cells(row: AssetRow, now: datetime, dagster: str | None, known: Known) -> list[Cell]:
    name = link(row.asset, dagster and f"{dagster}/assets/{quote(row.asset, safe='')}")
    rows = faint("unknown") if row.rows is None else f"{row.rows:,}"
    return [
        ("asset", name + line(escape(row.group))),
        *(_cost_cells(row, now) if known.costs else []),
        ("rows", rows),
        ("stored", _stored(row.stored, now, store_answers=known.store)),
        *([("checks", _checks(row.checks))] if known.costs else []),
    ]


def _cost_cells(row: AssetRow, now: datetime) -> list[Cell]:
    cost = row.computed
    none = faint("none")
    return [
        ("freshness", _freshness(row, now)),
        ("wall time", _wall(cost, row.reuse, now) if cost else none),
        ("CPU time", units.seconds(cost.cpu_seconds) if cost else none),
        ("peak memory", f"{cost.peak_memory_mib:,.0f} MiB" if cost else none),
        ("energy", _energy(cost) if cost else none),
    ]


def _freshness(row: AssetRow, now: datetime) -> str:
    state = row.freshness(now)
    none = "not materialized yet" if state is Freshness.NEVER else "made by no run that is known"
    when = none if row.succeeded_at is None else units.age(row.succeeded_at, now)
    setback = f'<em class="au-alarm">last run {escape(row.setback)}</em>' if row.setback else ""
    if row.setback == "skipped":
        setback = line("last run skipped: nothing to make")
    reused = line("reused") if row.reuse else ""
    if state is Freshness.MADE:
        when += ", by hand"
    return f'<span class="au-state au-{state}">{state}</span>{line(when)}{reused}{setback}'


def _wall(cost: MaterializationCost, reuse: MaterializationCost | None, now: datetime) -> str:
    reused = line(f"reuse took {units.seconds(reuse.wall_seconds)}") if reuse else ""
    verb = "reused" if cost.reused else "computed"
    return f"{units.seconds(cost.wall_seconds)}{line(f'{verb} {units.age(ended_at(cost), now)}')}{reused}"


def _energy(cost: MaterializationCost) -> str:
    source = escape(cost.energy_source)
    return faint(source) if cost.joules is None else f"{units.joules(cost.joules)}{line(source)}"


def _stored(stored: StoredValue | None, now: datetime, *, store_answers: bool) -> str:
    if stored is None:
        return faint("nothing published" if store_answers else "store not reached")
    published = line(f"published {units.age(stored.published_at, now)}")
    return f"{units.size(stored.bytes)}<span>{tier_chips(stored.tier_bytes)}</span>{published}"


def _checks(checks: Mapping[str, bool]) -> str:
    if not checks:
        return faint("none kept")
    failed = [name for name, passed in checks.items() if not passed]
    words = ", ".join(name.replace("_", " ") for name in failed or checks)
    mark = f'<span class="au-state au-late">{len(failed)} failed</span>' if failed else f"{len(checks)} passed"
    return f"{mark}{line(escape(words))}"


def run_table(runs: Iterable[MaterializationCost], now: datetime, dagster: str | None) -> str:
    """One line per materialization, with its outcome and cost."""
    lines: list[list[Cell]] = []
    for run in runs:
        word = outcome(run)
        state = {"made": "fresh", "reused": "fresh", "skipped": ""}.get(word, "late")
        lines.append(
            [
                ("asset", f"<b>{escape(run.asset)}</b>{line(escape(run.partition or 'whole machine'))}"),
                ("outcome", f'<span class="au-state au-{state}">{escape(word)}</span>'),
                ("ended", units.age(ended_at(run), now)),
                ("wall time", units.seconds(run.wall_seconds)),
                ("CPU time", units.seconds(run.cpu_seconds)),
                ("energy", _energy(run)),
                ("run", link(run.run_id[:8], dagster and f"{dagster}/runs/{quote(run.run_id, safe='')}")),
            ]
        )
    return table(lines)
