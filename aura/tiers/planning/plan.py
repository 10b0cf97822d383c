"""The plan of a placement: from objects, tiers, access log and measured costs to the tier of every object.

Belongs here: the costs of reading the objects and of moving them, the room in the tiers; no I/O.
Does not: how often they will be read (`expected.py`), the combinatorial problem (`knapsack.py`), applying and measuring
the plan (`placement.py`).

A move pays for itself over the horizon, the accesses of the log: the cost of an object in a tier is what its expected
accesses cost there plus, if it is not there yet, what bringing it there costs. The solver weighs both in one problem,
so the lower bound holds for the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aura.tiers.planning.expected import Expectation, expected_accesses
from aura.tiers.planning.knapsack import Solution, solve_costs
from aura.tiers.planning.profile import TierProfile
from aura.tiers.records import Access, Entry, Tier, TierState

INDEX_FLIP_SECONDS = 1e-6
"""Every move costs at least this, the work on the index, so that objects do not move without a reason."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Where objects should go.

    Attributes:
        entries: The objects, n of them.
        tiers: The tiers of the store, k of them.
        expected: Expected accesses of each object over the horizon.
        seconds: float64[n, k], predicted seconds of one get; inf where that was not measured.
        costs: float64[n, k], seconds of the horizon's accesses and of the move; inf where an object cannot go.
        before: int64[n], tier of each object, as an index.
        solution: Tier of each object in the plan, with its cost and the lower bound.
    """

    entries: tuple[Entry, ...]
    tiers: tuple[Tier, ...]
    expected: Expectation
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
    short_half_life: int,
    long_half_life: int,
    hysteresis: float,
    headroom: float,
) -> Plan:
    """Plan where objects go.

    Args:
        entries: Objects; the profile must know what a get of each costs where it is now.
        states: The tiers of the store.
        log: The access log; accesses of other objects do not count.
        profile: Measured costs. A tier that it does not know gets nothing.
        short_half_life: Accesses after which an access counts half in the short moving average.
        long_half_life: The same in the long one.
        hysteresis: A move must promise this share more than it costs.
        headroom: Share of every limited tier that is left free.

    Raises:
        ValueError: A parameter is out of its range.
        PlacementProblemError: An object fits nowhere.
    """
    if not 1 <= short_half_life <= long_half_life:
        raise ValueError(f"short_half_life {short_half_life} and long_half_life {long_half_life} must rise from 1 on")
    if hysteresis < 0 or not 0 <= headroom < 1:
        raise ValueError(f"hysteresis {hysteresis} must be >= 0, headroom {headroom} in [0, 1)")
    tiers = tuple(state.tier for state in states)
    before = np.array([tiers.index(entry.tier) for entry in entries], dtype=np.int64)
    expected = expected_accesses(entries, log, short_half_life=short_half_life, long_half_life=long_half_life)
    seconds = _get_seconds(entries, tiers, profile)
    reachable = np.isfinite(seconds)
    costs = np.where(reachable, expected.weights[:, None] * np.where(reachable, seconds, 0.0), np.inf)
    costs += (1 + hysteresis) * _move_seconds(entries, tiers, profile, seconds, before)
    room = [_room_bytes(state, entries, headroom) for state in states]
    solution = solve_costs([entry.bytes for entry in entries], costs, room)
    return Plan(tuple(entries), tiers, expected, seconds, costs, before, solution)


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
