"""Vietoris-Rips persistence by implicit cohomology: the engine for data with structure, in any metric.

Bauer, "Ripser: efficient computation of Vietoris-Rips persistence barcodes" (2021), in GUDHI's fork, with edge collapse
(Boissonnat and Pritam, 2020) from dimension 2 on: at dimension 1 it costs more than it saves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aura.topology.engines.spanning_tree import below, components
from aura.topology.engines.task import Arrays, Bars, Kind, Task, distance_matrix, stacked


def bars(task: Task, arrays: Arrays) -> Bars:
    """Compute the bars of points, distances or edges.

    The value of a simplex is its longest edge. The filtration ends at the enclosing radius (the smallest of the largest
    distances from one item to all others): from there on the complex is a cone, and no bar of dimension 1 or more
    outlives it.
    """
    if task.kind is Kind.EDGES:
        return _of_edges(task, arrays)
    # Points as "point cloud" would lose the pairs whose distance is the threshold.
    return stacked(_persistence(task, "full distance matrix", distance_matrix(task, arrays)))


def _of_edges(task: Task, arrays: Arrays) -> Bars:
    from scipy.sparse import coo_matrix

    pairs, values, births = below(task.threshold, arrays)
    roots = components(pairs, values, births)
    if task.max_dimension == 0 or len(pairs) == 0:
        return stacked([roots])
    graph = coo_matrix((values, (pairs[:, 0], pairs[:, 1])), shape=(len(births), len(births)))
    # When vertices enter changes components alone.
    return stacked([roots, *_persistence(task, "distance coo_matrix", graph)[1:]])


def _persistence(task: Task, input_type: str, data: object) -> list[NDArray[np.float64]]:
    from gudhi.sklearn import RipsPersistence

    rips = RipsPersistence(
        homology_dimensions=range(task.max_dimension + 1),
        threshold=task.threshold,
        input_type=input_type,
        homology_coeff_field=2,
    )
    (diagrams,) = rips.fit_transform([data])
    return list(diagrams)
