"""Vietoris-Rips persistence over an explicit complex: the engine for small clouds without structure.

All simplices are kept in a tree (Boissonnat and Maria, 2014) and reduced with the compressed annotation matrix
(Boissonnat, Dey, Maria, 2013), which does not fill in on nearly equal distances as the implicit reduction does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aura.topology.engines.spanning_tree import below, components
from aura.topology.engines.task import Arrays, Bars, Kind, Task, distance_matrix, stacked

if TYPE_CHECKING:
    from gudhi import SimplexTree


def bars(task: Task, arrays: Arrays) -> Bars:
    """Compute the bars of points, distances or edges, up to the enclosing radius as `aura.topology.engines.rips`."""
    from gudhi import SimplexTree

    if task.kind is Kind.EDGES:
        pairs, values, births = below(task.threshold, arrays)
        roots = components(pairs, values, births)
        tree = SimplexTree()
        tree.insert_batch(np.arange(len(births))[None], np.zeros(len(births)))
        tree.insert_batch(np.ascontiguousarray(pairs.T), values)
        # When vertices enter changes components alone.
        return stacked([roots, *_persistence(tree, task.max_dimension)[1:]])
    distances = distance_matrix(task, arrays)
    enclosing = float(distances.max(axis=1).min())
    tree = SimplexTree.create_from_array(distances, max_filtration=min(enclosing, task.threshold))
    return stacked(_persistence(tree, task.max_dimension))


def _persistence(tree: SimplexTree, max_dimension: int) -> list[NDArray[np.float64]]:
    tree.expansion(max_dimension + 1)
    return intervals(tree, max_dimension)


def intervals(tree: SimplexTree, max_dimension: int) -> list[NDArray[np.float64]]:
    """Diagrams [m, 2] of dimensions 0 to `max_dimension` of a filtered complex, over the field of two elements."""
    tree.compute_persistence(homology_coeff_field=2, persistence_dim_max=max_dimension >= tree.dimension())
    found = [np.asarray(tree.persistence_intervals_in_dimension(k), dtype=np.float64) for k in range(max_dimension + 1)]
    return [each.reshape(-1, 2) for each in found]
