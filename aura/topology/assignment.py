"""The assignment problem between two diagrams: which pairs save most against leaving both points to the diagonal.

SciPy's dense solver (Crouse, "On implementing 2D rectangular assignment algorithms", 2016) is the fastest up to some
hundred points. Beyond, its sparse one (Jonker, Volgenant) is, where few pairs save anything, as with short bars. Where
many do, the dense one is faster when it starts from the prices of a smaller problem, that among near neighbours.
Prices only say where to look first: all three ways are exact.

Belongs here: the assignment. Does not: what a pair costs (`aura.topology.distances`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MANY_POINTS = 700
"""Points of the smaller diagram from which on the sparse solver and prices pay: 63 instead of 112 ms of CPU for the H1
of 1,000 embeddings, 0.21 instead of 0.55 s for 2,000 long bars; at 300 points they cost 1 to 3 ms more."""
SPARSE_SHARE = 0.1
"""Share of the pairs that save something up to which the sparse solver takes them all: 88 instead of 109 ms for 2,000
short bars, of whose pairs 5 % save something, where prices took 186."""
NEIGHBOURS = 25
"""Nearest points of the other diagram in the smaller problem: with up to 12 the start is worse than none, with 20 to 30
it makes little difference."""
MOST_ROUNDS = 200
"""Rounds in which prices settle; 20 to 107 were seen."""


def best_savings(
    a: NDArray[np.float64], b: NDArray[np.float64], saved: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Choose pairs, no point twice, with the least sum of `saved`.

    Args:
        a: float64 [m, 2], finite points.
        b: float64 [n, 2].
        saved: float64 [m, n], at most 0; 0 where a pair saves nothing.

    Returns:
        Rows and columns of the pairs that save something.
    """
    if len(a) > len(b):
        columns, rows = best_savings(b, a, np.ascontiguousarray(saved.T))
        return rows, columns
    if len(a) < MANY_POINTS:
        return _dense(saved, saved)
    useful = saved < 0
    if useful.mean() <= SPARSE_SHARE:
        partners = _partners(saved, *np.nonzero(useful))
        (rows,) = np.nonzero(partners < len(b))
        return rows, partners[rows]
    return _dense(_priced(saved, _prices(a, b, saved)), saved)


def _dense(costs: NDArray[np.float64], saved: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Solve with costs [k, n] whose first m rows differ from saved [m, n] only by what each column adds to all."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = (each[: len(saved)] for each in linear_sum_assignment(costs))
    useful = saved[rows, columns] < 0
    return rows[useful], columns[useful]


def _priced(saved: NDArray[np.float64], prices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Costs [n, n] less the price of each column, with rows that save nothing so that all columns are taken."""
    costs = np.empty((saved.shape[1], saved.shape[1]))
    np.subtract(saved, prices, out=costs[: len(saved)])
    costs[len(saved) :] = -prices
    return costs


def _prices(a: NDArray[np.float64], b: NDArray[np.float64], saved: NDArray[np.float64]) -> NDArray[np.float64]:
    """Prices [n] of the columns under which the best pairs among near neighbours are best for each of their points.

    They are the shortest paths from the pairs over what changing a partner costs (Bellman, Ford).
    """
    rows, columns = _near_pairs(a, b, saved)
    if len(rows) == 0:
        return np.zeros(saved.shape[1])
    partner = _partners(saved, rows, columns)
    count = saved.shape[1]
    alone = partner == count
    own = np.where(alone, 0.0, saved[np.arange(len(a)), np.where(alone, 0, partner)])
    change, source = saved[rows, columns] - own[rows], partner[rows]
    first = np.flatnonzero(np.diff(columns, prepend=-1))
    reached = columns[first]
    prices = np.zeros(count + 1)  # the last one is the diagonal's
    for _ in range(MOST_ROUNDS):
        lower = np.minimum(prices[reached], np.minimum.reduceat(prices[source] + change, first))
        if (lower >= prices[reached] - 1e-15).all():
            break
        prices[reached] = lower
    return prices[:count]


def _near_pairs(
    a: NDArray[np.float64], b: NDArray[np.float64], saved: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of near neighbours that save something, by column."""
    from scipy.spatial import KDTree

    near = np.zeros(saved.shape, dtype=np.bool_)
    for points, others, seen in ((a, b, near), (b, a, near.T)):
        _, neighbours = KDTree(others).query(points, min(NEIGHBOURS, len(others)), p=np.inf)
        np.put_along_axis(seen, neighbours.reshape(len(points), -1), values=True, axis=1)
    columns, rows = np.nonzero((near & (saved < 0)).T)
    return rows, columns


def _partners(saved: NDArray[np.float64], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.intp]:
    """Best column [m] for each row among some pairs; the number of columns where it is left alone."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    height, width = saved.shape
    every = np.arange(height)
    # Each row may also take a column of its own, which stands for the diagonal. The solver wants no zeros.
    weights = np.concatenate((saved[rows, columns], np.zeros(height))) + (1.0 - saved.min())
    places = (np.concatenate((rows, every)), np.concatenate((columns, width + every)))
    found, chosen = min_weight_full_bipartite_matching(csr_array((weights, places), shape=(height, width + height)))
    partners = np.full(height, width, dtype=np.intp)
    partners[found] = np.minimum(chosen, width)
    return partners
