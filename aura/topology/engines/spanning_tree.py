"""Components alone: their bars end at the weights of a minimum spanning tree, whatever the number of points.

Belongs here: spanning trees of distances (Prim, 1957), of points without their n^2 distances (Boruvka, 1926, on nearest
neighbours) and of sparse graphs, and the elder rule. Does not: homology above dimension 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from aura.topology.engines.task import Arrays, Bars, Kind, Task, stacked

NEIGHBOURS = 16
BLOCK_ENTRIES = 2**22
"""Distances of one block, 32 MiB in float64."""
TREE_DIMENSIONS = 8
"""Up to this many coordinates a k-d tree finds neighbours faster than matrix products do."""
PRIM_POINTS = 512
"""Up to here the matrix of distances is cheaper than the neighbours."""


def bars(task: Task, arrays: Arrays) -> Bars:
    """Compute the bars of dimension 0 of points, distances or edges."""
    if task.max_dimension != 0:
        raise ValueError(f"a spanning tree gives components alone, asked for dimension {task.max_dimension}")
    if task.kind is Kind.EDGES:
        return stacked([components(*below(task.threshold, arrays))])
    lengths = _lengths(task, arrays[0])
    deaths = np.append(np.where(lengths <= task.threshold, lengths, np.inf), np.inf)
    return stacked([np.column_stack((np.zeros(len(deaths)), deaths))])


def _lengths(task: Task, data: NDArray[np.float64]) -> NDArray[np.float64]:
    if task.kind is Kind.DISTANCES:
        return prim(len(data), lambda row: data[row])
    distinct = np.unique(data, axis=0)
    if task.metric == "euclidean" and len(distinct) > PRIM_POINTS:
        return boruvka(distinct)
    from scipy.spatial.distance import cdist

    return prim(len(distinct), lambda row: cdist(distinct[row, None], distinct, task.metric)[0])


def prim(count: int, distances_from: Callable[[int], NDArray[np.float64]]) -> NDArray[np.float64]:
    """Weights [count - 1] of a minimum spanning tree, from one row of distances at a time, in O(count) memory."""
    nearest = np.full(count, np.inf)
    left = np.ones(count, dtype=np.bool_)
    weights = np.empty(count - 1)
    current = 0
    for position in range(count - 1):
        left[current] = False
        np.minimum(nearest, distances_from(current), out=nearest)
        current = int(np.argmin(np.where(left, nearest, np.inf)))
        weights[position] = nearest[current]
    return weights


def boruvka(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights [n - 1] of a Euclidean minimum spanning tree of different points, without their n^2 distances.

    In every round each component but the largest takes the shortest edge that leaves it. A point's nearest neighbours,
    found once, usually know it; where they all lie within the component, the points that could have a shorter edge get
    new ones outside of it. Ranking is by matrix products in centred float64 coordinates, so two edges that differ by
    less than 1e-8 of the cloud's radius may be taken for each other; weights are from differences of coordinates.

    Args:
        points: float64 [n, d], n >= 2, pairwise different.
    """
    count = len(points)
    neighbours = _Neighbours(points)
    labels = np.arange(count)
    ends: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    components = count
    while components > 1:
        chosen, targets = _shortest_leaving(neighbours, labels, components)
        order = np.argsort(neighbours.leaving[chosen], kind="stable")
        joined, parents = _joined(labels[chosen[order]], labels[targets[order]], components)
        ends.append((chosen[order][joined], targets[order][joined]))
        labels = parents[labels]
        components = int(labels.max()) + 1
    tails, heads = (np.concatenate(each) for each in zip(*ends, strict=True))
    weights = np.empty(len(tails))
    step = max(1, BLOCK_ENTRIES // points.shape[1])
    for start in range(0, len(tails), step):
        rows = slice(start, start + step)
        weights[rows] = np.linalg.norm(points[tails[rows]] - points[heads[rows]], axis=1)
    return weights


class _Neighbours:
    """For every point some of the points nearest to it, in order.

    Attributes:
        index: int64 [n, k].
        distance: float64 [n, k].
        leaving: float64 [n]: distance to the nearest point of another component, as far as it is known.
    """

    def __init__(self, points: NDArray[np.float64]) -> None:
        self._points = points - points.mean(axis=0)
        self._norms = np.vecdot(self._points, self._points)
        self.leaving = np.full(len(points), np.inf)
        count = min(NEIGHBOURS, len(points) - 1)
        if points.shape[1] <= TREE_DIMENSIONS:
            from scipy.spatial import KDTree

            # The point itself is among them; it is never outside of its component.
            distance, index = KDTree(self._points).query(self._points, k=count + 1)
            self.index, self.distance = np.asarray(index, dtype=np.int64), np.asarray(distance)
            return
        self.index = np.zeros((len(points), count), dtype=np.int64)
        self.distance = np.zeros((len(points), count))
        self.renew(np.arange(len(points)), np.arange(len(points)))

    def renew(self, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
        """Find the nearest points outside of the components of these rows."""
        count = self.index.shape[1]
        step = max(1, BLOCK_ENTRIES // len(self._points))
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            squared = self._norms - 2.0 * (self._points[block] @ self._points.T)
            squared[labels[block][:, None] == labels] = np.inf
            found = np.argpartition(squared, count - 1, axis=1)[:, :count]
            values = np.take_along_axis(squared, found, axis=1)
            order = np.argsort(values, axis=1, kind="stable")
            self.index[block] = np.take_along_axis(found, order, axis=1)
            values = np.take_along_axis(values, order, axis=1) + self._norms[block][:, None]
            self.distance[block] = np.sqrt(np.maximum(values, 0.0))


def _shortest_leaving(
    neighbours: _Neighbours, labels: NDArray[np.int64], components: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every component but the largest, the two points of its shortest leaving edge."""
    outside = labels[neighbours.index] != labels[:, None]
    known = outside.any(axis=1)
    rows = np.arange(len(labels))
    first = np.argmax(outside, axis=1)
    neighbours.leaving = np.where(known, neighbours.distance[rows, first], np.inf)
    best = np.full(components, np.inf)
    np.minimum.at(best, labels, neighbours.leaving)
    largest = int(np.argmax(np.bincount(labels, minlength=components)))
    # An edge of theirs may be shorter than the best one that is known.
    doubtful = ~known & (neighbours.distance[:, -1] < best[labels]) & (labels != largest)
    if doubtful.any():
        again = np.flatnonzero(doubtful)
        neighbours.renew(again, labels)
        first[again] = 0
        neighbours.leaving[again] = neighbours.distance[again, 0]
    order = np.lexsort((neighbours.leaving, labels))
    starts = order[np.unique(labels[order], return_index=True)[1]]
    starts = starts[labels[starts] != largest]
    return starts, neighbours.index[starts, first[starts]]


def _joined(
    tails: NDArray[np.int64], heads: NDArray[np.int64], components: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Join components along edges in their order; say which edges closed no circle, and give the new labels."""
    parent = np.arange(components)

    def root(label: int) -> int:
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    joins = np.zeros(len(tails), dtype=np.bool_)
    for position, (tail, head) in enumerate(zip(tails.tolist(), heads.tolist(), strict=True)):
        one, other = root(tail), root(head)
        if one != other:
            parent[one] = other
            joins[position] = True
    roots = np.array([root(label) for label in range(components)])
    return joins, np.unique(roots, return_inverse=True)[1]


def forest(
    pairs: NDArray[np.int64], values: NDArray[np.float64], vertices: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Minimum spanning forest of a sparse graph with values above 0: its edges [m, 2] and values [m], ascending."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import minimum_spanning_tree

    graph = coo_matrix((values, (pairs[:, 0], pairs[:, 1])), shape=(vertices, vertices))
    tree = minimum_spanning_tree(graph.tocsr()).tocoo()
    order = np.argsort(tree.data, kind="stable")
    return np.column_stack((tree.row, tree.col)).astype(np.int64)[order], tree.data[order]


def below(threshold: float, arrays: Arrays) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The arrays of a graph (pairs, values, births) without the edges and the vertices beyond a threshold."""
    pairs, values, births = arrays
    kept = values <= threshold
    return pairs[kept], values[kept], np.where(births <= threshold, births, np.inf)


def components(
    pairs: NDArray[np.int64], values: NDArray[np.float64], births: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Bars [m, 2] of dimension 0 of a graph with values above 0, whose vertices are born no later than their edges."""
    return elder_rule(*forest(pairs, values, len(births)), births)


def elder_rule(
    pairs: NDArray[np.int64], values: NDArray[np.float64], births: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Bars [m, 2] of components that are born with their vertices: where two meet, the younger one ends.

    Args:
        pairs: int64 [m, 2], a forest's edges in the order of their values.
        values: float64 [m], no smaller than the births of their vertices.
        births: float64 [n]; infinite for a vertex that never enters.
    """
    oldest = births.copy()
    parent = np.arange(len(births))

    def root(vertex: int) -> int:
        while parent[vertex] != vertex:
            parent[vertex] = parent[parent[vertex]]
            vertex = parent[vertex]
        return vertex

    ended = np.empty((len(pairs), 2))
    for position, (tail, head) in enumerate(pairs.tolist()):
        one, other = root(tail), root(head)
        elder, younger = (one, other) if oldest[one] <= oldest[other] else (other, one)
        ended[position] = oldest[younger], values[position]
        parent[younger] = elder
    endless = oldest[(parent == np.arange(len(births))) & np.isfinite(births)]
    return np.concatenate([ended, np.column_stack((endless, np.full(len(endless), np.inf)))])
