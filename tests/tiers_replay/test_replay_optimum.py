"""The bounds are what they claim: against brute force, against each other, and against a real cascade."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aura.tiers.replay.lru import Lru
from aura.tiers.replay.optimum import belady, gap_closed, optimum, pfoo_lower, stacked_cost
from aura.tiers.replay.policy import replay
from aura.tiers.replay.trace import Trace

KEYS = st.lists(st.integers(0, 5), min_size=1, max_size=11)


def most_hits(keys: list[int], sizes: list[int], capacity: int) -> int:
    """The most hits of any cache, by trying every set that it may hold after every access."""

    @cache
    def from_here(place: int, held: frozenset[int]) -> int:
        if place == len(keys):
            return 0
        now = held | {keys[place]}
        size = dict(zip(keys, sizes, strict=True))
        choices = {
            frozenset(chosen) for chosen in _subsets(sorted(now)) if sum(size[key] for key in chosen) <= capacity
        }
        return (keys[place] in held) + max(from_here(place + 1, each) for each in choices)

    return from_here(0, frozenset())


def _subsets(items: list[int]) -> list[list[int]]:
    return [[]] if not items else [rest + own for rest in _subsets(items[1:]) for own in ([], [items[0]])]


def trace_of(keys: list[int], sizes: list[int] | None = None) -> Trace:
    return Trace("hand", np.array(keys, dtype=np.int64), None if sizes is None else np.array(sizes, dtype=np.int64))


def test_belady_keeps_what_is_used_next():
    # Worked by hand: with two places, a and b stay and c is never kept.
    assert belady(trace_of([1, 2, 3, 1, 2, 3]), 2).hits == 2
    assert belady(trace_of([1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5]), 3).hits == 5
    assert replay(Lru(3), trace_of([1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5])).hits == 2


@settings(deadline=None, max_examples=60)
@given(KEYS, st.integers(1, 3))
def test_belady_has_as_many_hits_as_the_best_of_all_choices(keys, capacity):
    assert belady(trace_of(keys), capacity).hits == most_hits(keys, [1] * len(keys), capacity)


@settings(deadline=None, max_examples=60)
@given(KEYS, st.lists(st.integers(1, 4), min_size=6, max_size=6), st.integers(1, 8))
def test_the_bound_for_sizes_is_never_below_the_best_of_all_choices(keys, size_of, capacity):
    sizes = [size_of[key] for key in keys]
    assert pfoo_lower(trace_of(keys, sizes), capacity).hits >= most_hits(keys, sizes, capacity)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=200), st.integers(1, 10))
def test_the_bound_for_sizes_is_not_below_belady_where_all_sizes_are_one(keys, capacity):
    assert pfoo_lower(trace_of(keys), capacity).hits >= belady(trace_of(keys), capacity).hits


def test_the_bound_for_sizes_grants_the_cheapest_reuses():
    # Space-time 3 * 6 = 18: reuses of 1 at cost 3 * 4 = 12 and of 2 at cost 2 * 2 = 4, then 3 at 3 * 6 = 18 in part.
    trace = trace_of([1, 2, 3, 2, 1, 9], [3, 2, 6, 2, 3, 1])
    assert pfoo_lower(trace, 3).hits == 2
    assert pfoo_lower(trace, 3).missed_bytes == 17 - 5


def test_an_object_that_changed_its_size_is_no_hit():
    assert pfoo_lower(trace_of([1, 1], [2, 3]), 10).hits == 0


def test_the_bound_follows_whether_there_are_sizes():
    keys = [1, 2, 1, 2]
    assert optimum(trace_of(keys), 1) == belady(trace_of(keys), 1)
    assert optimum(trace_of(keys, [5, 5, 5, 5]), 5) == pfoo_lower(trace_of(keys, [5, 5, 5, 5]), 5)


class ExclusiveCascade:
    """LRU tiers one below the other: what one evicts goes into the next, what is read goes into the first."""

    def __init__(self, capacities: list[int]) -> None:
        self.capacities = capacities
        self.tiers: list[OrderedDict[int, None]] = [OrderedDict() for _ in capacities]

    def read(self, key: int) -> int:
        """The tier that had it; their number if none."""
        found = next((place for place, tier in enumerate(self.tiers) if key in tier), len(self.tiers))
        if found < len(self.tiers):
            del self.tiers[found][key]
        falling: int | None = key
        for tier, capacity in zip(self.tiers, self.capacities, strict=True):
            tier[falling] = None
            if len(tier) <= capacity:
                return found
            falling = tier.popitem(last=False)[0]
        return found


@given(st.lists(st.integers(0, 15), min_size=1, max_size=150), st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_the_stacked_cost_of_lru_is_that_of_a_real_cascade(keys, capacities):
    costs = [1.0, 3.0, 10.0, 40.0][: len(capacities) + 1]
    cascade = ExclusiveCascade(capacities)
    measured = np.mean([costs[cascade.read(key)] for key in keys])
    ratios = [replay(Lru(int(total)), trace_of(keys)).miss_ratio for total in np.cumsum(capacities)]
    assert stacked_cost(costs, ratios) == pytest.approx(measured)
    best = [belady(trace_of(keys), int(total)).miss_ratio for total in np.cumsum(capacities)]
    assert stacked_cost(costs, best) <= measured + 1e-12


def test_a_stack_wants_sorted_costs_and_a_miss_ratio_per_step():
    assert stacked_cost([1.0, 5.0, 105.0], [0.5, 0.1]) == pytest.approx(1 + 2 + 10)
    with pytest.raises(ValueError, match="sort the tiers by cost"):
        stacked_cost([5.0, 1.0], [0.5])
    with pytest.raises(ValueError, match="want 1 miss ratios"):
        stacked_cost([1.0, 5.0], [])


def test_the_gap_that_is_closed_counts_from_lru_to_the_optimum():
    assert gap_closed(0.5, 0.4, 0.3) == pytest.approx(0.5)
    assert gap_closed(0.5, 0.55, 0.3) == pytest.approx(-0.25)
    assert gap_closed(0.5, 0.5, 0.5) is None


def test_a_capacity_below_one_is_refused():
    for bound in (belady, pfoo_lower):
        with pytest.raises(ValueError, match="capacity is 0"):
            bound(trace_of([1]), 0)
