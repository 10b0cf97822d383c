"""The form that all benchmarks share: one object with figures, as JSON or as a table.

Belongs here: the form. Does not: measuring anything.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from aura.tiers.planning.profile import machine_name

PROJECT = Path(__file__).resolve().parents[2]

Figure = dict[str, str | float | bool | list[float] | None]


def figure(
    name: str,
    runs: Sequence[float],
    unit: str,
    *,
    value: float | None = None,
    against: str | None = None,
    goal: float | None = None,
    at_least: bool = False,
) -> Figure:
    """One figure of the report.

    Args:
        name: What it is.
        runs: Its value in every run.
        unit: Its unit.
        value: What the runs come to; None: their median.
        against: What the value is relative to; None for an absolute one.
        goal: The largest value that is good enough; None: there is no goal.
        at_least: The goal is the smallest value instead.
    """
    found = statistics.median(runs) if value is None else value
    holds = None if goal is None else found >= goal if at_least else found <= goal
    return {
        "name": name,
        "value": round(found, 4),
        "unit": unit,
        "against": against,
        "goal": goal,
        "holds": holds,
        "runs": [round(each, 4) for each in runs],
    }


def tell(text: str, _part: float | None = None) -> None:
    """Say on the standard error what is being done, and nothing of how far it has come."""
    print(text, file=sys.stderr, flush=True)


def table(figures: Sequence[Figure]) -> None:
    """Print the figures as a table."""
    from rich.console import Console
    from rich.table import Table

    rows = Table("", "value", "unit", "against", "goal", "holds", "each run", title=machine_name())
    for each in figures:
        goal = "" if each["goal"] is None else f"{each['goal']:g}"
        holds = "" if each["holds"] is None else "yes" if each["holds"] else "no"
        runs = ", ".join(f"{run:g}" for run in each["runs"]) if isinstance(each["runs"], list) else ""
        rows.add_row(
            str(each["name"]), f"{each['value']:g}", str(each["unit"]), str(each["against"] or ""), goal, holds, runs
        )
    Console().print(rows)


def as_json(benchmark: str, figures: Sequence[Figure]) -> None:
    """Print one object with all figures."""
    print(json.dumps({"benchmark": benchmark, "machine": machine_name(), "figures": list(figures)}, indent=1))
