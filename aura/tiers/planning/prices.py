"""The price of a byte in each tier: the Lagrangian dual of the placement, solved in as many dimensions as tiers.

At prices p every object takes the tier where `cost + size * price` is least. The dual value is concave and piecewise
linear in p, and one evaluation is a pass over the objects. Two steps find its maximum:

1. Ascent in one price at a time, each exactly: the price of a tier is the reserve price per byte of the first object
   that no longer fits. Fast, but a concave function with kinks has points where no single price can improve it.
2. The ellipsoid method with deep cuts (Bland, Goldfarb, Todd, The Ellipsoid Method: A Survey, 1981) from there. An
   object whose tier is the same everywhere in the ellipsoid is settled and enters the sums only, so that a pass gets
   cheaper as the ellipsoid shrinks.

Every evaluated point gives a valid lower bound; the methods only decide how good the best one is.

Belongs here: the dual. Does not: an assignment within the capacities (`repair.py`).
"""

from __future__ import annotations

import numpy as np

from aura.tiers.planning.choices import Choices, Floats

ASCENTS = 6
"""Passes over all prices, at most."""

ASCENT_GAIN = 1e-5
"""A pass that gains less than this share of the value is the last one."""

CUTS = 600
"""Cuts of one ellipsoid, at most; a count and not a time, so that the same problem has the same answer everywhere."""

SETTLE_EVERY = 8
"""Cuts after which it is looked again which objects are settled; looking costs about as much as two evaluations."""

RESTARTS = 4
"""Ellipsoids of one size, at most: a further one is drawn around the best prices while each finds better ones."""

REACHES = (0.5, 8.0)
"""Half axes of the ellipsoids as shares of the prices at their centre: a near one, which most often has the maximum in
it, and a far one, which tells whether it had."""

LEAST_AXIS = 0.05
"""The price of a tier counts as at least this share of the price at which its rent alone would be the dual value."""

TOLERANCE = 1e-8
"""Share of the dual value by which nothing in the ellipsoid is better any more."""


def dual_prices(choices: Choices) -> Floats:
    """Find prices whose dual bound is nearly the best that prices can prove.

    Returns:
        float64[k] >= 0, in the costs' unit per byte; 0 for tiers without limit.
    """
    prices = np.zeros(len(choices.capacities))
    if not len(choices.limited):
        return prices
    prices = _ascend(choices, prices)
    if len(choices.limited) == 1:
        return prices  # The ascent in the only price is exact.
    value = choices.bound(prices)
    for reach in REACHES:
        for _ in range(RESTARTS):
            better = _in_ellipsoid(choices, prices, reach)
            gained = choices.bound(better) - value
            if gained > 0:
                prices, value = better, value + gained
            if gained <= ASCENT_GAIN * value:
                break
    return prices


def _ascend(choices: Choices, prices: Floats) -> Floats:
    value = choices.bound(prices)
    for _ in range(ASCENTS):
        for tier in choices.limited:
            prices[tier] = _best_price(choices, prices, int(tier))
        raised = choices.bound(prices)
        if raised - value <= ASCENT_GAIN * raised or len(choices.limited) == 1:
            break
        value = raised
    return prices


def _best_price(choices: Choices, prices: Floats, tier: int) -> float:
    """The price of one tier that maximises the dual while the others stay."""
    others = np.arange(len(prices)) != tier
    elsewhere = (choices.costs[:, others] + choices.sizes[:, None] * prices[others]).min(axis=1, initial=np.inf)
    wanting = np.flatnonzero((elsewhere > choices.costs[:, tier]) & (choices.sizes > 0))
    sizes = choices.sizes[wanting]
    if sizes.sum() <= choices.capacities[tier]:
        return 0.0
    reserve = (elsewhere[wanting] - choices.costs[wanting, tier]) / sizes
    order = np.argsort(-reserve)
    fitting = int(np.searchsorted(np.cumsum(sizes[order]), choices.capacities[tier], side="right"))
    price = float(reserve[order[min(fitting, len(order) - 1)]])
    # Objects without any other tier have no reserve price; the repair finds out whether they fit.
    return price if np.isfinite(price) else float(reserve[np.isfinite(reserve)].max(initial=0.0))


class _Dual:
    """The dual value and a supergradient over the limited tiers, with the settled objects summed up."""

    def __init__(self, choices: Choices) -> None:
        self._limited = choices.limited
        self._capacities = choices.capacities[choices.limited]
        self._sizes = choices.sizes
        self._columns = [np.ascontiguousarray(column) for column in choices.costs.T]
        self._settled_cost = 0.0
        self._settled_bytes = np.zeros(len(self._columns))

    def at(self, prices: Floats) -> tuple[float, Floats]:
        """Value, and bytes asked for less capacity float64[m]."""
        best, tier = self._cheapest(prices)
        asked = self._settled_bytes + np.bincount(tier, weights=self._sizes, minlength=len(self._columns))
        rent = (self._settled_bytes[self._limited] - self._capacities) @ prices[self._limited]
        return float(self._settled_cost + best.sum() + rent), asked[self._limited] - self._capacities

    def _cheapest(self, prices: Floats) -> tuple[Floats, np.ndarray]:
        best = self._columns[0] + self._sizes * prices[0]
        tier = np.zeros(len(best), dtype=np.int64)
        for column in range(1, len(self._columns)):
            offer = self._columns[column] + self._sizes * prices[column]
            tier[offer < best] = column
            np.minimum(best, offer, out=best)
        return best, tier

    def settle(self, prices: Floats, shape: Floats) -> None:
        """Sum up the objects that choose the same tier for all prices in the ellipsoid of this centre and shape."""
        best, tier = self._cheapest(prices)
        full = np.zeros((len(prices), len(prices)))
        full[np.ix_(self._limited, self._limited)] = shape
        spread = np.diag(full)
        reach = np.sqrt(np.maximum(0.0, spread[:, None] + spread[None, :] - 2 * full))
        open_ = np.zeros(len(best), dtype=bool)
        for column, costs in enumerate(self._columns):
            regret = costs + self._sizes * prices[column] - best
            open_ |= (regret <= self._sizes * reach[tier, column] * (1 + 1e-9)) & (tier != column)
        closed = ~open_
        self._settled_bytes = self._settled_bytes + np.bincount(
            tier[closed], weights=self._sizes[closed], minlength=len(prices)
        )
        own = np.array(prices)[tier[closed]]
        self._settled_cost += float((best[closed] - self._sizes[closed] * own).sum())
        self._sizes = self._sizes[open_]
        self._columns = [costs[open_] for costs in self._columns]


def _in_ellipsoid(choices: Choices, prices: Floats, reach: float) -> Floats:
    """The best prices in an ellipsoid around these."""
    limited, m = choices.limited, len(choices.limited)
    dual = _Dual(choices)
    best, best_value = prices.copy(), dual.at(prices)[0]
    center = prices.copy()
    rent = abs(best_value) / choices.capacities[limited]
    shape = np.diag((reach * np.maximum(prices[limited], LEAST_AXIS * rent)) ** 2) * m
    for cut in range(CUTS):
        if cut % SETTLE_EVERY == 0:
            dual.settle(center, shape)
        below = int(np.argmin(center[limited]))
        if center[limited[below]] < 0:
            normal, behind, enough = -np.eye(m)[below], -center[limited[below]], 0.0
        else:
            value, excess = dual.at(center)
            if value > best_value:
                best, best_value = center.copy(), value
            normal, behind, enough = -excess, best_value - value, TOLERANCE * abs(best_value)
        width = float(np.sqrt(max(0.0, normal @ shape @ normal)))
        depth = behind / width if width > 0 else 1.0
        if depth >= 1 or width <= enough:
            break
        step = shape @ normal / width
        center[limited] -= (1 + m * depth) / (m + 1) * step
        shape = (
            (m * m / (m * m - 1))
            * (1 - depth * depth)
            * (shape - 2 * (1 + m * depth) / ((m + 1) * (1 + depth)) * np.outer(step, step))
        )
    return best
