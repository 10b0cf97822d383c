"""Costs over time as a Vega-Lite specification.

Belongs here: which figures can be drawn, and the chart of one. Does not: reading costs, Streamlit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate, groupby, pairwise
from math import ceil
from operator import itemgetter
from typing import Protocol, TypeAlias, TypeVar

from aura.measure.energy import EnergySource
from aura.measure.history import MaterializationCost
from aura.overview.costs import OUTCOMES, outcome
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

_SHAPES = dict(zip(OUTCOMES, ("circle", "triangle-up", "diamond", "square", "cross"), strict=True))
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
    outcomes = {point["outcome"] for point in points}
    shapes = {name: shape for name, shape in _SHAPES.items() if name in outcomes}
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
Line: TypeAlias = tuple[str, Callable[[Sequence[Point]], float | None]]
"""Name of a line, and its value over successive samples, at least one; None where it has none."""

MIB, GIB = 2**20, 2**30

POINTS = 300
"""A line has at most so many points, and one more a gap: more than a chart has pixels cost the visitor and this core.
Samples beyond that are merged, so that nothing that happened between two points is lost."""


def load_charts(samples: Sequence[Load]) -> list[Spec]:
    """Processor, memory, disk and network over time, one chart each.

    Merged samples are drawn at their peak, or short bursts would vanish; the titles say so.
    """
    peaks = " (peaks)" if _merged_at_once(samples) > 1 else ""

    def line(name: str, of: Callable[[Load], float | None], unit: float) -> Line[Load]:
        def peak(merged: Sequence[Load]) -> float | None:
            return max((value / unit for load in merged if (value := of(load)) is not None), default=None)

        return name, peak

    return [
        line_chart(f"processor, %{peaks}", samples, [line("busy", lambda load: load.processor, 0.01)]),
        line_chart(f"memory, GiB{peaks}", samples, [line("used", lambda load: load.memory_used_bytes, GIB)]),
        line_chart(
            f"disk, MiB/s{peaks}",
            samples,
            [
                line("read", lambda load: load.disk_read_rate, MIB),
                line("written", lambda load: load.disk_write_rate, MIB),
            ],
        ),
        line_chart(
            f"network, MiB/s{peaks}",
            samples,
            [line("in", lambda load: load.network_in_rate, MIB), line("out", lambda load: load.network_out_rate, MIB)],
        ),
    ]


def tier_charts(rates: Sequence[TierRates]) -> list[Spec]:
    """Gets, hit ratio, moves and bytes moved over time, one chart each; merged rates are those of all their time."""

    def a_second(of: Callable[[TierRates], int], unit: int = 1) -> Callable[[Sequence[TierRates]], float]:
        return lambda merged: sum(map(of, merged)) / sum(rate.seconds for rate in merged) / unit

    def hit_ratio(merged: Sequence[TierRates]) -> float | None:
        counted = [(rate.hit_ratio * rate.gets, rate.gets) for rate in merged if rate.hit_ratio is not None]
        return 100 * sum(hits for hits, _ in counted) / sum(gets for _, gets in counted) if counted else None

    return [
        line_chart("gets a second", rates, [("gets", a_second(lambda rate: rate.gets))]),
        line_chart("hit ratio, %", rates, [("above the disk", hit_ratio)]),
        line_chart(
            "moves a second",
            rates,
            [
                ("promotions", a_second(lambda rate: rate.promotions)),
                ("demotions", a_second(lambda rate: rate.demotions)),
            ],
        ),
        line_chart("moved, MiB/s", rates, [("moved", a_second(lambda rate: rate.bytes_moved, MIB))]),
    ]


def line_chart(title: str, samples: Sequence[Point], lines: Sequence[Line[Point]]) -> Spec:
    """Lines over time, a colour each; broken where nobody has looked for `GAP_SECONDS`.

    Args:
        title: Of the vertical axis, with the unit.
        samples: With the moment that each was taken at, the oldest first.
        lines: What is drawn; the point of samples that are merged stands where the last of them was taken.

    Returns:
        A Vega-Lite specification with its data in it.
    """
    points = [
        {"at": merged[-1].taken_at.isoformat(), "value": value, "what": name, "stretch": stretch}
        for name, of in lines
        for stretch, merged in _merged(samples)
        if (value := of(merged)) is not None
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


def _merged_at_once(samples: Sequence[Point]) -> int:
    """How many samples a point stands for."""
    return max(1, ceil(len(samples) / POINTS))


def _merged(samples: Sequence[Point]) -> Iterator[tuple[int, Sequence[Point]]]:
    """Successive samples that become one point, none over a gap, with the number of gaps before them."""
    size = _merged_at_once(samples)
    gaps = (later.taken_at - earlier.taken_at > _GAP for earlier, later in pairwise(samples))
    numbered = zip(accumulate(gaps, initial=0), samples, strict=False)
    for stretch, group in groupby(numbered, key=itemgetter(0)):
        looked = [sample for _, sample in group]
        yield from ((stretch, looked[at : at + size]) for at in range(0, len(looked), size))
