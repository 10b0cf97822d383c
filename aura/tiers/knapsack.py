"""Which object goes to which tier: the multiple-choice knapsack behind the placement, with a certified lower bound.

Minimise the sum over objects of `cost[object, tier]` with each object in exactly one tier and the bytes of each tier
within its capacity. The linear relaxation (HiGHS, dual simplex) gives the prices of the tiers' bytes. A basic solution
leaves at most as many objects fractional as there are limited tiers; those are rounded; shifts and exchanges improve
the result. The bound is the Lagrangian dual at these prices, which holds for any non-negative prices, whatever
tolerance the solver worked to (Kellerer, Pferschy, Pisinger, Knapsack Problems, 2004, chapter 11). With few objects the
relaxation itself is loose (one object is a large share of a tier); there a bounded branch and bound closes the gap from
both sides.

Belongs here: the combinatorial problem on plain arrays. Does not: what the costs mean (`placement.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from scipy.sparse import csr_array

EXCHANGE_CANDIDATES = 256
"""Objects on either side that an exchange considers: those whose regret at the prices is smallest (the core)."""

SEARCH_ABOVE_GAP = 1e-3
"""Branch and bound is worth its time only when the gap is above this; it also stops there."""

SEARCH_VARIABLES = 2000
"""Objects times tiers up to which branch and bound is tried: 500 objects in 4 tiers take 0.2 to 1.2 s on one core."""

SEARCH_NODES = 200
"""Nodes after which it stops; a count and not a time, so that the same problem has the same answer everywhere."""

INTEGRAL = 1.0 - 1e-6
"""A share of the relaxation at or above this counts as a whole object (HiGHS works to 1e-7)."""


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


class PlacementProblemError(ValueError):
    """The placement problem has no feasible assignment, or its arrays do not fit each other."""


@dataclass(frozen=True)
class _Problem:
    sizes: np.ndarray
    costs: np.ndarray
    capacities: np.ndarray

    @property
    def limited(self) -> np.ndarray:
        """Indices of the tiers whose capacity can bind."""
        return np.flatnonzero(np.isfinite(self.capacities) & (self.capacities > 0))


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
    problem = _checked(sizes, costs, capacities)
    if len(problem.sizes) == 0:
        return Solution(np.zeros(0, dtype=np.int64), 0.0, 0.0)
    shares, prices = _relax(problem)
    assignment = _round(problem, shares)
    _improve(problem, assignment, prices)
    solution = Solution(assignment, _cost(problem, assignment), _dual_bound(problem, prices))
    if solution.gap <= SEARCH_ABOVE_GAP or problem.costs.size > SEARCH_VARIABLES:
        return solution
    return _search(problem, solution, prices)


def _checked(sizes: ArrayLike, costs: ArrayLike, capacities: Sequence[float | None]) -> _Problem:
    bytes_each = np.asarray(sizes, dtype=np.float64)
    table = np.array(costs, dtype=np.float64)
    limits = np.array([np.inf if limit is None else float(limit) for limit in capacities])
    if bytes_each.ndim != 1 or table.shape != (len(bytes_each), len(limits)):
        raise PlacementProblemError(
            f"sizes {bytes_each.shape}, costs {table.shape} and {len(limits)} capacities differ: want [n], [n, k], k"
        )
    for name, values in (("sizes", bytes_each), ("costs", table), ("capacities", limits)):
        if np.any(np.isnan(values)) or np.any(values < 0):
            raise PlacementProblemError(f"{name} must be >= 0 and not NaN")
    table[bytes_each[:, None] > limits] = np.inf
    homeless = np.flatnonzero(np.all(np.isinf(table), axis=1))
    if len(homeless):
        raise PlacementProblemError(
            f"{len(homeless)} object(s) fit no tier, the first is number {homeless[0]} of {bytes_each[homeless[0]]:.0f}"
            " bytes: give one tier no limit"
        )
    return _Problem(bytes_each, table, limits)


@dataclass(frozen=True)
class _Rows:
    """The constraints on the n * k variables, scaled so that the solver's tolerances are relative."""

    costs: np.ndarray
    scale: float
    one_tier_each: csr_array
    within_capacity: csr_array


def _rows(problem: _Problem) -> _Rows:
    from scipy.sparse import csr_array  # scipy takes 0.8 s of CPU that reading a placement need not pay

    n, k = problem.costs.shape
    costs = np.where(np.isfinite(problem.costs), problem.costs, 0.0)
    scale = float(costs.max()) or 1.0
    limited = problem.limited
    one_tier_each = csr_array((np.ones(n * k), (np.repeat(np.arange(n), k), np.arange(n * k))), shape=(n, n * k))
    columns = np.arange(n)[None, :] * k + limited[:, None]
    filled = problem.sizes[None, :] / problem.capacities[limited][:, None]
    within_capacity = csr_array(
        (filled.ravel(), (np.repeat(np.arange(len(limited)), n), columns.ravel())), shape=(len(limited), n * k)
    )
    return _Rows((costs / scale).ravel(), scale, one_tier_each, within_capacity)


def _relax(problem: _Problem) -> tuple[np.ndarray, np.ndarray]:
    """Solve the linear relaxation: shares float[n, k], and the price of a byte in each tier float[k] >= 0."""
    from scipy.optimize import linprog  # see _rows

    rows, limited = _rows(problem), problem.limited
    allowed = np.isfinite(problem.costs)
    result = linprog(
        rows.costs,
        A_ub=rows.within_capacity if len(limited) else None,
        b_ub=np.ones(len(limited)) if len(limited) else None,
        A_eq=rows.one_tier_each,
        b_eq=np.ones(len(problem.sizes)),
        bounds=np.column_stack([np.zeros(allowed.size), allowed.ravel().astype(float)]),
        method="highs-ds",
    )
    if result.status != 0:
        raise PlacementProblemError(
            f"no assignment of {len(problem.sizes)} objects fits the tiers' capacities: {result.message}"
        )
    prices = np.zeros(problem.costs.shape[1])
    if len(limited):
        prices[limited] = np.maximum(0.0, -result.ineqlin.marginals) * rows.scale / problem.capacities[limited]
    return result.x.reshape(problem.costs.shape), prices


def _search(problem: _Problem, found: Solution, prices: np.ndarray) -> Solution:
    """Branch and bound among the choices whose regret at the prices is below the gap: all others are worse than found.

    Returns:
        The better of `found` and what the search gave, with the higher of both bounds.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp  # see _rows

    rows = _rows(problem)
    priced = problem.costs + problem.sizes[:, None] * prices
    regret = priced - priced.min(axis=1, keepdims=True)
    alive = regret <= found.cost - found.lower_bound + _noise(found.cost)
    constraints = [LinearConstraint(rows.one_tier_each, 1, 1)]
    if len(problem.limited):
        constraints.append(LinearConstraint(rows.within_capacity, -np.inf, 1))
    result = milp(
        rows.costs,
        integrality=np.ones(rows.costs.size),
        bounds=Bounds(0, alive.ravel().astype(float)),
        constraints=constraints,
        options={"mip_rel_gap": SEARCH_ABOVE_GAP, "node_limit": SEARCH_NODES},
    )
    bound = found.lower_bound
    if result.mip_dual_bound is not None and np.isfinite(result.mip_dual_bound):
        # Below the solver's own tolerance a bound proves nothing, and a ruled out choice costs at least `found`.
        bound = max(bound, min(result.mip_dual_bound * rows.scale * (1 - 1e-6), found.cost))
    if result.x is None:
        return Solution(found.assignment, found.cost, bound)
    assignment = _round(problem, result.x.reshape(problem.costs.shape))
    _improve(problem, assignment, prices)
    cost = _cost(problem, assignment)
    better = assignment if cost < found.cost else found.assignment
    return Solution(better, min(cost, found.cost), bound)


def _cost(problem: _Problem, assignment: np.ndarray) -> float:
    return float(problem.costs[np.arange(len(assignment)), assignment].sum())


def _dual_bound(problem: _Problem, prices: np.ndarray) -> float:
    """Value of the Lagrangian dual at these prices: every object takes its cheapest tier and pays for its bytes."""
    limited = problem.limited
    each = (problem.costs + problem.sizes[:, None] * prices).min(axis=1)
    return max(0.0, float(each.sum() - prices[limited] @ problem.capacities[limited]))


def _round(problem: _Problem, shares: np.ndarray) -> np.ndarray:
    """Keep the whole objects of the relaxation as far as they fit, then put the others where they cost least."""
    room = problem.capacities.copy()
    assignment = np.full(len(shares), -1, dtype=np.int64)
    for tier in range(shares.shape[1]):
        members = np.flatnonzero(shares[:, tier] >= INTEGRAL)
        kept = members[np.cumsum(problem.sizes[members]) <= room[tier]]
        assignment[kept] = tier
        room[tier] -= problem.sizes[kept].sum()
    open_objects = np.flatnonzero(assignment < 0)
    for index in open_objects[np.argsort(-problem.sizes[open_objects], kind="stable")]:
        fitting = np.where(problem.sizes[index] <= room, problem.costs[index], np.inf)
        tier = int(np.argmin(fitting))
        if np.isinf(fitting[tier]):
            raise PlacementProblemError(
                f"object number {index} of {problem.sizes[index]:.0f} bytes finds no room: give one tier no limit"
            )
        assignment[index] = tier
        room[tier] -= problem.sizes[index]
    return assignment


def _improve(problem: _Problem, assignment: np.ndarray, prices: np.ndarray) -> None:
    """Shift and exchange objects in place until neither lowers the cost; each step lowers it, so it ends."""
    while _shift(problem, assignment) or _exchange(problem, assignment, prices):
        pass


def _room(problem: _Problem, assignment: np.ndarray) -> np.ndarray:
    used = np.bincount(assignment, weights=problem.sizes, minlength=len(problem.capacities))
    return np.asarray(problem.capacities - used)


def _shift(problem: _Problem, assignment: np.ndarray) -> bool:
    """Move the one object that saves most to a tier with room for it."""
    room = _room(problem, assignment)
    now = problem.costs[np.arange(len(assignment)), assignment]
    saved = np.where(problem.sizes[:, None] <= room, now[:, None] - problem.costs, 0.0)
    index, tier = np.unravel_index(np.argmax(saved), saved.shape)
    if saved[index, tier] <= _noise(now[index]):
        return False
    assignment[index] = tier
    return True


def _exchange(problem: _Problem, assignment: np.ndarray, prices: np.ndarray) -> bool:
    """Let one object enter a tier and push another one out of it, to whichever tier has room: the best such pair."""
    room = _room(problem, assignment)
    objects = np.arange(len(assignment))
    now = problem.costs[objects, assignment]
    priced = problem.costs + problem.sizes[:, None] * prices
    regret = priced - priced[objects, assignment][:, None]
    best_saved, best = 0.0, None
    for entered in problem.limited:
        entering = _core(regret[:, entered], (assignment != entered) & np.isfinite(problem.costs[:, entered]))
        gain = now[entering] - problem.costs[entering, entered]
        for exit_tier in np.flatnonzero(np.arange(len(room)) != entered):
            leaving = _core(regret[:, exit_tier], (assignment == entered) & np.isfinite(problem.costs[:, exit_tier]))
            if not len(entering) or not len(leaving):
                continue
            loss = problem.costs[leaving, exit_tier] - now[leaving]
            size_in, size_out = problem.sizes[entering][:, None], problem.sizes[leaving][None, :]
            freed = np.where(assignment[entering] == exit_tier, problem.sizes[entering], 0.0)[:, None]
            fits = (size_in <= room[entered] + size_out) & (size_out <= room[exit_tier] + freed)
            saved = np.where(fits, gain[:, None] - loss[None, :], 0.0)
            row, column = np.unravel_index(np.argmax(saved), saved.shape)
            noise = _noise(now[entering[row]] + now[leaving[column]])
            if saved[row, column] > max(best_saved, noise):
                best_saved, best = saved[row, column], (entering[row], entered, leaving[column], exit_tier)
    if best is None:
        return False
    assignment[best[0]], assignment[best[2]] = best[1], best[3]
    return True


def _core(regret: np.ndarray, eligible: np.ndarray) -> np.ndarray:
    """The eligible objects with the smallest regret."""
    candidates = np.flatnonzero(eligible)
    if len(candidates) <= EXCHANGE_CANDIDATES:
        return candidates
    nearest = np.argpartition(regret[candidates], EXCHANGE_CANDIDATES)[:EXCHANGE_CANDIDATES]
    return candidates[nearest]


def _noise(amount: float) -> float:
    """Savings below this are rounding errors of the subtraction."""
    return 1e-12 * amount
