"""Costs over time as a Vega-Lite specification.

Belongs here: which figures can be drawn, and the chart of one. Does not: reading costs, Streamlit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate, pairwise
from typing import Protocol, TypeAlias, TypeVar

from aura.measure.energy import EnergySource
from aura.measure.history import MaterializationCost
from aura.overview.costs import outcome
from aura.overview.machine import GAP_SECONDS, Load
from aura.overview.stored import TierRates

Spec: TypeAlias = dict[str, object]


@dataclass(frozen=True)
class Figure:
    """One cost that can be drawn over time.

    Attributes:
        title: With its unit.
        of: The value of a run; None if the run has none.
    """

    title: str
    of: Callable[[MaterializationCost], float | None]


def _joules_from(source: EnergySource) -> Callable[[MaterializationCost], float | None]:
    return lambda run: run.joules if run.energy_source == source else None


FIGURES = (
    Figure("wall time, s", lambda run: run.wall_seconds),
    Figure("CPU time, s", lambda run: run.cpu_seconds),
    Figure("peak memory, MiB", lambda run: run.peak_memory_mib),
    Figure("energy measured, J", _joules_from("measured")),
    Figure("energy modelled, J", _joules_from("modelled")),
)
"""Measured and modelled joules are two figures, so that no chart mixes them."""

_SHAPES = {"made": "circle", "reused": "triangle-up", "refused": "square", "failed": "cross"}
_MARGIN = timedelta(minutes=5)
_GAP = timedelta(seconds=GAP_SECONDS)


def figures_of(runs: Sequence[MaterializationCost]) -> list[Figure]:
    """The figures that at least one of these runs has."""
    return [figure for figure in FIGURES if any(figure.of(run) is not None for run in runs)]


def cost_chart(runs: Sequence[MaterializationCost], figure: Figure) -> Spec:
    """One point per materialization, connected by partition; its shape is the outcome.

    Returns:
        A Vega-Lite specification with its data in it; colours of text and ground are the page's.
    """
    points = [
        {
            "started": run.started_at.isoformat(),
            "value": value,
            "partition": run.partition or "no partition",
            "outcome": outcome(run),
            "run": run.run_id,
        }
        for run in runs
        if (value := figure.of(run)) is not None
    ]
    partitions = {point["partition"] for point in points}
    shapes = {name: shape for name, shape in _SHAPES.items() if any(point["outcome"] == name for point in points)}
    colour = {
        "field": "partition",
        "type": "nominal",
        "title": None,
        "legend": {"orient": "top"} if len(partitions) > 1 else None,
    }
    # With room on both sides, or a single point would have an axis of milliseconds.
    ends = [min(run.started_at for run in runs) - _MARGIN, max(run.started_at for run in runs) + _MARGIN]
    scale = {"domain": [end.isoformat() for end in ends]}
    written = "%H:%M" if ends[1] - ends[0] < timedelta(days=2) else "%Y-%m-%d"
    axis = {"labelOverlap": True, "tickCount": 4, "format": written}
    x = {"field": "started", "type": "temporal", "title": None, "axis": axis, "scale": scale}
    y = {"field": "value", "type": "quantitative", "title": figure.title, "scale": {"zero": True}}
    shape = {
        "field": "outcome",
        "type": "nominal",
        "title": None,
        "scale": {"domain": list(shapes), "range": list(shapes.values())},
        "legend": {"orient": "top"} if len(shapes) > 1 else None,
    }
    tooltip = [
        {"field": "started", "type": "temporal", "format": "%Y-%m-%d %H:%M:%S"},
        {"field": "value", "type": "quantitative", "title": figure.title, "format": ",.3~f"},
        {"field": "partition", "type": "nominal"},
        {"field": "outcome", "type": "nominal"},
        {"field": "run", "type": "nominal", "title": "Dagster run"},
    ]
    return {
        "data": {"values": points},
        "height": 260,
        "encoding": {"x": x, "y": y, "color": colour},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.5}},
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {"shape": shape, "tooltip": tooltip},
            },
        ],
    }


class Taken(Protocol):
    """What was taken at a moment."""

    @property
    def taken_at(self) -> datetime:
        """In UTC."""
        ...


Point = TypeVar("Point", bound=Taken)
Line: TypeAlias = tuple[str, Callable[[Point], float | None]]
"""Name of a line, and its value at a point; None where it has none."""

MIB, GIB = 2**20, 2**30

POINTS = 300
"""A line has at most about so many points: more than a chart has pixels cost the visitor's line and this core."""


def load_charts(samples: Sequence[Load]) -> list[Spec]:
    """Processor, memory, disk and network over time, one chart each."""

    def rate(value: float | None) -> float | None:
        return None if value is None else value / MIB

    return [
        line_chart("processor, %", samples, [("busy", lambda load: 100 * load.processor)]),
        line_chart("memory, GiB", samples, [("used", lambda load: load.memory_used_bytes / GIB)]),
        line_chart(
            "disk, MiB/s",
            samples,
            [("read", lambda load: rate(load.disk_read_rate)), ("written", lambda load: rate(load.disk_write_rate))],
        ),
        line_chart(
            "network, MiB/s",
            samples,
            [("in", lambda load: rate(load.network_in_rate)), ("out", lambda load: rate(load.network_out_rate))],
        ),
    ]


def tier_charts(rates: Sequence[TierRates]) -> list[Spec]:
    """Gets, hit ratio and moves of the tiers over time, one chart each."""
    return [
        line_chart("gets a second", rates, [("gets", lambda rate: rate.gets / rate.seconds)]),
        line_chart(
            "hit ratio, %",
            rates,
            [("above the disk", lambda rate: None if rate.hit_ratio is None else 100 * rate.hit_ratio)],
        ),
        line_chart(
            "moves a second",
            rates,
            [
                ("promotions", lambda rate: rate.promotions / rate.seconds),
                ("demotions", lambda rate: rate.demotions / rate.seconds),
            ],
        ),
    ]


def line_chart(title: str, samples: Sequence[Point], lines: Sequence[Line[Point]]) -> Spec:
    """Lines over time, a colour each; broken where nobody has looked for `GAP_SECONDS`.

    Args:
        title: Of the vertical axis, with the unit.
        samples: With the moment that each was taken at, the oldest first.
        lines: What is drawn.

    Returns:
        A Vega-Lite specification with its data in it.
    """
    gaps = (later.taken_at - earlier.taken_at > _GAP for earlier, later in pairwise(samples))
    stretches = list(zip(samples, accumulate(gaps, initial=0), strict=False))
    points = [
        {"at": sample.taken_at.isoformat(), "value": value, "what": name, "stretch": stretch}
        for name, of in lines
        for sample, stretch in stretches[:: -(-len(samples) // POINTS) or 1]
        if (value := of(sample)) is not None
    ]
    # A line of one point would not be seen.
    alone = any(count == 1 for count in Counter((point["what"], point["stretch"]) for point in points).values())
    legend = {"orient": "top"} if len(lines) > 1 else None
    scale = {"zero": True, **({"domainMax": 1} if all(point["value"] == 0 for point in points) else {})}
    return {
        "data": {"values": points},
        "height": 160,
        "mark": {"type": "line", "strokeWidth": 1.5, "point": alone},
        "encoding": {
            "x": {"field": "at", "type": "temporal", "title": None, "axis": {"tickCount": 4, "format": "%H:%M:%S"}},
            "y": {"field": "value", "type": "quantitative", "title": title, "scale": scale},
            "color": {"field": "what", "type": "nominal", "title": None, "legend": legend},
            "detail": {"field": "stretch", "type": "nominal"},
        },
    }
