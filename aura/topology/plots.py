"""Pictures of persistence diagrams: barcode, diagram and Betti curves, as PNG bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aura.topology.diagrams import PersistenceDiagrams
from aura.topology.vectorise import betti_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCENT = "#c2410c"
QUIET = "#9aa5b1"
INK = "#1f2933"
MARKERS = "o^sDv*"
LONGEST_BARS = 50
"""Bars drawn per dimension: with more than this a barcode is a grey area."""


def barcode(diagrams: PersistenceDiagrams) -> bytes:
    """Draw the longest bars of every dimension, certified ones in colour, under a scale bar of length 2*delta.

    Returns:
        PNG, about 560 by 400 pixels for H0 and H1.
    """
    bound = diagrams.provenance.bottleneck_bound
    dimensions = range(diagrams.provenance.max_dimension + 1)
    end = 1.05 * max(_largest_scale(diagrams), bound)
    figure = _figure(7.0, 1.0 + 2.0 * len(dimensions))
    panels = figure.subplots(len(dimensions), 1, sharex=True, squeeze=False)[:, 0]
    for dimension, axes in zip(dimensions, panels, strict=True):
        _draw_bars(axes, diagrams, dimension, end)
    top = panels[0]
    top.set_title(_bound_sentence(diagrams), fontsize=9, color=INK, loc="left", pad=18)
    top.plot([0, bound], [1.04, 1.04], color=INK, linewidth=2, transform=top.get_xaxis_transform(), clip_on=False)
    top.text(bound, 1.04, f"  2δ = {bound:.3g}", fontsize=8, va="center", transform=top.get_xaxis_transform())
    panels[-1].set_xlabel(_scale_label(diagrams))
    panels[-1].set_xlim(0, end)
    return _png(figure)


def persistence_diagram(diagrams: PersistenceDiagrams) -> bytes:
    """Draw birth against death; the band holds the points within 2*delta of the diagonal, which may be noise.

    The distance to the diagonal is the bottleneck distance's (l-infinity), so the band ends at death = birth + 4*delta.

    Returns:
        PNG, about 440 by 440 pixels.
    """
    end = 1.08 * _largest_scale(diagrams)
    diagonal = np.array([0.0, end])
    figure = _figure(5.5, 5.5)
    axes = figure.subplots()
    axes.plot(diagonal, diagonal, color=INK, linewidth=0.8)
    band = diagonal + 2.0 * diagrams.provenance.bottleneck_bound
    axes.fill_between(diagonal, diagonal, band, color=QUIET, alpha=0.2, linewidth=0, label="within 2δ of the diagonal")
    for dimension in range(diagrams.provenance.max_dimension + 1):
        bars, certified = diagrams.bars(dimension), diagrams.certified(dimension)
        _scatter(axes, bars[~certified], dimension, end=end, certified=False)
        _scatter(axes, bars[certified], dimension, end=end, certified=True)
    axes.set(xlim=(-0.02 * end, end), ylim=(0.0, end), aspect="equal")
    axes.set(xlabel=f"birth: {_scale_label(diagrams)}", ylabel="death (never: at the upper edge)")
    axes.set_title(_bound_sentence(diagrams), fontsize=8, color=INK, loc="left")
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    return _png(figure)


def betti_curves(diagrams: PersistenceDiagrams) -> bytes:
    """Draw how many components, loops and so on are alive at each scale; all bars count, also the short ones.

    Returns:
        PNG, about 560 by 280 pixels.
    """
    scales = np.linspace(0.0, 1.05 * _largest_scale(diagrams), 400)
    figure = _figure(7.0, 3.5)
    axes = figure.subplots()
    for dimension in range(diagrams.provenance.max_dimension + 1):
        alive = betti_curve(diagrams.bars(dimension), scales)
        colour = ACCENT if dimension == 1 else QUIET
        axes.step(scales, alive, where="post", color=colour, linestyle="-" if dimension < 2 else ":")
        peak = int(np.argmax(alive))
        axes.annotate(f"H{dimension}", (scales[peak], alive[peak]), fontsize=9, va="bottom")
    axes.set(xlabel=_scale_label(diagrams), ylabel="bars alive (Betti number)")
    return _png(figure)


def _draw_bars(axes: Axes, diagrams: PersistenceDiagrams, dimension: int, end: float) -> None:
    bars, certified = diagrams.bars(dimension), diagrams.certified(dimension)
    longest = np.argsort(bars[:, 0] - bars[:, 1], kind="stable")[:LONGEST_BARS]
    rows = np.arange(len(longest))[::-1]
    colours = [ACCENT if sure else QUIET for sure in certified[longest]]
    axes.hlines(rows, bars[longest, 0], np.minimum(bars[longest, 1], end), colors=colours, linewidth=1.8)
    endless = np.isinf(bars[longest, 1])
    axes.plot(np.full(endless.sum(), end), rows[endless], ">", color=QUIET, markersize=6, clip_on=False)
    shown = f"{len(longest)} longest of {len(bars)}" if len(longest) < len(bars) else f"all {len(bars)}"
    axes.set_ylabel(f"H{dimension}\n{shown}, {int(certified.sum())} certified", fontsize=8)
    axes.set_yticks([])


def _scatter(axes: Axes, bars: NDArray[np.float64], dimension: int, *, end: float, certified: bool) -> None:
    if len(bars) == 0:
        return
    axes.scatter(
        bars[:, 0],
        np.minimum(bars[:, 1], end),
        s=16,
        color=ACCENT if certified else QUIET,
        marker=MARKERS[dimension % len(MARKERS)],
        linewidth=0,
        label=f"H{dimension} certified" if certified else f"H{dimension}",
        clip_on=False,
    )


def _largest_scale(diagrams: PersistenceDiagrams) -> float:
    """Largest finite birth or death, or 1 where every bar starts at 0 and never ends."""
    scales = np.concatenate((diagrams.table["birth"].to_numpy(), diagrams.table["death"].to_numpy()))
    largest = float(scales[np.isfinite(scales)].max(initial=0.0))
    return largest if largest > 0 else 1.0


def _scale_label(diagrams: PersistenceDiagrams) -> str:
    return f"edge length ({diagrams.provenance.metric} distance)"


def _bound_sentence(diagrams: PersistenceDiagrams) -> str:
    provenance = diagrams.provenance
    if provenance.covering_radius == 0:
        return f"exact: {provenance.landmarks} of {provenance.points} points, all that differ"
    return (
        f"{provenance.landmarks} landmarks of {provenance.points} points,"
        f" δ = {provenance.covering_radius:.3g}: error at most 2δ, certified above 4δ"
    )


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=80)


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()
