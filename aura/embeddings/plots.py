"""A picture of a table of embeddings, as PNG bytes."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aura.embeddings.encoder import Vectors
from aura.embeddings.table import EmbeddingTable

COLOURS = ("#c2410c", "#1d4ed8", "#15803d", "#7e22ce", "#ca8a04", "#0e7490", "#f472b6", "#84cc16")
"""One per label, the most frequent first; all others share `QUIET`."""

QUIET = "#cbd2d9"
INK = "#1f2933"


def principal_components(vectors: Vectors) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates of vectors [n, d], d >= 2, on their first two principal axes.

    The sign of an axis is fixed: its largest entry is positive.

    Returns:
        [n, 2] coordinates, and [2] shares of the variance (0 where there is none).
    """
    centred = vectors.astype(np.float64)
    centred -= centred.mean(axis=0) if len(centred) else 0.0
    variances, axes = np.linalg.eigh(centred.T @ centred)
    variances, axes = np.clip(variances[::-1], 0.0, None), axes[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    total = variances.sum()
    shares = variances[:2] / total if total > 0 else np.zeros(2)
    return centred @ axes, shares


def scatter(table: EmbeddingTable) -> bytes:
    """Draw the vectors on their first two principal components, coloured by the most frequent labels.

    Returns:
        PNG, about 560 by 440 pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points, shares = principal_components(table.vectors)
    labels = np.array(
        [_shown(label) if label else "no label" for label in table.table["label"].to_pylist()], dtype=object
    )
    frequent = [label for label, _ in sorted(Counter(labels).items(), key=lambda entry: (-entry[1], entry[0]))]
    drawn, others = frequent[: len(COLOURS)], frequent[len(COLOURS) :]

    figure = Figure(figsize=(7.0, 5.5), dpi=80, layout="tight")
    axes = figure.subplots()
    size = float(np.clip(4000 / max(len(points), 1), 3, 30))
    if others:
        rest = points[np.isin(labels, others)]
        axes.scatter(rest[:, 0], rest[:, 1], s=size, c=QUIET, linewidth=0, label=f"{len(others)} more ({len(rest):,})")
    for label, colour in reversed(list(zip(drawn, COLOURS, strict=False))):
        own = points[labels == label]
        axes.scatter(own[:, 0], own[:, 1], s=size, c=colour, linewidth=0, label=f"{label} ({len(own):,})")
    axes.set_xlabel(f"first principal component ({shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"second principal component ({shares[1]:.0%})")
    axes.set_title(f"{len(points):,} vectors of {table.model.name}", fontsize=9, color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    # Handles and names are given, since Matplotlib leaves out of its own list what starts with an underscore.
    handles = list(axes.collections)
    names = [str(handle.get_label()) for handle in handles]
    if handles:
        axes.legend(
            handles[::-1],
            names[::-1],
            fontsize=8,
            frameon=False,
            markerscale=2,
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
        )
    FigureCanvasAgg(figure)
    full_colour = io.BytesIO()
    figure.savefig(full_colour, format="png")
    buffer = io.BytesIO()
    # Thousands of points make a PNG of 100 kB in full colour, and of half of it with a palette.
    with Image.open(full_colour) as drawing:
        drawing.convert("RGB").quantize(256).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _shown(label: str | None) -> str:
    """A label in characters that can be drawn; a dollar sign would begin a formula."""
    printable = (character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in label or "")
    return "".join(printable).replace("$", r"\$") or "no label"
