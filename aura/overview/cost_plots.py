"""What the assets cost, as pictures.

Belongs here: PNG bytes of costs by asset and over time. Does not: reading costs.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aura.measure.history import MaterializationCost
from aura.overview.assets import AssetRow
from aura.overview.costs import CostBook, outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCENT, MUTED = "#4453c4", "#7c8796"
"""Both have a contrast of 3:1 and more to white."""
MOST_BARS = 100
"""Assets and partitions that are drawn side by side; matplotlib draws no picture as high as that of some thousand."""
COLUMNS = 4
DPI = 90


def plot_latest(rows: Iterable[AssetRow]) -> bytes | None:
    """Wall and CPU seconds of what was computed last, one pair of bars an asset and partition.

    Of more than `MOST_BARS`, those that took the most CPU time are drawn, and the title says so.

    Returns:
        A PNG; None where no computation is known.
    """
    costs = [row.computed for row in rows if row.computed is not None and not row.computed.reused]
    if not costs:
        return None
    known, costs = len(costs), _dearest(costs)
    figure = _figure(8.0, 0.8 + 0.32 * len(costs))
    axes = figure.subplots()
    places = range(len(costs))
    names = [cost.asset if cost.partition is None else f"{cost.asset} [{cost.partition}]" for cost in costs]
    axes.barh([place - 0.2 for place in places], [cost.wall_seconds for cost in costs], 0.4, color=ACCENT, label="wall")
    axes.barh([place + 0.2 for place in places], [cost.cpu_seconds for cost in costs], 0.4, color=MUTED, label="CPU")
    axes.set_yticks(list(places), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("seconds of the last computation")
    if len(costs) < known:
        axes.set_title(f"The {len(costs)} of {known:,} that took the most CPU time", fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return _png(figure)


def _dearest(costs: list[MaterializationCost]) -> list[MaterializationCost]:
    """Those that are drawn, in the order that they came in."""
    dearest = sorted(range(len(costs)), key=lambda place: -costs[place].cpu_seconds)[:MOST_BARS]
    return [costs[place] for place in sorted(dearest)]


def plot_over_time(book: CostBook) -> bytes | None:
    """CPU seconds of each asset's computations over time in UTC, a small panel each; reused values are left out.

    Returns:
        A PNG; None where nothing was computed.
    """
    series = {asset: [run for run in runs if outcome(run) == "made"] for asset, runs in book.series.items()}
    series = {asset: runs for asset, runs in series.items() if runs}
    if not series:
        return None
    lines = -(-len(series) // COLUMNS)
    figure = _figure(2.6 * COLUMNS, 1.6 * lines)
    panels = figure.subplots(lines, COLUMNS, squeeze=False).ravel()
    for axes, (asset, runs) in zip(panels, series.items(), strict=False):
        _draw_series(axes, asset, runs)
    for axes in panels[len(series) :]:
        axes.set_visible(False)
    return _png(figure)


def _draw_series(axes: Axes, asset: str, runs: list[MaterializationCost]) -> None:
    for partition in dict.fromkeys(run.partition for run in runs):
        chosen = [run for run in runs if run.partition == partition]
        axes.plot(_in_utc(run.started_at for run in chosen), [run.cpu_seconds for run in chosen], "o-", markersize=3)
    axes.set_ylim(bottom=0)
    axes.set_title(f"{asset}, CPU s", fontsize=8, loc="left")
    ends = sorted({runs[0].started_at, runs[-1].started_at})
    labels = [f"{end.astimezone(UTC):%Y-%m-%d\n%H:%M UTC}" for end in ends]
    axes.set_xticks(_in_utc(ends), labels)
    axes.tick_params(labelsize=6)
    axes.spines[["top", "right"]].set_visible(False)


def _in_utc(moments: Iterable[datetime]) -> NDArray[np.datetime64]:
    """As matplotlib takes them: without a zone, datetime64[us]."""
    return np.array([moment.astimezone(UTC).replace(tzinfo=None) for moment in moments], dtype="datetime64[us]")


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="tight")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
