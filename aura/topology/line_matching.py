"""Matchings between points on a line, where order decides: diagrams whose bars are all born at once, such as H0's.

Where the cost of a pair is a convex function of a difference, some cheapest matching crosses no two of its pairs. So it
is found by a recursion over the two sorted lists, and whether a matching exists within a radius by going through them
once.

Belongs here: points on a line. Does not: diagrams in general (`aura.topology.distances`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def cheapest_pairs(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    alone_a: NDArray[np.float64],
    alone_b: NDArray[np.float64],
    order: float,
    *,
    scale: float = 1.0,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of a cheapest matching that may leave points alone: |a - b|**order a pair, alone**order a point left.

    Takes O(m * n) time, a row at a time, and 8 * m * n bytes.

    Args:
        a: float64 [m].
        b: float64 [n].
        alone_a: float64 [m], what leaving a point costs, before the power.
        alone_b: float64 [n].
        order: The power, 1 or more.
        scale: Unit in which the powers are taken.

    Returns:
        Positions in `a` and in `b`, of the same length.
    """
    rows, columns = np.argsort(a, kind="stable"), np.argsort(b, kind="stable")
    first, second = a[rows], b[columns]
    left_first, left_second = (alone_a[rows] / scale) ** order, (alone_b[columns] / scale) ** order
    # saved[i, j] <= 0: the most that pairs among the first i and the first j points save against leaving all alone.
    saved = np.zeros((len(a) + 1, len(b) + 1))
    with np.errstate(over="ignore"):  # what overflows saves nothing
        for place, point in enumerate(first):
            paired = (np.abs(second - point) / scale) ** order - left_second - left_first[place] + saved[place, :-1]
            np.minimum.accumulate(np.minimum(paired, saved[place, 1:]), out=saved[place + 1, 1:])
    return _pairs(saved, rows, columns)


def _pairs(
    saved: NDArray[np.float64], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Go back through the recursion: a value that neither neighbour has was reached by a pair."""
    found = []
    i, j = len(rows), len(columns)
    while i and j:
        if saved[i, j] == saved[i - 1, j]:
            i -= 1
        elif saved[i, j] == saved[i, j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            found.append((i, j))
    places = np.array(found, dtype=np.intp).reshape(-1, 2)
    return rows[places[:, 0]], columns[places[:, 1]]


def all_within(points: NDArray[np.float64], others: NDArray[np.float64], radius: float) -> bool:
    """Whether every point can have one of the others for itself within a radius.

    In order, each point takes the first of the others that is near enough and not taken yet; this fails only where
    everything does.

    Args:
        points: float64 [m], increasing.
        others: float64 [n], increasing.
        radius: Closed; a rounding of the largest coordinate is forgiven.
    """
    if len(points) == 0:
        return True
    if len(points) > len(others):
        return False
    reach = radius + 2.0 * np.spacing(max(np.abs(points[[0, -1]]).max(), np.abs(others[[0, -1]]).max()))
    places = np.arange(len(points))
    taken = places + np.maximum.accumulate(np.searchsorted(others, points - reach) - places)
    return bool(taken[-1] < len(others) and (others[taken] <= points + reach).all())
