"""The plan of a placement: from objects, tiers, access log and measured costs to the tier of every object.

Belongs here: the weights of the objects, the costs of reading and of moving them, the room in the tiers; no I/O.
Does not: the combinatorial problem (`knapsack.py`), applying and measuring the plan (`placement.py`).

A move pays for itself over the horizon, the accesses of the log: the cost of an object in a tier is what its expected
accesses cost there plus, if it is not there yet, what bringing it there costs. The solver weighs both in one problem,
so the lower bound holds for the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aura.tiers.knapsack import Solution, solve_costs
from aura.tiers.profile import TierProfile
from aura.tiers.store import Access, Entry, Tier, TierState

INDEX_FLIP_SECONDS = 1e-6
"""Every move costs at least this, the work on the index, so that objects do not move without a reason."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Where objects should go.

    Attributes:
        entries: The objects, n of them.
        tiers: The tiers of the store, k of them.
        weights: float64[n], expected accesses over the horizon.
        accesses: Accesses of the log that concern these objects: the horizon. 0 if every object is expected once.
        seconds: float64[n, k], predicted seconds of one get; inf where that was not measured.
        costs: float64[n, k], seconds of the horizon's accesses and of the move; inf where an object cannot go.
        before: int64[n], tier of each object, as an index.
        solution: Tier of each object in the plan, with its cost and the lower bound.
    """

    entries: tuple[Entry, ...]
    tiers: tuple[Tier, ...]
    weights: np.ndarray
    accesses: int
    seconds: np.ndarray
    costs: np.ndarray
    before: np.ndarray
    solution: Solution

    @property
    def moves(self) -> dict[str, Tier]:
        """The target of every object that changes its tier."""
        changed = np.flatnonzero(self.solution.assignment != self.before)
        return {self.entries[row].key: self.tiers[self.solution.assignment[row]] for row in changed}


def plan_placement(
    entries: Sequence[Entry],
    states: Sequence[TierState],
    log: Access,
    profile: TierProfile,
    *,
    half_life: int,
    hysteresis: float,
    headroom: float,
) -> Plan:
    """Plan where objects go.

    Args:
        entries: Objects; the profile must know what a get of each costs where it is now.
        states: The tiers of the store.
        log: The access log; accesses of other objects do not count.
        profile: Measured costs. A tier that it does not know gets nothing.
        half_life: Accesses after which an access counts half.
        hysteresis: A move must promise this share more than it costs.
        headroom: Share of every limited tier that is left free.

    Raises:
        ValueError: A parameter is out of its range.
        PlacementProblemError: An object fits nowhere.
    """
    if half_life < 1 or hysteresis < 0 or not 0 <= headroom < 1:
        raise ValueError(
            f"half_life {half_life} must be >= 1, hysteresis {hysteresis} >= 0, headroom {headroom} in [0, 1)"
        )
    tiers = tuple(state.tier for state in states)
    before = np.array([tiers.index(entry.tier) for entry in entries], dtype=np.int64)
    weights, accesses = expected_accesses(entries, log, half_life=half_life)
    seconds = _get_seconds(entries, tiers, profile)
    reachable = np.isfinite(seconds)
    costs = np.where(reachable, weights[:, None] * np.where(reachable, seconds, 0.0), np.inf)
    costs += (1 + hysteresis) * _move_seconds(entries, tiers, profile, seconds, before)
    room = [_room_bytes(state, entries, headroom) for state in states]
    solution = solve_costs([entry.bytes for entry in entries], costs, room)
    return Plan(tuple(entries), tiers, weights, accesses, seconds, costs, before, solution)


def expected_accesses(entries: Sequence[Entry], log: Access, *, half_life: int) -> tuple[np.ndarray, int]:
    """Expect as many accesses as the log has, in the proportions of its exponentially decayed counts.

    Args:
        entries: The objects.
        log: The access log; accesses of other objects do not count.
        half_life: Accesses after which an access counts half.

    Returns:
        float64[n] expected accesses per object, and the number of the log's accesses that concern them. With none,
        every object is expected to be accessed once.
    """
    ids = np.array([entry.id for entry in entries], dtype=np.int64)
    age = np.arange(len(log.ids) - 1, -1, -1, dtype=np.float64)
    length = int(max(ids.max(initial=0), log.ids.max(initial=0))) + 1
    decayed = np.bincount(log.ids, weights=np.exp2(-age / half_life), minlength=length)[ids]
    accesses = int(np.bincount(log.ids, minlength=length)[ids].sum())
    if accesses == 0 or decayed.sum() == 0:
        return np.ones(len(entries)), 0
    return decayed * (accesses / decayed.sum()), accesses


def _get_seconds(entries: Sequence[Entry], tiers: Sequence[Tier], profile: TierProfile) -> np.ndarray:
    """Predicted seconds of one get, float64[n, k]; inf where it was not measured."""
    seconds = np.full((len(entries), len(tiers)), np.inf)
    for kind in {entry.kind for entry in entries}:
        rows = np.array([row for row, entry in enumerate(entries) if entry.kind == kind])
        sizes = np.array([entries[row].bytes for row in rows])
        for column, tier in enumerate(tiers):
            if profile.knows(tier, kind):
                seconds[rows, column] = profile.predict_seconds(tier, sizes, kind)
    return seconds


def _move_seconds(
    entries: Sequence[Entry], tiers: Sequence[Tier], profile: TierProfile, seconds: np.ndarray, before: np.ndarray
) -> np.ndarray:
    """Predicted seconds to bring each object to each tier, float64[n, k]; 0 where it is, inf where puts are unknown.

    A copy is read where the object is and written to the target; demotion to L3 only drops the copy.
    """
    rows = np.arange(len(entries))
    sizes = np.array([entry.bytes for entry in entries])
    move = np.full((len(entries), len(tiers)), INDEX_FLIP_SECONDS)
    for column, tier in enumerate(tiers):
        if tier is Tier.L3:
            continue
        known = profile.knows(tier, "bytes", "put")
        move[:, column] += profile.predict_seconds(tier, sizes, "bytes", "put") if known else np.inf
        move[:, column] += seconds[rows, before]
    move[rows, before] = 0.0
    return move


def _room_bytes(state: TierState, entries: Sequence[Entry], headroom: float) -> float | None:
    """What the objects may take of a tier: its capacity less headroom and less what other objects take of it."""
    if state.capacity_bytes is None:
        return None
    ours = sum(entry.bytes for entry in entries if entry.tier is state.tier)
    others = max(0, state.used_bytes - ours)
    return max(0.0, state.capacity_bytes * (1 - headroom) - others)
