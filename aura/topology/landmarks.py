"""Landmarks: a few points of a cloud that stand for all of it, with the distance by which they may be wrong.

Farthest-point sampling, the greedy permutation of Gonzalez, "Clustering to minimize the maximum intercluster distance"
(1985): its covering radius is at most twice the best possible one for the same number of points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aura.topology.cloud import checked_cloud

BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Landmarks:
    """The chosen points of a cloud.

    Attributes:
        indices: int64 [m], rows of the cloud, pairwise different points. In greedy order (every prefix is what a
            smaller count gives), or in the cloud's order where all distinct points were taken.
        covering_radius: Largest distance of a point of the cloud to its landmark, in the cloud's units: the Hausdorff
            distance between the cloud and the landmarks. Exactly 0 where all distinct points were taken.
    """

    indices: NDArray[np.int64]
    covering_radius: float


def farthest_point_landmarks(points: NDArray[np.floating], count: int, *, seed: int) -> Landmarks:
    """Choose landmarks greedily: each next one is the point farthest from all before it.

    Takes O(n * count * d) time in matrix-vector products and O(n * d) memory. The products run on centred float64
    coordinates and only rank the points; the covering radius is computed afterwards from coordinate differences.

    Args:
        points: float32 or float64 [n, d].
        count: How many landmarks to choose, at least 1. Where the cloud has no more distinct points than this, all of
            them are taken.
        seed: Seed of the first landmark.

    Returns:
        At most `count` landmarks with their covering radius.

    Raises:
        CloudError: The cloud is empty, misshapen or not finite.
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"landmarks: {count} were asked for, expected at least 1")
    cloud = checked_cloud(points)
    distinct = np.sort(np.unique(cloud, axis=0, return_index=True)[1]).astype(np.int64)
    if len(distinct) <= count:
        return Landmarks(indices=distinct, covering_radius=0.0)
    candidates = cloud[distinct]
    first = int(np.random.default_rng(seed).integers(len(candidates)))
    chosen, nearest = _greedy_permutation(candidates, count, first)
    return Landmarks(indices=distinct[chosen], covering_radius=_largest_distance(candidates, chosen[nearest]))


def _greedy_permutation(
    points: NDArray[np.float64], count: int, first: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows chosen [count] and, for every point, the position [n] in that list of its nearest one."""
    centred = points - points.mean(axis=0)
    norms = np.vecdot(centred, centred)
    squared = np.full(len(points), np.inf)
    nearest = np.zeros(len(points), dtype=np.int64)
    chosen = np.empty(count, dtype=np.int64)
    candidate = first
    for position in range(count):
        chosen[position] = candidate
        # One dot product a row: a threaded matrix-vector product burns five times the CPU on a busy machine.
        to_candidate = norms + norms[candidate] - 2.0 * np.vecdot(centred, centred[candidate])
        closer = to_candidate < squared
        squared[closer] = to_candidate[closer]
        nearest[closer] = position
        # Rounding leaves about 1e-16 here; a landmark must never be chosen again.
        squared[candidate] = -np.inf
        nearest[candidate] = position
        candidate = int(np.argmax(squared))
    return chosen, nearest


def _largest_distance(points: NDArray[np.float64], landmark_of: NDArray[np.int64]) -> float:
    """Largest distance between a point and its landmark, in blocks so that no second copy of the cloud is made."""
    largest = 0.0
    for start in range(0, len(points), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        differences = points[rows] - points[landmark_of[rows]]
        largest = max(largest, float(np.linalg.norm(differences, axis=1).max()))
    return largest
