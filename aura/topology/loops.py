"""The loops of a cloud whose diagrams are there: cycles of rows of the cloud.

Belongs here: from diagrams back to the points that they were made of. Does not: which cycle stands for a bar
(`aura.topology.cycles`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aura.topology.cloud import checked_cloud
from aura.topology.cycles import CycleError, RepresentativeCycles, representative_cycles
from aura.topology.diagrams import VIETORIS_RIPS, PersistenceDiagrams
from aura.topology.landmarks import farthest_point_landmarks

METRIC = "euclidean"


def loops_of(points: NDArray[np.floating], diagrams: PersistenceDiagrams, *, count: int) -> RepresentativeCycles:
    """Find cycles for the longest H1 bars of a cloud's diagrams.

    The landmarks of the diagrams are chosen again, which gives the same ones; the bars are not computed again.

    Args:
        points: float32 or float64 [n, d], the cloud that the diagrams are of.
        diagrams: Its Vietoris-Rips diagrams in Euclidean distance, with H1; not sparse ones, whose bars are not those
            of the distances, nor ones with loops that a threshold left open, of which it is not known what fills them.
        count: How many bars, longest first.

    Returns:
        Cycles whose vertices are rows of `points`.

    Raises:
        CloudError: The cloud is empty, misshapen or not finite.
        CycleError: The diagrams are of another filtration, metric or cloud, sparse, or cut where loops are open.
    """
    from scipy.spatial.distance import pdist, squareform

    provenance = diagrams.provenance
    if (provenance.filtration, provenance.metric) != (VIETORIS_RIPS, METRIC) or provenance.max_dimension < 1:
        raise CycleError(
            f"loops are read off {VIETORIS_RIPS} diagrams with H1 in {METRIC} distance, got {provenance.filtration} up "
            f"to H{provenance.max_dimension} in {provenance.metric} distance"
        )
    if provenance.epsilon is not None:
        raise CycleError(
            f"the diagrams are sparse (epsilon {provenance.epsilon:g}), so no edge of the cloud bears their bars:"
            " compute them with another engine"
        )
    if provenance.threshold is not None and np.isinf(diagrams.bars(1)[:, 1]).any():
        raise CycleError(
            f"the diagrams were cut at the threshold {provenance.threshold:g}, which leaves loops open: compute them"
            " without a threshold, or with a higher one"
        )
    cloud = checked_cloud(points)
    rows = farthest_point_landmarks(cloud, provenance.landmarks, seed=provenance.seed).indices
    if len(cloud) != provenance.points or len(rows) != provenance.landmarks:
        raise CycleError(
            f"the diagrams are of {provenance.landmarks} landmarks of {provenance.points} points, the cloud gives "
            f"{len(rows)} of {len(cloud)}: pass the cloud that they were computed of"
        )
    distances = squareform(pdist(cloud[rows])) if len(rows) > 1 else np.zeros((1, 1))
    bars = np.concatenate(
        [np.column_stack((np.full(len(each), k), each)) for k in (0, 1) for each in (diagrams.bars(k),)]
    )
    return representative_cycles(distances, count=count, metric=METRIC, rows=rows, engine=lambda *_: bars)
