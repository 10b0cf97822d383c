"""Sparse Vietoris-Rips persistence: an approximation with a multiplicative bound, for many points of low dimension.

Sheehy, "Linear-size approximations to the Vietoris-Rips filtration" (2013), as improved by Cavanna, Jahanseir and
Sheehy (2015): for 0 < epsilon < 1 the filtration is (1, 1/(1-epsilon))-interleaved with that of Vietoris-Rips, so the
diagrams' logarithms are within ln(1/(1-epsilon)) in bottleneck distance. It holds where the triangle inequality does.
"""

from __future__ import annotations

from aura.topology.engines.simplex_tree import intervals
from aura.topology.engines.task import Arrays, Bars, Kind, Task, distance_matrix, stacked


def factor(epsilon: float) -> float:
    """By how much values may be off, 1/(1-epsilon)."""
    return 1.0 / (1.0 - epsilon)


def bars(task: Task, arrays: Arrays) -> Bars:
    """Compute the bars of points or distances."""
    from gudhi import RipsComplex

    options = {"max_edge_length": task.threshold, "sparse": task.epsilon}
    if task.kind is Kind.POINTS and task.metric == "euclidean":
        complex_ = RipsComplex(points=arrays[0], **options)
    else:
        complex_ = RipsComplex(distance_matrix=distance_matrix(task, arrays), **options)
    return stacked(intervals(complex_.create_simplex_tree(task.max_dimension + 1), task.max_dimension))
