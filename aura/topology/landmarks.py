"""Landmarks: a few points of a cloud that stand for all of it, with the distance by which they may be wrong.

Farthest-point sampling, the greedy permutation of Gonzalez, "Clustering to minimize the maximum intercluster distance"
(1985): its covering radius is at most twice the best possible one for the same number of points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aura.topology.cloud import checked_cloud

BLOCK_ROWS = 4096
EUCLIDEAN = "euclidean"


@dataclass(frozen=True)
class Landmarks:
    """The chosen points of a cloud.

    Attributes:
        indices: int64 [m], rows of the cloud, pairwise different points. In greedy order (every prefix is what a
            smaller count gives), or in the cloud's order where all distinct points were taken.
        covering_radius: Largest distance of a point of the cloud to its landmark, in the cloud's units: the Hausdorff
            distance between the cloud and the landmarks. Exactly 0 where all distinct points were taken.
        distortion: Largest difference between the distance of two items and that of their landmarks; None where it was
            not computed. Vietoris-Rips diagrams differ by at most that much, with or without the triangle inequality;
            with it, the distortion is at most twice the covering radius.
    """

    indices: NDArray[np.int64]
    covering_radius: float
    distortion: float | None = None


def farthest_point_landmarks(
    points: NDArray[np.floating], count: int, *, seed: int, metric: str = EUCLIDEAN
) -> Landmarks:
    """Choose landmarks greedily: each next one is the point farthest from all before it.

    Takes O(n * count * d) time and O(n * d) memory. Euclidean distances are matrix-vector products on centred float64
    coordinates and only rank the points; the covering radius is computed afterwards from coordinate differences.

    Args:
        points: float32 or float64 [n, d].
        count: How many landmarks to choose, at least 1. Where the cloud has no more distinct points than this, all of
            them are taken.
        seed: Seed of the first landmark.
        metric: Name of a distance in SciPy that obeys the triangle inequality.

    Returns:
        At most `count` landmarks with their covering radius.

    Raises:
        CloudError: The cloud is empty, misshapen or not finite.
        ValueError: `count` is below 1.
    """
    _check_count(count)
    cloud = checked_cloud(points)
    distinct = np.sort(np.unique(cloud, axis=0, return_index=True)[1]).astype(np.int64)
    if len(distinct) <= count:
        return Landmarks(indices=distinct, covering_radius=0.0)
    candidates = cloud[distinct]
    first = int(np.random.default_rng(seed).integers(len(candidates)))
    if metric != EUCLIDEAN:
        # 0.55 s of CPU, which loading the asset definitions must not pay.
        from scipy.spatial.distance import cdist

        chosen, _, farthest = _greedy_permutation(
            len(candidates), count, first, lambda row: cdist(candidates[row, None], candidates, metric)[0]
        )
        return Landmarks(indices=distinct[chosen], covering_radius=farthest)
    centred = candidates - candidates.mean(axis=0)
    norms = np.vecdot(centred, centred)
    # One dot product a row: a threaded matrix-vector product burns five times the CPU on a busy machine.
    chosen, nearest, _ = _greedy_permutation(
        len(candidates), count, first, lambda row: norms + norms[row] - 2.0 * np.vecdot(centred, centred[row])
    )
    return Landmarks(indices=distinct[chosen], covering_radius=_largest_distance(candidates, chosen[nearest]))


def landmarks_of_distances(distances: NDArray[np.float64], count: int, *, seed: int) -> Landmarks:
    """Choose landmarks of items that are known by their distances alone, as `farthest_point_landmarks` does.

    Args:
        distances: float64 [n, n], checked; the triangle inequality is not needed.
        count: How many landmarks to choose, at least 1; all items where there are no more.
        seed: Seed of the first landmark.

    Returns:
        The landmarks with their covering radius and distortion.

    Raises:
        ValueError: `count` is below 1.
    """
    _check_count(count)
    if len(distances) <= count:
        return Landmarks(np.arange(len(distances)), covering_radius=0.0, distortion=0.0)
    first = int(np.random.default_rng(seed).integers(len(distances)))
    chosen, nearest, farthest = _greedy_permutation(len(distances), count, first, lambda row: distances[row])
    landmark_of = chosen[nearest]
    distortion = 0.0
    step = max(1, BLOCK_ROWS**2 // len(distances))
    for start in range(0, len(distances), step):
        rows = slice(start, start + step)
        there = distances[landmark_of[rows]][:, landmark_of]
        distortion = max(distortion, float(np.abs(distances[rows] - there).max()))
    return Landmarks(indices=chosen, covering_radius=farthest, distortion=distortion)


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"landmarks: {count} were asked for, expected at least 1")


def _greedy_permutation(
    size: int, count: int, first: int, distances_from: Callable[[int], NDArray[np.float64]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """Take the farthest item again and again.

    Returns:
        The items chosen [count], for every item the position [size] in that list of its nearest one, and the largest of
        these distances, in the scale of `distances_from`.
    """
    distances = np.full(size, np.inf)
    nearest = np.zeros(size, dtype=np.int64)
    chosen = np.empty(count, dtype=np.int64)
    candidate = first
    for position in range(count):
        chosen[position] = candidate
        to_candidate = distances_from(candidate)
        closer = to_candidate < distances
        distances[closer] = to_candidate[closer]
        nearest[closer] = position
        # Rounding leaves about 1e-16 here; a landmark must never be chosen again.
        distances[candidate] = -np.inf
        nearest[candidate] = position
        candidate = int(np.argmax(distances))
    return chosen, nearest, float(distances[candidate])


def _largest_distance(points: NDArray[np.float64], landmark_of: NDArray[np.int64]) -> float:
    """Largest distance between a point and its landmark, in blocks so that no second copy of the cloud is made."""
    largest = 0.0
    for start in range(0, len(points), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        differences = points[rows] - points[landmark_of[rows]]
        largest = max(largest, float(np.linalg.norm(differences, axis=1).max()))
    return largest
