"""An assignment within the capacities, from the prices of the tiers' bytes.

At good prices nearly every object is in its cheapest priced tier; what is left are the objects at the margin. Whoever
loses least by it leaves a tier that is too full, free room goes to whoever saves most per byte, and exchanges of two
objects close what remains. Over the bound an assignment costs the regret of its objects at the prices plus the rent of
the room that is left free, so only objects of little regret need to be looked at.

Belongs here: feasible assignments and their improvement. Does not: the prices (`prices.py`), proving an optimum
(`exact.py`).
"""

from __future__ import annotations

import numpy as np

from aura.tiers.planning.choices import Choices, Floats, Integers, PlacementProblemError

CORE = 256
"""Objects on either side that an exchange considers: those whose regret at the prices is smallest."""

EXCHANGES = 400
"""Exchanges, at most: a count and not a time, so that the same problem has the same answer everywhere."""

CLOSE_ENOUGH = 5e-5
"""Share of the bound by which a cost may be above it without an exchange being worth its time."""


def assign(choices: Choices, prices: Floats) -> Integers:
    """Give every object a tier, within the capacities.

    Args:
        choices: The instance.
        prices: float64[k], the price of a byte in each tier.

    Returns:
        int64[n], the tier of each object.

    Raises:
        PlacementProblemError: An object finds no room.
    """
    assignment: Integers = choices.priced(prices).argmin(axis=1)
    return assignment if _relieve(choices, prices, assignment) else _packed(choices)


def improve(choices: Choices, assignment: Integers, prices: Floats, bound: float) -> None:
    """Shift and exchange objects in place until neither lowers the cost or it is close to the bound."""
    _fill(choices, assignment)
    priced = choices.priced(prices)
    for _ in range(EXCHANGES):
        if choices.cost(assignment) <= bound * (1 + CLOSE_ENOUGH):
            return
        if not _exchange(choices, assignment, priced):
            return
        _fill(choices, assignment)


def _relieve(choices: Choices, prices: Floats, assignment: Integers) -> bool:
    """Move objects out of tiers that are too full, those that lose least per byte first; whether everything fits then.

    An object never returns to a tier that it had to leave, so this ends.
    """
    offers = choices.priced(prices)
    while True:
        room = choices.room(assignment)
        tier = int(np.argmin(room))
        if room[tier] >= 0:
            return True
        members = np.flatnonzero(assignment == tier)
        elsewhere = offers[members]
        elsewhere[:, tier] = np.inf
        target = elsewhere.argmin(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            loss = (elsewhere.min(axis=1) - offers[members, tier]) / choices.sizes[members]
        order = np.argsort(loss, kind="stable")
        order = order[np.isfinite(loss[order])]
        freed = np.cumsum(choices.sizes[members[order]])
        if not len(freed) or freed[-1] < -room[tier]:
            return False
        leaving = order[: np.searchsorted(freed, -room[tier]) + 1]
        offers[members[leaving], tier] = np.inf
        assignment[members[leaving]] = target[leaving]


def _packed(choices: Choices) -> Integers:
    """Largest objects first, each to the cheapest tier that has room for it."""
    room = choices.capacities.copy()
    assignment = np.empty(len(choices.sizes), dtype=np.int64)
    for index in np.argsort(-choices.sizes, kind="stable"):
        fitting = np.where(choices.sizes[index] <= room, choices.costs[index], np.inf)
        tier = int(np.argmin(fitting))
        if np.isinf(fitting[tier]):
            raise PlacementProblemError(
                f"object number {index} of {choices.sizes[index]:.0f} bytes finds no room: give one tier no limit"
            )
        assignment[index] = tier
        room[tier] -= choices.sizes[index]
    return assignment


def _fill(choices: Choices, assignment: Integers) -> None:
    """Shift objects to cheaper tiers with room, those that save most per byte first, until none saves anything."""
    moved = True
    while moved:
        moved = False
        for tier in range(len(choices.capacities)):
            room = choices.room(assignment)[tier]
            now = choices.costs[np.arange(len(assignment)), assignment]
            saved = now - choices.costs[:, tier]
            wanting = np.flatnonzero((saved > _noise(now)) & (choices.sizes <= room))
            if not len(wanting):
                continue
            with np.errstate(divide="ignore"):
                order = wanting[np.argsort(-saved[wanting] / choices.sizes[wanting], kind="stable")]
            entering = order[np.cumsum(choices.sizes[order]) <= room]
            assignment[entering] = tier
            moved = True


def _exchange(choices: Choices, assignment: Integers, priced: Floats) -> bool:
    """Let one object enter a tier and push another one out of it, to whichever tier has room: the best such pair."""
    room = choices.room(assignment)
    objects = np.arange(len(assignment))
    now = choices.costs[objects, assignment]
    regret = priced - priced[objects, assignment][:, None]
    best_saved, best = 0.0, None
    for entered in choices.limited:
        entering = _core(regret[:, entered], (assignment != entered) & np.isfinite(choices.costs[:, entered]))
        gain = now[entering] - choices.costs[entering, entered]
        for exit_tier in np.flatnonzero(np.arange(len(room)) != entered):
            leaving = _core(regret[:, exit_tier], (assignment == entered) & np.isfinite(choices.costs[:, exit_tier]))
            if not len(entering) or not len(leaving):
                continue
            loss = choices.costs[leaving, exit_tier] - now[leaving]
            size_in, size_out = choices.sizes[entering][:, None], choices.sizes[leaving][None, :]
            freed = np.where(assignment[entering] == exit_tier, choices.sizes[entering], 0.0)[:, None]
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


def _core(regret: Floats, eligible: np.ndarray) -> Integers:
    """The eligible objects with the smallest regret."""
    candidates = np.flatnonzero(eligible)
    if len(candidates) <= CORE:
        return candidates
    nearest = np.argpartition(regret[candidates], CORE)[:CORE]
    return candidates[nearest]


def _noise(amount: Floats | float) -> Floats | float:
    """Savings below this are rounding errors of the subtraction."""
    return 1e-12 * amount
