"""Distances between persistence diagrams of one dimension, all under one convention.

The ground metric is l-infinity, so a point is half its length away from the diagonal. A matching pairs points with
points, leaves the others to the diagonal, and costs the largest of its distances (bottleneck) or the `order`-th root of
the sum of their powers (Wasserstein): Cohen-Steiner, Edelsbrunner, Harer, "Stability of persistence diagrams" (2007),
and "Lipschitz functions have L_p-stable persistence" (2010). It is what GUDHI and hera compute with internal_p = inf;
persim takes the Euclidean norm instead and leaves out bars that never end. Here a bar that never ends is matched to one
that never ends, in the order of their finite ends, which is optimal on a line; where the two diagrams do not have the
same number of them the distance is infinite. Points on the diagonal are nothing.

Belongs here: what a distance is and which engine computes it. Does not: what a distance means (`aura.topology.drift`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from aura.topology.assignment import best_savings
from aura.topology.line_matching import all_within, cheapest_pairs

Distance = Callable[[NDArray[np.floating], NDArray[np.floating]], float]
"""A distance between two diagrams, each [m, 2]."""

EXACT_PAIRS = 4_000_000
"""Pairs of finite points up to which the assignment problem is solved exactly: 0.09 to 0.21 s of CPU at 2,000 by 2,000
points, where hera takes 0.20 to 0.28 s for an error of 1 %; at 3,000 by 3,000 up to 1.4 s against 0.35 s."""

LINE_POINTS = 100
"""Points of the smaller diagram from which on a recursion over bars of one birth takes less CPU time than the
assignment: 0.9 ms against 0.6 to 1.3 ms at 100 points, 16 ms against 0.16 to 1.3 s at 1,000."""

LINE_PAIRS = 9_000_000
"""Pairs of bars of one birth up to which the recursion holds its table (8 bytes each)."""

BOTTLENECK_PAIRS = 4_000_000
"""Pairs of finite points up to which all their distances are held in memory (8 bytes each) to search among them."""

RELATIVE_ERROR = 0.01
"""Largest relative error of a Wasserstein distance beyond `EXACT_PAIRS`; hera's own default."""

LEAST_SHARE = 3e-14
"""Least mean power of a point's cost, in powers of the longest cost, for which hera is asked: at 2e-14 it answered at
once, at 2e-15 its auction went on without end, in the orders 1 to 3."""


class DistanceError(ValueError):
    """A distance was asked between things that are no diagrams, or of an order that does not exist."""


def bottleneck(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Bottleneck distance between two diagrams, exact up to the rounding of coordinate differences.

    Up to `BOTTLENECK_PAIRS` pairs the smallest radius is searched among the distances that occur. At a radius r the
    points farther than r from the diagonal must find partners within r. By the theorem of Mendelsohn and Dulmage
    (1958) one matching serves both sides as soon as either side has one of its own, so two bipartite matchings
    (Hopcroft, Karp) among the long bars decide. Beyond, hera's exact search on k-d trees.

    Args:
        a: [m, 2], birth and death; death (or birth) may be infinite.
        b: [n, 2].

    Returns:
        The distance, in the diagrams' unit; infinite where the numbers of bars that never end differ.

    Raises:
        DistanceError: A diagram has the wrong shape, NaN, or a bar that dies before it is born.
    """
    first, second = _split(a, "a"), _split(b, "b")
    essential = _essential_shifts(first, second)
    if essential is None:
        return math.inf
    return max(_finite_bottleneck(first.finite, second.finite), float(essential.max(initial=0.0)))


def wasserstein(a: NDArray[np.floating], b: NDArray[np.floating], order: float = 1.0) -> float:
    """Wasserstein distance between two diagrams: exact up to `EXACT_PAIRS` pairs of finite points, then within 1 %.

    Exact up to `LINE_PAIRS` where all finite bars are born at once, as in H0 (`aura.topology.line_matching`).

    The exact engine is an assignment over what a pair saves against leaving both of its points to the diagonal
    (`aura.topology.assignment`): m by n instead of (m + n) by (m + n), and no point has to be matched. Beyond, hera's
    auction on k-d trees (Kerber, Morozov, Nigmetov, "Geometry helps to compare persistence diagrams", 2017) with
    `RELATIVE_ERROR` on the finite part. POT's network simplex is slower than the assignment at every size that was
    measured, and 5 s of imports away.

    Of order 1 exact means up to the rounding of coordinates. Of a higher order small differences would drown beside the
    powers of long bars: where the distance is short beside them, the assignment is solved again in units of an upper
    bound of the distance, with what costs more than the bound cut off, which no cheapest matching uses. So its relative
    error is a rounding too: at most 1e-16 times the square of the number of points, and some roundings in practice.

    Args:
        a: [m, 2], birth and death; death (or birth) may be infinite.
        b: [n, 2].
        order: The power, 1 or more; infinite gives the bottleneck distance.

    Returns:
        The distance, in the diagrams' unit; infinite where the numbers of bars that never end differ.

    Raises:
        DistanceError: A diagram has the wrong shape, NaN, or a bar that dies before it is born; `order` is below 1;
            beyond `EXACT_PAIRS` the diagrams are so near each other that hera would not end (`LEAST_SHARE`).
    """
    if not order >= 1:
        raise DistanceError(f"order {order}: a Wasserstein distance has the order 1 or more")
    if math.isinf(order):
        return bottleneck(a, b)
    first, second = _split(a, "a"), _split(b, "b")
    essential = _essential_shifts(first, second)
    if essential is None:
        return math.inf
    costs = np.append(essential, _finite_wasserstein(first.finite, second.finite, order))
    return _power_mean_sum(costs, order)


def pairwise(
    diagrams: Sequence[NDArray[np.floating]],
    distance: Distance = wasserstein,
    others: Sequence[NDArray[np.floating]] | None = None,
) -> NDArray[np.float64]:
    """Distances between all diagrams of a list, or between two lists.

    Args:
        diagrams: k diagrams, each [m, 2].
        distance: `bottleneck`, `wasserstein`, or for another order `functools.partial(wasserstein, order=2)`.
        others: None, or l diagrams to compare with instead.

    Returns:
        float64 [k, k], symmetric with a zero diagonal, or [k, l].
    """
    if others is not None:
        rows = [[distance(one, other) for other in others] for one in diagrams]
        return np.array(rows, dtype=np.float64).reshape(len(diagrams), len(others))
    matrix = np.zeros((len(diagrams), len(diagrams)))
    for row, one in enumerate(diagrams):
        for column in range(row):
            matrix[row, column] = matrix[column, row] = distance(one, diagrams[column])
    return matrix


@dataclass(frozen=True)
class _Split:
    """A diagram off the diagonal, by what is infinite.

    Attributes:
        finite: float64 [k, 2].
        deathless: float64 [e], sorted births of the bars that never end.
        birthless: float64 [f], sorted deaths of the bars that were always there.
        everlasting: Number of bars without either end.
    """

    finite: NDArray[np.float64]
    deathless: NDArray[np.float64]
    birthless: NDArray[np.float64]
    everlasting: int


def _split(diagram: NDArray[np.floating], name: str) -> _Split:
    bars = np.asarray(diagram, dtype=np.float64)
    if bars.size == 0:
        bars = bars.reshape(0, 2)
    if bars.ndim != 2 or bars.shape[1] != 2:
        raise DistanceError(f"diagram {name} has shape {bars.shape}, expected [m, 2]: birth and death of one dimension")
    birth, death = bars[:, 0], bars[:, 1]
    wrong = ~(birth <= death)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DistanceError(
            f"diagram {name} holds the bar ({birth[row]}, {death[row]}) in row {row}, expected birth <= death and no"
            " NaN: negate the values of a filtration that runs downwards"
        )
    off = birth < death
    if off.all() and np.isfinite(bars).all():
        nothing = np.empty(0)
        return _Split(finite=bars, deathless=nothing, birthless=nothing, everlasting=0)
    born, dies = np.isfinite(birth), np.isfinite(death)
    return _Split(
        finite=bars[off & born & dies],
        deathless=np.sort(birth[off & born & ~dies]),
        birthless=np.sort(death[off & ~born & dies]),
        everlasting=int((off & ~born & ~dies).sum()),
    )


def _essential_shifts(a: _Split, b: _Split) -> NDArray[np.float64] | None:
    """How far each bar that never ends is from its partner; None where one has no partner."""
    if (len(a.deathless), len(a.birthless), a.everlasting) != (len(b.deathless), len(b.birthless), b.everlasting):
        return None
    return np.abs(np.concatenate((a.deathless - b.deathless, a.birthless - b.birthless)))


def _half_lengths(bars: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances to the diagonal [m]; halved first, so that no finite bar overflows."""
    half: NDArray[np.float64] = bars[:, 1] / 2 - bars[:, 0] / 2
    return half


def _ground(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances [m, n] between the points of two diagrams."""
    from scipy.spatial.distance import cdist

    distances: NDArray[np.float64] = cdist(a, b, "chebyshev")
    return distances


def _power_mean_sum(costs: NDArray[np.float64], order: float) -> float:
    """The l_order norm of costs [k], scaled by the largest so that no power overflows or vanishes."""
    largest = float(costs.max(initial=0.0))
    if largest == 0:
        return 0.0
    return float(largest * ((costs / largest) ** order).sum() ** (1.0 / order))


def _finite_wasserstein(a: NDArray[np.float64], b: NDArray[np.float64], order: float) -> float:
    alone_a, alone_b = _half_lengths(a), _half_lengths(b)
    if len(a) == 0 or len(b) == 0:
        return _power_mean_sum(np.concatenate((alone_a, alone_b)), order)
    pairs: Callable[[float], tuple[NDArray[np.intp], NDArray[np.intp]]]
    if _on_a_long_line(a, b) and len(a) * len(b) <= LINE_PAIRS:
        pairs = partial(_pairs_on_a_line, a, b, order)
    elif len(a) * len(b) <= EXACT_PAIRS:
        pairs = partial(_cheapest_pairs, a, b, _ground(a, b), order)
    else:
        return _hera_wasserstein(a, b, order)

    def cost(scale: float) -> float:
        rows, columns = pairs(scale)
        paired = np.abs(a[rows] - b[columns]).max(axis=1, initial=0.0)
        return _power_mean_sum(np.concatenate((paired, np.delete(alone_a, rows), np.delete(alone_b, columns))), order)

    scale = max(float(alone_a.max()), float(alone_b.max()))
    found = cost(scale)
    half = 2.0 ** (-1.0 / order)  # half the sum of powers
    if order == 1 or found >= half * scale:
        return found
    scale = min(found, (len(a) + len(b)) ** (1.0 / order) * _finite_bottleneck(a, b))
    if scale == 0:
        return 0.0
    found = min(found, cost(scale))
    return found if found >= half * scale else min(found, cost(found))


def _on_a_long_line(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Whether all bars are born at once, and so many that the recursion on a line is worth while."""
    return min(len(a), len(b)) >= LINE_POINTS and bool((a[:, 0] == b[0, 0]).all() and (b[:, 0] == b[0, 0]).all())


def _pairs_on_a_line(
    a: NDArray[np.float64], b: NDArray[np.float64], order: float, scale: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pairs of a cheapest matching of bars with one birth, in units of `scale` as in `_cheapest_pairs`."""
    left_a, left_b = (np.minimum(_half_lengths(bars), scale) for bars in (a, b))
    return cheapest_pairs(a[:, 1], b[:, 1], left_a, left_b, order, scale=scale)


def _cheapest_pairs(
    a: NDArray[np.float64], b: NDArray[np.float64], together: NDArray[np.float64], order: float, scale: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pairs (rows, columns) of a cheapest matching: those that cost less than their points left alone.

    What leaving a point costs is cut off at `scale`, which has to be no less than all of these costs or than the
    distance: the sums of powers are rounded in its units.
    """
    left_a, left_b = (np.minimum(_half_lengths(bars) / scale, 1.0) ** order for bars in (a, b))
    with np.errstate(over="ignore"):  # what overflows saves nothing
        saved = (together / scale) ** order - (left_a[:, None] + left_b)
    return best_savings(a, b, np.minimum(saved, 0.0))


def _hera_wasserstein(a: NDArray[np.float64], b: NDArray[np.float64], order: float) -> float:
    from gudhi.hera import wasserstein_distance

    least, longest = _at_least(a, b, order), float(max(_half_lengths(a).max(), _half_lengths(b).max()))
    if 0 < least < (LEAST_SHARE * (len(a) + len(b))) ** (1.0 / order) * longest:
        raise DistanceError(
            f"diagrams of {len(a)} and {len(b)} points, about {least:.2g} apart in the order {order:g} with bars"
            f" {2 * longest:.2g} long, are too near each other for the engine beyond {EXACT_PAIRS} pairs of points:"
            " take a lower order, the bottleneck distance, or fewer bars"
        )
    (a, b), scale = _near_one(a, b)
    return scale * float(wasserstein_distance(a, b, order=order, internal_p=math.inf, delta=RELATIVE_ERROR))


def _at_least(a: NDArray[np.float64], b: NDArray[np.float64], order: float) -> float:
    """Lower bound of the distance: what the points of one side cost with the nearest of the other, or alone."""
    from scipy.spatial import KDTree

    nearest = (np.minimum(KDTree(y).query(x, p=np.inf)[0], _half_lengths(x)) for x, y in ((a, b), (b, a)))
    return max(_power_mean_sum(costs, order) for costs in nearest)


def _near_one(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], float]:
    """Move and scale two diagrams together into the unit interval, by a power of two: return them and that power."""
    origin = min(float(a[:, 0].min()), float(b[:, 0].min()))
    reach = max(float(a[:, 1].max()) / 2 - origin / 2, float(b[:, 1].max()) / 2 - origin / 2)
    scale = 2.0 ** math.ceil(math.log2(reach))
    return ((a / scale - origin / scale) / 2, (b / scale - origin / scale) / 2), 2 * scale


def _finite_bottleneck(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    alone_a, alone_b = _half_lengths(a), _half_lengths(b)
    if len(a) == 0 or len(b) == 0:
        return float(np.concatenate((alone_a, alone_b)).max(initial=0.0))
    if len(a) * len(b) > BOTTLENECK_PAIRS:
        from gudhi.hera import bottleneck_distance

        (a, b), scale = _near_one(a, b)
        return scale * float(bottleneck_distance(a, b, delta=0.0))
    together, longest = _ground(a, b), max(float(alone_a.max()), float(alone_b.max()))
    if _on_a_long_line(a, b):
        fits = _fits_on_a_line(a, b, alone_a, alone_b)
        pairs = partial(_pairs_on_a_line, a, b, 1.0, longest)
    else:
        fits = _fits(together, alone_a, alone_b)
        pairs = partial(_cheapest_pairs, a, b, together, 1.0, longest)
    return _smallest_radius(together, alone_a, alone_b, fits=fits, pairs=pairs)


def _smallest_radius(
    together: NDArray[np.float64],
    alone_a: NDArray[np.float64],
    alone_b: NDArray[np.float64],
    *,
    fits: Callable[[float], bool],
    pairs: Callable[[], tuple[NDArray[np.intp], NDArray[np.intp]]],
) -> float:
    """Search the smallest radius at which a matching exists, from what each point costs at least to one matching."""
    cheapest_a = np.minimum(alone_a, together.min(axis=1))
    cheapest_b = np.minimum(alone_b, together.min(axis=0))
    lower = max(float(cheapest_a.max()), float(cheapest_b.max()))
    if fits(lower):
        return lower
    rows, columns = pairs()
    costs = (together[rows, columns], np.delete(alone_a, rows), np.delete(alone_b, columns))
    upper = max(float(each.max(initial=0.0)) for each in costs)
    between = [values[(values > lower) & (values <= upper)] for values in (together, alone_a, alone_b)]
    radii = np.unique(np.concatenate(between))
    low, high = 0, len(radii) - 1
    while low < high:
        middle = (low + high) // 2
        if fits(float(radii[middle])):
            high = middle
        else:
            low = middle + 1
    return float(radii[high])


def _fits(
    together: NDArray[np.float64], alone_a: NDArray[np.float64], alone_b: NDArray[np.float64]
) -> Callable[[float], bool]:
    def fits(radius: float) -> bool:
        near = together <= radius
        return _all_matched(near[alone_a > radius]) and _all_matched(near.T[alone_b > radius])

    return fits


def _fits_on_a_line(
    a: NDArray[np.float64], b: NDArray[np.float64], alone_a: NDArray[np.float64], alone_b: NDArray[np.float64]
) -> Callable[[float], bool]:
    deaths_a, deaths_b = np.sort(a[:, 1]), np.sort(b[:, 1])
    sorted_a, sorted_b = np.sort(alone_a), np.sort(alone_b)  # one birth: in the order of the deaths

    def fits(radius: float) -> bool:
        return all_within(deaths_a[sorted_a > radius], deaths_b, radius) and all_within(
            deaths_b[sorted_b > radius], deaths_a, radius
        )

    return fits


def _all_matched(allowed: NDArray[np.bool_]) -> bool:
    """Whether a bipartite matching covers all rows of bool [m, n]."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    if len(allowed) == 0:
        return True
    if len(allowed) > allowed.shape[1] or not allowed.any(axis=1).all():
        return False
    partners = maximum_bipartite_matching(csr_array(allowed), perm_type="column")
    return bool((partners >= 0).all())
