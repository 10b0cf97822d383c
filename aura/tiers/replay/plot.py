"""The plot of a comparison: miss ratio over capacity.

Belongs here: what it looks like. Does not: computing any figure.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from aura.tiers.planning.plots import ACCENT, GREY, INK
from aura.tiers.replay.comparison import OPTIMUM, YARDSTICK, Row
from aura.tiers.replay.policies import PORTFOLIO

LINES = {YARDSTICK: (INK, "-"), OPTIMUM: (INK, ":"), PORTFOLIO: (ACCENT, "-")}
OTHER_COLORS = ("#4d9a76", "#5c2a9d", "#c2703d", "#8a8f98", "#b0437a", "#9a8a2d")


def plot_comparison(rows: Sequence[Row], footprint: int, title: str) -> bytes:
    """Draw the miss ratio of each policy over the capacity.

    Args:
        rows: The comparison.
        footprint: Bytes, or objects, of all different objects: capacities are shown as a share of it.
        title: Name of the trace.

    Returns:
        A PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # 0.3 s of import that only a plot has to pay
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="tight")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    others = iter(OTHER_COLORS)
    for name in dict.fromkeys(row.policy for row in rows):
        color, style = LINES[name] if name in LINES else (next(others, GREY), "-")
        points = sorted((100 * row.capacity / footprint, row.outcome.miss_ratio) for row in rows if row.policy == name)
        width = 2.2 if name in LINES else 1.1
        axes.plot(*zip(*points, strict=True), style, marker="o", markersize=3, color=color, linewidth=width, label=name)
    axes.set_xlabel("capacity (% of all objects)")
    axes.set_ylabel("miss ratio")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if str(value).lstrip("0.")[0] in "25" else "")
    axes.set_ylim(bottom=0)
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK, which="both")
    axes.legend(frameon=False, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
