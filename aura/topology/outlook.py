"""What the two Vietoris-Rips engines will take on a cloud, seen from a sample of its distances, before either starts.

Belongs here: the features of a cloud that decide, and the models of CPU time with their constants.
Does not: the decision (`aura.topology.dispatch`), memory (`aura.topology.memory`).

What makes the implicit reduction slow is not the dimension alone. It is slow where the distances are nearly equal, so
that their order is nearly random, where no point is more central than another, and where the complex is nearly complete
before it becomes a cone: on a sphere of high dimension, and not on a ball of the same dimension, whose inner points
close the cycles early (compare Bauer, "Ripser", 2021, on apparent pairs). So the features are how much the distances
vary, how much of that a sum of one number for each of both points explains (analysis of variance), and how far into the
distances the enclosing radius reaches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aura.topology.engines.spanning_tree import TREE_DIMENSIONS
from aura.topology.engines.task import Kind
from aura.topology.memory import Size, most_simplices

ANCHORS = 32
"""Points whose distances to all others are looked at: 2 ms for a thousand points in 384 dimensions."""
FEWEST_ITEMS = 64
"""Below this either engine takes milliseconds for H1, less than loading its library."""
ROUNDING = 1e-14
"""Variances below this share of the squared mean are rounding."""
RIPS = (-17.9, 2.895, -2.15, -2.04, 2.08)
"""Logarithm of the implicit reduction's CPU seconds: constant, by ln(items), sameness, reach, sameness times reach.

Least squares over 16 families of clouds (tori, clusters, spheres, balls, cubes, rectified, mixtures, of 3 to 384
dimensions) of 200 to 1000 points. The residual is a factor of 1.6 and the largest one of 4.5; the engines differ by a
factor of 100 either way."""
MOST_SAMENESS, MOST_REACH = 3.7, 2.4
"""The largest that were measured: the model is not continued beyond them."""
SIMPLEX_SECONDS = 0.8e-6
"""CPU seconds of a simplex in the explicit complex; 0.5e-6 to 1.8e-6 were measured."""
PRODUCT_SECONDS = 1.5e-10
"""CPU seconds of one coordinate of one pair of points in the neighbours of a spanning tree."""


@dataclass(frozen=True)
class Outlook:
    """What a sample of the distances says.

    Attributes:
        items: Points or rows.
        spread: Standard deviation of the distances over their mean.
        additivity: Share of the distances' variance that a sum of one number for each point explains, 0 to 1.
        reach: Where the filtration ends (at the enclosing radius or the threshold) less the mean distance, in standard
            deviations.
    """

    items: int
    spread: float
    additivity: float
    reach: float


def outlook_of_points(points: NDArray[np.float64], metric: str, threshold: float, seed: int) -> Outlook:
    """Look at a sample of the distances of points [n, d], in a filtration up to a threshold."""
    anchors = _anchors(len(points), seed)
    if metric == "euclidean":
        centred = points - points.mean(axis=0)
        norms = np.vecdot(centred, centred)
        squared = norms[anchors][:, None] + norms - 2.0 * (centred[anchors] @ centred.T)
        return _outlook(np.sqrt(np.maximum(squared, 0.0)), anchors, threshold)
    # 0.55 s of CPU, which loading the asset definitions must not pay.
    from scipy.spatial.distance import cdist

    return _outlook(cdist(points[anchors], points, metric), anchors, threshold)


def outlook_of_distances(distances: NDArray[np.float64], threshold: float, seed: int) -> Outlook:
    """Look at a sample of given distances [n, n], in a filtration up to a threshold."""
    anchors = _anchors(len(distances), seed)
    return _outlook(distances[anchors], anchors, threshold)


def _anchors(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).choice(count, size=min(ANCHORS, count), replace=False)


def _outlook(rows: NDArray[np.float64], anchors: NDArray[np.int64], threshold: float) -> Outlook:
    """Features of the distances [a, n] of anchors to all points."""
    count, items = rows.shape
    if items < 3:
        return Outlook(items, 0.0, 0.0, 0.0)
    rows[np.arange(count), anchors] = 0.0
    means = rows.sum(axis=1) / (items - 1)
    mean = float(means.mean())
    variance = float((rows**2).sum()) / (count * (items - 1)) - mean**2
    if variance <= ROUNDING * mean**2:
        return Outlook(items, 0.0, 0.0, 0.0)
    deviation = math.sqrt(variance)
    additivity = min(1.0, 2.0 * float(means.var()) / variance)
    reach = (min(threshold, float(rows.max(axis=1).min())) - mean) / deviation
    return Outlook(items, deviation / mean, additivity, reach)


def spanning_tree_cpu_seconds(size: Size) -> float:
    """CPU seconds that a spanning tree of points will take where they have too many coordinates for a k-d tree."""
    if size.kind is not Kind.POINTS or size.coordinates <= TREE_DIMENSIONS:
        return 0.0
    return PRODUCT_SECONDS * size.coordinates * size.items**2


def rips_cpu_seconds(outlook: Outlook) -> float:
    """CPU seconds that the implicit reduction will take for H0 and H1."""
    if outlook.spread == 0:
        return 0.0
    sameness = min(MOST_SAMENESS, -math.log(outlook.spread) * (1.0 - outlook.additivity) ** 2)
    reach = min(MOST_REACH, outlook.reach)
    features = (1.0, math.log(outlook.items), sameness, reach, sameness * reach)
    return math.exp(sum(weight * feature for weight, feature in zip(RIPS, features, strict=True)))


def simplex_tree_cpu_seconds(size: Size, max_dimension: int) -> float:
    """CPU seconds that the explicit complex will take."""
    return SIMPLEX_SECONDS * most_simplices(size, max_dimension)
