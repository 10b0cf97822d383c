"""Cycles of edges in a Rips filtration, modulo those that are filled by triangles, without a list of triangles.

When an edge enters a Rips filtration together with all its triangles, three things may happen. Its link (the points
that form triangles with it) is empty: it joins two components or bears a class. Its link is connected: nothing, the
edge is homologous to the two sides of any of its triangles. Its link has k components: k - 1 classes die, each the
class of a quadrilateral whose diagonal is the edge and whose other two corners lie in different components. So the
reduction of persistent homology needs one chain for each class that dies, not one for each triangle. Coefficients are
in the field of two elements.

Belongs here: the order of edges, their links, the reduction. Does not: bars, and which cycles stand for them
(`aura.topology.cycles`).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray


class EdgeFiltration:
    """The edges of a Rips filtration in a total order: by length, ties by their vertices.

    Attributes:
        lengths: float64 [e], increasing.
        ends: int64 [e, 2], the vertices of each edge.
        position: int64 [m, m], the place of every edge in the order; e, after all others, on the diagonal.
    """

    def __init__(self, distances: NDArray[np.float64]) -> None:
        self.distances = distances
        first, second = np.triu_indices(len(distances), 1)
        order = np.argsort(distances[first, second], kind="stable")
        self.lengths = distances[first, second][order]
        self.ends = np.column_stack((first, second))[order]
        self.position = np.full(distances.shape, len(order), dtype=np.int64)
        self.position[self.ends[:, 0], self.ends[:, 1]] = np.arange(len(order))
        self.position[self.ends[:, 1], self.ends[:, 0]] = np.arange(len(order))

    def of_length(self, length: float) -> range:
        """Edges of exactly this length."""
        first, after = (int(np.searchsorted(self.lengths, length, side=side)) for side in ("left", "right"))
        return range(first, after)

    def apex(self, edge: int) -> int | None:
        """Return the third vertex of the earliest triangle in which the edge is the last one; None: there is none."""
        first, second = self.ends[edge]
        complete = np.maximum(self.position[first], self.position[second])
        apex = int(np.argmin(complete))
        return apex if complete[apex] < edge else None

    def sides(self, edge: int, apex: int) -> tuple[int, int]:
        """Return the other two edges of a triangle."""
        first, second = self.ends[edge]
        return int(self.position[first, apex]), int(self.position[second, apex])

    def killed(self, edge: int) -> list[tuple[int, ...]]:
        """Return the quadrilaterals over an edge that are filled when it enters, one for each class that it kills."""
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import connected_components

        first, second = self.ends[edge]
        complete = np.maximum(self.position[first], self.position[second])
        link = np.flatnonzero(complete < edge)
        if len(link) < 2:
            return []
        parts, label = connected_components(csr_array(self.position[np.ix_(link, link)] < edge), directed=False)
        early = link[np.argsort(complete[link], kind="stable")]
        labels = dict(zip(link.tolist(), label.tolist(), strict=True))
        apexes: dict[int, int] = {}
        for vertex in early.tolist():
            apexes.setdefault(labels[vertex], vertex)
        if parts < 2:
            return []
        one, *others = apexes.values()
        return [(*self.sides(edge, one), *self.sides(edge, other)) for other in others]

    def cycles_through(self, edge: int) -> Iterator[list[int]]:
        """Give the vertices of simple cycles through an edge among the edges before it, the shortest one first.

        They are a shortest path from one end to some vertex followed by a shortest path from there to the other end,
        by their lengths.
        """
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import dijkstra

        ends, shape = self.ends[:edge], self.distances.shape
        graph = csr_array((self.lengths[:edge], (ends[:, 0], ends[:, 1])), shape=shape)
        away, before = dijkstra(graph, directed=False, indices=self.ends[edge], return_predecessors=True)
        length, trees = away.sum(axis=0), before.tolist()
        seen: set[frozenset[int]] = set()
        for middle in np.argsort(length, kind="stable").tolist():
            if not math.isfinite(length[middle]):
                return
            one, other = (_path(tree, middle) for tree in trees)
            cycle = [*reversed(one), *other[1:]]
            if len(set(cycle)) == len(cycle) and frozenset(cycle) not in seen:
                seen.add(frozenset(cycle))
                yield cycle

    def edges_of(self, vertices: list[int]) -> list[int]:
        """Return the edges of a closed walk."""
        return [int(self.position[one, other]) for one, other in zip(vertices, np.roll(vertices, -1), strict=True)]

    def perimeter(self, vertices: list[int]) -> float:
        """Sum of the lengths of a closed walk's edges."""
        return float(self.lengths[self.edges_of(vertices)].sum())

    def single_cycle(self, edges: Iterable[int]) -> list[int]:
        """Return the vertices of a set of edges in order where it is one simple cycle, else nothing."""
        neighbours: dict[int, list[int]] = {}
        for one, other in self.ends[list(edges)].tolist():
            neighbours.setdefault(one, []).append(other)
            neighbours.setdefault(other, []).append(one)
        if any(len(each) != 2 for each in neighbours.values()):
            return []
        walk = [next(iter(neighbours))]
        while True:
            following = [each for each in neighbours[walk[-1]] if len(walk) < 2 or each != walk[-2]]
            if following[0] == walk[0]:
                return walk if len(walk) == len(neighbours) else []
            walk.append(following[0])


class OutOfStepsError(Exception):
    """The reduction replaced as many edges as it may."""


class Reduction:
    """Cycles modulo what is filled: chains of edges over two elements, each with its last edge as pivot.

    Attributes:
        filled: For the pivot of every cycle that is known to be filled, its other edges.
    """

    def __init__(self, filtration: EdgeFiltration, most_steps: int) -> None:
        self.filtration = filtration
        self.filled: dict[int, list[int]] = {}
        self._apexes: dict[int, int | None] = {}
        self._filled_at: dict[float, list[int]] = {}
        self._steps_left = most_steps

    def fill(self, length: float) -> list[int]:
        """Note every cycle that is filled when the edges of a length enter; return the pivots of those cycles.

        Lengths are to come in increasing order, so that nothing is filled before its time.
        """
        if length not in self._filled_at:
            pivots = self._filled_at[length] = []
            for edge in self.filtration.of_length(length):
                for quadrilateral in self.filtration.killed(edge):
                    chain = self.remainder(quadrilateral)
                    if chain:
                        pivot = max(chain)
                        self.filled[pivot] = sorted(chain - {pivot})
                        pivots.append(pivot)
        return self._filled_at[length]

    def remainder(self, cycle: Iterable[int]) -> set[int]:
        """Replace last edges by what they are homologous to, until nothing is left or the last edge stays."""
        chain: set[int] = set()
        heap: list[int] = []
        _toggle(chain, heap, cycle)
        while chain:
            last = -heap[0]
            if last not in chain:
                heapq.heappop(heap)
                continue
            replacement = self._replacement(last)
            if replacement is None:
                return chain
            self._steps_left -= 1
            if self._steps_left < 0:
                raise OutOfStepsError
            chain.remove(last)
            heapq.heappop(heap)
            _toggle(chain, heap, replacement)
        return chain

    def _replacement(self, edge: int) -> Iterable[int] | None:
        if edge not in self._apexes:
            self._apexes[edge] = self.filtration.apex(edge)
        apex = self._apexes[edge]
        if apex is not None:
            return self.filtration.sides(edge, apex)
        if edge not in self.filled:
            # Among edges of one length a later one may kill what an earlier one bears: a bar without length.
            self.fill(float(self.filtration.lengths[edge]))
        return self.filled.get(edge)


def _toggle(chain: set[int], heap: list[int], edges: Iterable[int]) -> None:
    """Add edges to a chain over two elements."""
    for edge in edges:
        if edge in chain:
            chain.remove(edge)
        else:
            chain.add(edge)
            heapq.heappush(heap, -edge)


def _path(before: list[int], last: int) -> list[int]:
    """Vertices from the last one of a path back to where its tree of predecessors begins."""
    path = [last]
    while before[path[-1]] >= 0:
        path.append(before[path[-1]])
    return path
