"""Which object goes to which tier: the multiple-choice knapsack behind the placement, with a certified lower bound.

Minimise the sum over objects of `cost[object, tier]` with each object in exactly one tier and the bytes of each tier
within its capacity. Prices of the tiers' bytes (`prices.py`) give a lower bound, the value of the Lagrangian dual,
which holds for whatever prices >= 0; a repair (`repair.py`) makes an assignment of them. With few objects the dual
itself is loose, since one object is a large share of a tier; there a bounded branch and bound (`exact.py`) closes the
gap from both sides. (Kellerer, Pferschy, Pisinger, Knapsack Problems, 2004, chapter 11.)

Belongs here: solving the combinatorial problem on plain arrays. Does not: what the costs mean (`plan.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from aura.tiers.planning.choices import Choices, Floats, Integers, PlacementProblemError
from aura.tiers.planning.exact import search
from aura.tiers.planning.prices import dual_prices
from aura.tiers.planning.repair import assign, improve

CLOSE_ENOUGH = 5e-5
"""Share of the bound by which a cost may be above it without another attempt at rounding."""

ATTEMPTS = 16
"""Attempts at rounding, at most, each at slightly different prices: they decide which of the objects at the margin get
in, and the order of the prices does not tell which of them leave the smallest hole."""

ATTEMPT_OBJECTS = 400_000
"""Objects over all attempts, but four attempts at least: with many objects a hole is a small share of a tier."""

SHAKES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Standard deviations of the logarithm of the prices, in turn."""

SEARCH_ABOVE_GAP = 1e-3
"""Branch and bound is worth its time only when the gap is above this; it also stops there."""


class Solution(NamedTuple):
    """A feasible assignment and how good it is."""

    assignment: np.ndarray
    """int64[n]: the tier of each object."""
    cost: float
    """What the assignment costs, in the unit of the costs."""
    lower_bound: float
    """No feasible assignment costs less."""

    @property
    def gap(self) -> float:
        """How far the cost is above the bound, as a share of the bound."""
        return relative_gap(self.cost, self.lower_bound)


def relative_gap(cost: float, lower_bound: float) -> float:
    """Cost over the bound, minus 1; 0 when the cost is the bound, inf when only the bound is 0."""
    excess = max(0.0, cost - lower_bound)
    if excess == 0:
        return 0.0
    return excess / lower_bound if lower_bound > 0 else float("inf")


def solve_placement(
    sizes: ArrayLike, weights: ArrayLike, latencies: ArrayLike, capacities: Sequence[float | None]
) -> Solution:
    """Place objects so that the weighted latency is least.

    Args:
        sizes: int[n], bytes of each object.
        weights: float[n], accesses of each object, >= 0.
        latencies: float[n, k], seconds of one access of an object in a tier; `inf` where it must not go.
        capacities: bytes of each of the k tiers; None for a tier without limit.

    Returns:
        The assignment, its cost and the lower bound, both in seconds over all weighted accesses.

    Raises:
        PlacementProblemError: shapes differ, a value is negative or NaN, or an object fits nowhere.
    """
    shares = np.asarray(weights, dtype=np.float64)
    seconds = np.asarray(latencies, dtype=np.float64)
    if seconds.ndim != 2 or shares.shape != seconds.shape[:1]:
        raise PlacementProblemError(
            f"weights {shares.shape} and latencies {seconds.shape} do not fit: want [n], [n, k]"
        )
    if not np.all(np.isfinite(shares)) or np.any(shares < 0):
        raise PlacementProblemError("weights must be finite and >= 0: they count accesses")
    forbidden = np.isinf(seconds)
    costs = np.where(forbidden, np.inf, shares[:, None] * np.where(forbidden, 0.0, seconds))
    return solve_costs(sizes, costs, capacities)


def solve_costs(sizes: ArrayLike, costs: ArrayLike, capacities: Sequence[float | None]) -> Solution:
    """Place objects so that the sum of `costs[object, tier]` is least.

    Args:
        sizes: int[n], bytes of each object.
        costs: float[n, k] >= 0; `inf` where an object must not go.
        capacities: bytes of each of the k tiers; None for a tier without limit.

    Returns:
        The assignment, its cost and the lower bound.

    Raises:
        PlacementProblemError: shapes differ, a value is negative or NaN, or an object fits nowhere.
    """
    choices = Choices.of(sizes, costs, capacities)
    if len(choices.sizes) == 0:
        return Solution(np.zeros(0, dtype=np.int64), 0.0, 0.0)
    prices = dual_prices(choices)
    bound = choices.bound(prices)
    assignment = _rounded(choices, prices, bound)
    if relative_gap(choices.cost(assignment), bound) > SEARCH_ABOVE_GAP:
        assignment, bound = search(choices, assignment, prices, bound, gap=SEARCH_ABOVE_GAP)
    return Solution(assignment, choices.cost(assignment), bound)


def _rounded(choices: Choices, prices: Floats, bound: float) -> Integers:
    """The best of several attempts at an assignment."""
    rng = np.random.default_rng(0)
    best = assign(choices, prices)
    improve(choices, best, prices, bound)
    attempts = min(ATTEMPTS, max(4, ATTEMPT_OBJECTS // len(choices.sizes)))
    for attempt in range(attempts):
        if relative_gap(choices.cost(best), bound) <= CLOSE_ENOUGH:
            break
        shaken = prices * np.exp(SHAKES[attempt % len(SHAKES)] * rng.standard_normal(len(prices)))
        candidate = assign(choices, shaken)
        improve(choices, candidate, prices, bound)
        if choices.cost(candidate) < choices.cost(best):
            best = candidate
    return best
