"""The multiple-choice knapsack as a value: objects, what each costs in each tier, and the bytes that a tier holds.

Belongs here: checking an instance, and the sums that everything about it is made of. Does not: solving it
(`prices.py`, `repair.py`, `exact.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class PlacementProblemError(ValueError):
    """The placement problem has no feasible assignment, or its arrays do not fit each other."""


@dataclass(frozen=True, eq=False)
class Choices:
    """An instance with n objects and k tiers.

    Attributes:
        sizes: float64[n], bytes.
        costs: float64[n, k] >= 0; inf where an object must not or cannot go.
        capacities: float64[k], bytes; inf without limit.
        limited: int64[m], the tiers whose capacity can bind: finite and above 0.
    """

    sizes: Floats
    costs: Floats
    capacities: Floats
    limited: Integers

    @classmethod
    def of(cls, sizes: ArrayLike, costs: ArrayLike, capacities: Sequence[float | None]) -> Choices:
        """Check an instance; None as a capacity means no limit.

        Raises:
            PlacementProblemError: Shapes differ, a value is negative or NaN, an object fits no tier, or all objects
                together have more bytes than all tiers.
        """
        bytes_each = np.asarray(sizes, dtype=np.float64)
        table = np.array(costs, dtype=np.float64)
        limits = np.array([np.inf if limit is None else float(limit) for limit in capacities])
        if bytes_each.ndim != 1 or table.shape != (len(bytes_each), len(limits)):
            raise PlacementProblemError(
                f"sizes {bytes_each.shape}, costs {table.shape} and {len(limits)} capacities differ: want [n], [n, k],"
                " k"
            )
        for name, values in (("sizes", bytes_each), ("costs", table), ("capacities", limits)):
            if np.any(np.isnan(values)) or np.any(values < 0):
                raise PlacementProblemError(f"{name} must be >= 0 and not NaN")
        table[bytes_each[:, None] > limits] = np.inf
        homeless = np.flatnonzero(np.all(np.isinf(table), axis=1))
        if len(homeless):
            raise PlacementProblemError(
                f"{len(homeless)} object(s) fit no tier, the first is number {homeless[0]} of "
                f"{bytes_each[homeless[0]]:.0f} bytes: give one tier no limit"
            )
        if bytes_each.sum() > limits.sum():
            raise PlacementProblemError(
                f"no assignment of {len(bytes_each)} objects with {bytes_each.sum():.0f} bytes fits the tiers' "
                f"capacities of {limits.sum():.0f} bytes: give one tier no limit"
            )
        return cls(bytes_each, table, limits, np.flatnonzero(np.isfinite(limits) & (limits > 0)))

    def cost(self, assignment: Integers) -> float:
        """What an assignment int64[n] costs."""
        return float(self.costs[np.arange(len(assignment)), assignment].sum())

    def room(self, assignment: Integers) -> Floats:
        """float64[k], the bytes that an assignment leaves free in each tier; below 0 where it does not fit."""
        used = np.bincount(assignment, weights=self.sizes, minlength=len(self.capacities))
        return np.asarray(self.capacities - used)

    def priced(self, prices: Floats) -> Floats:
        """float64[n, k], cost plus what the bytes of the object cost at these prices float64[k]."""
        return np.asarray(self.costs + self.sizes[:, None] * prices)

    def bound(self, prices: Floats) -> float:
        """Value of the Lagrangian dual: every object takes its cheapest tier and pays for its bytes.

        No feasible assignment costs less, whatever the prices >= 0 are (0 for tiers without limit): what its objects
        pay for a tier is at most the tier's rent, which is subtracted (Geoffrion, Lagrangean relaxation, 1974).
        """
        each = self.priced(prices).min(axis=1)
        return max(0.0, float(each.sum() - prices[self.limited] @ self.capacities[self.limited]))
