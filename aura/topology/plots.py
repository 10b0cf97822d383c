"""Pictures of persistence diagrams and of what is made of them, as PNG bytes.

Belongs here: barcode, diagram, Betti curves, persistence images, landscapes with their band. Does not: computing any of
it.
"""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from aura.topology.diagrams import GuaranteeKind, PersistenceDiagrams
from aura.topology.subsamples import AveragedLandscapes
from aura.topology.vectorise import betti_curve
from aura.topology.vectors import IMAGE, LANDSCAPES, TopologyVectors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

ACCENT = "#c2410c"
QUIET = "#9aa5b1"
INK = "#1f2933"
MARKERS = "o^sDv*"
LONGEST_BARS = 50
"""Bars drawn per dimension: with more than this a barcode is a grey area."""


def barcode(diagrams: PersistenceDiagrams) -> bytes:
    """Draw the longest bars of every dimension, certified ones in colour, under a scale bar as long as the bound.

    Returns:
        PNG, about 560 by 400 pixels for H0 and H1.
    """
    bound = diagrams.provenance.guarantee.bound
    dimensions = range(diagrams.provenance.max_dimension + 1)
    start, end = _scale_range(diagrams, at_least=bound)
    figure = _figure(7.0, 1.0 + 2.0 * len(dimensions))
    panels = _panels(figure, len(dimensions))
    for dimension, axes in zip(dimensions, panels, strict=True):
        _draw_bars(axes, diagrams, dimension, end)
    top = panels[0]
    top.set_title(_bound_sentence(diagrams), fontsize=9, color=INK, loc="left", pad=18)
    if bound > 0:
        transform = top.get_xaxis_transform()
        top.plot([start, start + bound], [1.04, 1.04], color=INK, linewidth=2, transform=transform, clip_on=False)
        top.text(start + bound, 1.04, f"  bound = {bound:.3g}", fontsize=8, va="center", transform=transform)
    panels[-1].set_xlabel(diagrams.provenance.scale)
    panels[-1].set_xlim(start, end)
    return _png(figure)


def persistence_diagram(diagrams: PersistenceDiagrams) -> bytes:
    """Draw birth against death; the band holds the points that the bound does not tell from the diagonal.

    The distance to the diagonal is the bottleneck distance's (l-infinity), so the band ends at death = birth + twice
    the bound; for sparse filtrations at death = birth times the square of the factor.

    Returns:
        PNG, about 440 by 440 pixels.
    """
    guarantee = diagrams.provenance.guarantee
    start, end = _scale_range(diagrams)
    diagonal = np.linspace(start, end, 200)
    figure = _figure(5.5, 5.5)
    axes = figure.subplots()
    axes.plot(diagonal, diagonal, color=INK, linewidth=0.8)
    if guarantee.kind is not GuaranteeKind.EXACT:
        band = guarantee.factor**2 * diagonal + 2.0 * guarantee.bound
        axes.fill_between(diagonal, diagonal, band, color=QUIET, alpha=0.2, linewidth=0, label="within the bound")
    for dimension in range(diagrams.provenance.max_dimension + 1):
        bars, certified = diagrams.bars(dimension), diagrams.certified(dimension)
        _scatter(axes, bars[~certified], dimension, end=end, certified=False)
        _scatter(axes, bars[certified], dimension, end=end, certified=True)
    axes.set(xlim=(start - 0.02 * (end - start), end), ylim=(start, end), aspect="equal")
    axes.set(xlabel=f"birth: {diagrams.provenance.scale}", ylabel="death (never: at the upper edge)")
    axes.set_title(_bound_sentence(diagrams), fontsize=8, color=INK, loc="left")
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    return _png(figure)


def betti_curves(diagrams: PersistenceDiagrams) -> bytes:
    """Draw how many components, loops and so on are alive at each scale; all bars count, also the short ones.

    Returns:
        PNG, about 560 by 160 pixels for each dimension.
    """
    from matplotlib.ticker import MaxNLocator

    scales = np.linspace(*_scale_range(diagrams), 400)
    dimensions = range(diagrams.provenance.max_dimension + 1)
    figure = _figure(7.0, 0.4 + 2.0 * len(dimensions))
    for dimension, axes in zip(dimensions, _panels(figure, len(dimensions)), strict=True):
        alive = betti_curve(diagrams.bars(dimension), scales)
        axes.fill_between(scales, alive, step="post", color=ACCENT if dimension == 1 else QUIET, linewidth=0)
        axes.set_ylim(0, 1.05 * max(1, alive.max()))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        axes.set_ylabel(f"H{dimension} bars alive", fontsize=9)
    axes.set_xlim(scales[0], scales[-1])
    axes.set_xlabel(diagrams.provenance.scale)
    return _png(figure)


def persistence_images(vectors: TopologyVectors) -> bytes:
    """Draw the persistence image of every dimension: births across, lengths upwards, dark where long bars are.

    Returns:
        PNG, about 320 by 300 pixels for each dimension.
    """
    parameters, counts = vectors.provenance.parameters, vectors.provenance.counts
    figure = _figure(4.2 * len(counts), 3.8, layout="constrained")
    panels = figure.subplots(1, len(counts), squeeze=False)[0]
    for dimension, axes in enumerate(panels):
        births, lengths = parameters.edges(dimension)
        mesh = axes.pcolormesh(births, lengths, vectors.vector(dimension, IMAGE), cmap=_colours(), vmin=0.0)
        figure.colorbar(mesh, ax=axes, fraction=0.05, pad=0.03).ax.tick_params(labelsize=7)
        axes.set_title(_counts_sentence(vectors, dimension), fontsize=8, color=INK, loc="left")
        axes.set(xlabel="birth", ylabel="length")
    figure.suptitle(f"persistence images, grid fitted on {parameters.fitted_on}", fontsize=9, color=INK)
    return _png(figure)


def landscape_curves(vectors: TopologyVectors) -> bytes:
    """Draw the persistence landscapes of every dimension, the highest layer in colour.

    Returns:
        PNG, about 560 by 200 pixels for each dimension.
    """
    parameters, counts = vectors.provenance.parameters, vectors.provenance.counts
    figure = _figure(7.0, 2.6 * len(counts), layout="constrained")
    for dimension, axes in enumerate(figure.subplots(len(counts), 1, squeeze=False)[:, 0]):
        _draw_layers(axes, parameters.scales(dimension), vectors.vector(dimension, LANDSCAPES))
        axes.set_title(_counts_sentence(vectors, dimension), fontsize=8, color=INK, loc="left")
        axes.set_ylabel(f"H{dimension} landscapes")
    axes.set_xlabel(f"scale; grid fitted on {parameters.fitted_on}")
    return _png(figure)


def landscape_band(averaged: AveragedLandscapes) -> bytes:
    """Draw the averaged landscapes of every dimension with their bands, under what these guarantee.

    Returns:
        PNG, about 560 by 220 pixels for each dimension.
    """
    provenance = averaged.provenance
    figure = _figure(7.0, 0.6 + 2.6 * len(provenance.ranges), layout="constrained")
    for dimension, axes in enumerate(figure.subplots(len(provenance.ranges), 1, squeeze=False)[:, 0]):
        scales, (lower, upper) = averaged.scales(dimension), averaged.band(dimension)
        for layer in range(provenance.layers):
            colour = ACCENT if layer == 0 else QUIET
            axes.fill_between(scales, lower[layer], upper[layer], color=colour, alpha=0.18, linewidth=0)
        _draw_layers(axes, scales, averaged.mean(dimension))
        half_width = provenance.half_widths[dimension]
        axes.set_title(f"{1 - provenance.alpha:.0%} band: \u00b1 {half_width:.3g}", fontsize=8, color=INK, loc="left")
        axes.set_ylabel(f"H{dimension} landscapes")
    axes.set_xlabel(f"scale ({provenance.metric} distance)")
    figure.suptitle(textwrap.fill(provenance.guarantee, 105), fontsize=8, color=INK)
    return _png(figure)


def _draw_layers(axes: Axes, scales: NDArray[np.float64], layers: NDArray[np.float64]) -> None:
    """Draw landscapes [k, scales], the highest last so that it lies on top."""
    for number, layer in reversed(list(enumerate(layers))):
        axes.plot(scales, layer, color=ACCENT if number == 0 else QUIET, linewidth=1.6 if number == 0 else 0.9)
    axes.set_ylim(bottom=0.0)
    axes.set_xlim(scales[0], scales[-1])


def _counts_sentence(vectors: TopologyVectors, dimension: int) -> str:
    counts = vectors.provenance.counts[dimension]
    return f"H{dimension}: {counts.bars} bars\n{counts.endless} without end, {counts.outside} outside of the grid"


def _colours() -> LinearSegmentedColormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("lengths", ["#ffffff", ACCENT, INK])


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


def _scale_range(diagrams: PersistenceDiagrams, *, at_least: float = 0.0) -> tuple[float, float]:
    """From 0, or the smallest birth below it, to a little beyond the largest finite scale and the length asked for."""
    scales = np.concatenate((diagrams.table["birth"].to_numpy(), diagrams.table["death"].to_numpy()))
    finite = scales[np.isfinite(scales)]
    start = float(finite.min(initial=0.0))
    length = max(float(finite.max(initial=start)) - start, at_least) or 1.0
    return start, start + 1.06 * length


def _bound_sentence(diagrams: PersistenceDiagrams) -> str:
    provenance = diagrams.provenance
    guarantee = provenance.guarantee
    if guarantee.kind is GuaranteeKind.EXACT:
        return f"exact: {provenance.landmarks} of {provenance.points} points, all that differ"
    if guarantee.kind is GuaranteeKind.SPARSE:
        return f"sparse, {provenance.points} points: births and deaths within a factor of {guarantee.factor:.3g}"
    return (
        f"{provenance.landmarks} landmarks of {provenance.points} points:"
        f" error at most {guarantee.bound:.3g}, certified above {2 * guarantee.bound:.3g}"
    )


def _figure(width: float, height: float, *, layout: Literal["constrained"] | None = None) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=80, layout=layout)


def _panels(figure: Figure, count: int) -> list[Axes]:
    """Panels one below the other, with the scale in common."""
    return list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()
