"""Picture of a decision about drift: what each test found beside what it finds without drift."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from aura.topology.drift.report import Decided, DriftReport, Outcome, Unavailable
from aura.topology.plots import ACCENT, INK, QUIET

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 40
CHARACTERS = 44
"""Of a line of text within a panel."""


def drift_plot(report: DriftReport) -> bytes:
    """Draw both null distributions with their thresholds and what was observed, side by side, in the same unit.

    Returns:
        PNG, about 800 by 300 pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 3.4), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(report.headline, fontsize=10, color=INK, x=0.005, ha="left")
    tests: dict[str, Outcome] = {"topology": report.topology, "plain": report.plain}
    for axes, (name, test) in zip(figure.subplots(1, 2), tests.items(), strict=True):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_yticks([])
        if isinstance(test, Unavailable):
            _draw_reason(axes, name, test)
        else:
            _draw_test(axes, name, test)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_test(axes: Axes, name: str, test: Decided) -> None:
    null = np.array(test.null)
    axes.hist(null, bins=BINS, color=QUIET, label=f"{len(null)} permutations")
    top = axes.get_ylim()[1]
    axes.vlines(test.threshold, 0, 0.8 * top, color=INK, linestyle="--", linewidth=1.2, label="threshold")
    axes.vlines(test.statistic, 0, 0.8 * top, color=ACCENT, linewidth=2.5, label="observed")
    axes.set_title(
        f"{name}: {'ALARM' if test.alarm else 'no alarm'}, p = {test.p_value:.2g} at level {test.level:.2g}",
        fontsize=9,
        color=ACCENT if test.alarm else INK,
        loc="left",
    )
    parts = ", ".join(f"{part.name} {part.score:.2f}" for part in test.components)
    axes.set_xlabel(f"energy in standard deviations of its null distribution\n{parts}", fontsize=8)
    axes.legend(fontsize=8, frameon=False, loc="upper right")


def _draw_reason(axes: Axes, name: str, test: Unavailable) -> None:
    axes.set_xticks([])
    axes.set_title(f"{name}: unavailable", fontsize=9, color=INK, loc="left")
    lines = textwrap.fill(test.reason, CHARACTERS)
    axes.text(0.5, 0.5, lines, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=INK)
