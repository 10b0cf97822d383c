"""Branch and bound for the placements where rounding costs: few objects, each a large share of a tier.

Belongs here: the search among the choices that prices have not ruled out. Does not: prices or their repair.
"""

from __future__ import annotations

import numpy as np

from aura.tiers.planning.choices import Choices, Floats, Integers

SEARCH_VARIABLES = 2000
"""Open choices up to which the search is tried: 500 objects in 4 tiers take 0.2 to 1.2 s on one core."""

SEARCH_NODES = 200
"""Nodes after which it stops; a count and not a time, so that the same problem has the same answer everywhere."""

INTEGRAL = 1.0 - 1e-6
"""A share at or above this is a whole object (HiGHS works to 1e-7)."""


def search(
    choices: Choices, assignment: Integers, prices: Floats, bound: float, *, gap: float
) -> tuple[Integers, float]:
    """Look for a better assignment, and for a better bound.

    A choice whose regret at the prices is above what the assignment costs over the bound is in no better assignment
    (variable fixing by reduced costs), so only objects with two choices left take part.

    Args:
        choices: The instance.
        assignment: int64[n], feasible.
        prices: float64[k], those of the bound.
        bound: The dual bound at these prices.
        gap: Stop when the assignment is within this share of the bound.

    Returns:
        The better assignment and the higher bound; what came in if there are too many open choices.
    """
    cost = choices.cost(assignment)
    priced = choices.priced(prices)
    alive = priced - priced.min(axis=1, keepdims=True) <= (cost - bound) * (1 + 1e-9) + 1e-12 * cost
    alive &= np.isfinite(choices.costs)
    opened = np.flatnonzero(alive.sum(axis=1) > 1)
    if not len(opened) or alive[opened].sum() > SEARCH_VARIABLES:
        return assignment, bound
    settled = np.flatnonzero(alive.sum(axis=1) == 1)
    tier = alive.argmax(axis=1)
    taken = np.bincount(tier[settled], weights=choices.sizes[settled], minlength=len(choices.capacities))
    settled_cost = float(choices.costs[settled, tier[settled]].sum())
    within = choices.capacities - taken
    if np.any(within < 0):
        return assignment, cost  # What every better assignment has in common does not fit: there is none.
    shares, open_bound = _branch_and_bound(
        np.where(alive[opened], choices.costs[opened], np.inf), choices.sizes[opened], within, gap=gap
    )
    # Below the solver's own tolerance a bound proves nothing, and a choice that is ruled out costs at least `cost`.
    proven = max(bound, min(settled_cost + open_bound * (1 - 1e-6), cost))
    if shares is None or np.any(shares.max(axis=1) < INTEGRAL):
        return assignment, proven
    found = assignment.copy()
    found[settled] = tier[settled]
    found[opened] = shares.argmax(axis=1)
    # Whole shares may exceed a capacity by the solver's tolerance.
    better = np.all(choices.room(found) >= 0) and choices.cost(found) < cost
    return (found, proven) if better else (assignment, proven)


def _branch_and_bound(costs: Floats, sizes: Floats, capacities: Floats, *, gap: float) -> tuple[Floats | None, float]:
    """Shares float64[n, k] of the best assignment that HiGHS found, None without one; and its bound, 0 without one."""
    from scipy.optimize import Bounds, LinearConstraint, milp  # 0.8 s of CPU that most placements need not pay
    from scipy.sparse import csr_array

    n, k = costs.shape
    allowed = np.isfinite(costs)
    finite = np.where(allowed, costs, 0.0)
    scale = float(finite.max()) or 1.0
    variables = np.arange(n * k)
    one_tier_each = csr_array((np.ones(n * k), (variables // k, variables)), shape=(n, n * k))
    constraints = [LinearConstraint(one_tier_each, 1, 1)]
    limited = np.flatnonzero(np.isfinite(capacities))
    for tier in limited:
        # Scaled, so that the solver's tolerances are relative.
        filled = np.zeros((n, k))
        filled[:, tier] = sizes / max(capacities[tier], 1.0)
        constraints.append(
            LinearConstraint(filled.reshape(1, -1), -np.inf, capacities[tier] / max(capacities[tier], 1.0))
        )
    result = milp(
        (finite / scale).ravel(),
        integrality=np.ones(n * k),
        bounds=Bounds(0, allowed.ravel().astype(float)),
        constraints=constraints,
        options={"mip_rel_gap": gap, "node_limit": SEARCH_NODES},
    )
    bound = result.mip_dual_bound
    proven = 0.0 if bound is None or not np.isfinite(bound) else max(0.0, float(bound) * scale)
    return (None if result.x is None else result.x.reshape(n, k)), proven
