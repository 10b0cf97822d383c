"""What the two Vietoris-Rips engines will take on a cloud, seen from a sample of its distances, before either starts.

Belongs here: the features of a cloud that decide, and the models of CPU time with their constants.
Does not: the decision (`aura.topology.dispatch`), memory (`aura.topology.memory`).

What makes the implicit reduction slow is not the dimension alone. An edge whose lens (the points nearer to both of its
ends than these are to each other) holds a point is paired with a triangle at once (Bauer, "Ripser", 2021: apparent
pairs); one with an empty lens, an edge of the relative neighbourhood graph (Toussaint, 1980), has to be reduced. Where
some points are central and others peripheral, columns find their pivots early; where all are alike, as on a sphere of
high dimension, the columns fill in. So the features are the share of empty lenses, how much of the distances' variance
is explained by a sum of one number for each of both points (analysis of variance), and how much they vary at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aura.topology.memory import Size, most_simplices

ANCHORS = 32
"""Points whose distances to all others are looked at: 2 ms for a thousand points in 384 dimensions."""
FEWEST_ITEMS = 64
"""Below this either engine takes milliseconds."""
ADDITIVE = 0.8
"""Additivity from which on no columns fill in."""
RIPS = (-21.8, 2.82, -0.74, 0.48)
"""Logarithm of the implicit reduction's CPU seconds: constant, by ln(items), by sameness, by both.

Least squares over 16 families of clouds (tori, clusters, spheres, balls, cubes, rectified, of 3 to 384 dimensions) of
200 to 1000 points; the residual is a factor of 1.9, and the engines differ by a factor of 100 either way."""
SIMPLEX_SECONDS = 0.7e-6
"""CPU seconds of a simplex in the explicit complex."""


@dataclass(frozen=True)
class Outlook:
    """What a sample of the distances says.

    Attributes:
        items: Points or rows.
        empty_lenses: Share of the pairs that the enclosing radius keeps and whose lens is empty.
        additivity: Share of the distances' variance that a sum of one number for each point explains, 0 to 1.
        spread: Standard deviation of the distances over their mean.
    """

    items: int
    empty_lenses: float
    additivity: float
    spread: float

    @property
    def reduced_edges(self) -> float:
        """Estimated number of edges that the implicit reduction has to reduce."""
        return self.empty_lenses * self.items * (self.items - 1) / 2


def outlook_of_points(points: NDArray[np.float64], metric: str, seed: int) -> Outlook:
    """Look at a sample of the distances of points [n, d]."""
    anchors = _anchors(len(points), seed)
    if metric == "euclidean":
        centred = points - points.mean(axis=0)
        norms = np.vecdot(centred, centred)
        squared = norms[anchors][:, None] + norms - 2.0 * (centred[anchors] @ centred.T)
        return _outlook(np.sqrt(np.maximum(squared, 0.0)), anchors)
    # 0.55 s of CPU, which loading the asset definitions must not pay.
    from scipy.spatial.distance import cdist

    return _outlook(cdist(points[anchors], points, metric), anchors)


def outlook_of_distances(distances: NDArray[np.float64], seed: int) -> Outlook:
    """Look at a sample of given distances [n, n]."""
    anchors = _anchors(len(distances), seed)
    return _outlook(distances[anchors], anchors)


def _anchors(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).choice(count, size=min(ANCHORS, count), replace=False)


def _outlook(rows: NDArray[np.float64], anchors: NDArray[np.int64]) -> Outlook:
    """Features of the distances [a, n] of anchors to all points."""
    count, items = rows.shape
    if items < 3:
        return Outlook(items, 0.0, 0.0, 0.0)
    own = np.zeros(rows.shape, dtype=np.bool_)
    own[np.arange(count), anchors] = True
    enclosing = float(rows.max(axis=1).min())
    means = rows.sum(axis=1) / (items - 1)
    mean = float(means.mean())
    variance = float(((rows - mean) ** 2)[~own].mean())
    blocked = np.where(own, np.inf, rows)
    one, other = np.triu_indices(count, 1)
    lengths = rows[one, anchors[other]]
    nearest = np.array([np.maximum(blocked[i], blocked[j]).min() for i, j in zip(one, other, strict=True)])
    empty = float(((nearest >= lengths) & (lengths <= enclosing)).mean())
    if variance == 0:
        return Outlook(items, empty, 0.0, 0.0)
    additivity = min(1.0, 2.0 * float(means.var()) / variance)
    return Outlook(items, empty, additivity, math.sqrt(variance) / mean)


def rips_cpu_seconds(outlook: Outlook) -> float:
    """CPU seconds that the implicit reduction will take for H0 and H1."""
    if outlook.spread == 0:
        return 0.0
    sameness = -math.log(outlook.spread) * max(0.0, 1.0 - outlook.additivity / ADDITIVE)
    logarithm = math.log(outlook.items)
    return math.exp(RIPS[0] + RIPS[1] * logarithm + sameness * (RIPS[2] + RIPS[3] * logarithm))


def simplex_tree_cpu_seconds(size: Size, max_dimension: int) -> float:
    """CPU seconds that the explicit complex will take."""
    return SIMPLEX_SECONDS * most_simplices(size, max_dimension)
