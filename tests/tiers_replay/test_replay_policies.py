"""Policies do what their papers say, keep within their capacity, and never beat the optimum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aura.tiers.gaps import find_cycle
from aura.tiers.replay.arc import Arc
from aura.tiers.replay.cycle_aware import CycleAware
from aura.tiers.replay.hit_density import HitDensity
from aura.tiers.replay.lru import Lru
from aura.tiers.replay.one_hit_gate import OneHitGate
from aura.tiers.replay.optimum import belady, gap_closed, pfoo_lower
from aura.tiers.replay.policies import POLICIES, make_policy
from aura.tiers.replay.policy import Policy, replay
from aura.tiers.replay.portfolio import Portfolio
from aura.tiers.replay.ranked import Ranked
from aura.tiers.replay.s3_fifo import S3Fifo
from aura.tiers.replay.trace import Trace
from aura.tiers.replay.w_tinylfu import WTinyLfu

KEYS = st.lists(st.integers(0, 12), min_size=1, max_size=120)
SIZED = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 6)), min_size=1, max_size=100)


def trace_of(keys: str | list[int]) -> Trace:
    return Trace("hand", np.array([ord(key) if isinstance(key, str) else key for key in keys], dtype=np.int64))


def hits(policy: Policy, keys: str) -> str:
    """Which accesses were hits, one letter each."""
    return "".join("h" if policy.access(ord(key)) else "." for key in keys)


def held(policy: Policy) -> str:
    """Keys that are held, those first that would go first."""
    return "".join(chr(key) for key, _ in policy.contents())


def zipf_with_scans(seed: int, length: int = 20_000) -> Trace:
    """Popular keys, with a scan over keys that never come again after every 1000 accesses."""
    random = np.random.default_rng(seed)
    popular = np.minimum(random.zipf(1.2, length), 4000)
    ids = [
        np.concatenate([popular[start : start + 1000], 10_000 + start + np.arange(500)])
        for start in range(0, length, 1000)
    ]
    return Trace("zipf with scans", np.concatenate(ids))


def layers(seed: int, tokens: int = 150, count: int = 24, experts: int = 64, top: int = 4) -> Trace:
    """The experts that a model with layers reads token by token: a fixed popularity in each layer."""
    random = np.random.default_rng(seed)
    chances = np.exp(random.normal(0, 1.5, (count, experts)))
    chances /= chances.sum(axis=1, keepdims=True)
    ids = [
        layer << 32 | expert
        for _ in range(tokens)
        for layer in range(count)
        for expert in random.choice(experts, top, replace=False, p=chances[layer]).tolist()
    ]
    return Trace("layers", np.array(ids))


def test_lru_evicts_what_was_read_longest_ago():
    policy = Lru(3)
    assert hits(policy, "abcadab") == "...h.h."
    assert held(policy) == "dab"


def test_s3_fifo_lets_a_scan_pass_through_the_small_queue():
    policy = S3Fifo(10)
    hits(policy, "aabbaabb" + "uvwxyzUVWXYZ")
    assert hits(policy, "ab") == "hh"
    assert set("ab") < set(held(policy)[-3:])


def test_s3_fifo_brings_a_ghost_back_into_the_main_queue():
    policy = S3Fifo(3)
    assert hits(policy, "abcd" + "a") == "....."
    assert "a" not in [chr(key) for key in policy._small]
    assert hits(policy, "xyza") == "...h"


def test_arc_keeps_what_was_read_twice_through_a_scan():
    policy = Arc(4)
    assert hits(policy, "abab" + "uvwxyz" + "ab") == "..hh" + "......" + "hh"


def test_arc_favours_recency_after_a_hit_on_a_ghost_of_what_was_read_once():
    policy = Arc(2)
    assert hits(policy, "aab") == ".h."
    assert policy._target == 0
    hits(policy, "c")  # b leaves T1 for B1
    assert hits(policy, "b") == "."
    assert policy._target == 1
    assert held(policy).endswith("b")


def test_w_tinylfu_admits_only_what_is_read_more_often_than_the_victim():
    policy = WTinyLfu(4)
    hits(policy, "aaabbbcccd")
    hits(policy, "xyzxyz")
    assert hits(policy, "abc") == "hhh"


def test_the_gate_refuses_what_is_read_once_and_admits_it_the_second_time():
    policy = OneHitGate(2)
    assert hits(policy, "ab" + "cde" + "ab") == "....." + "hh"
    assert hits(policy, "e" + "e") == ".h"
    assert policy.admitted == 3


@given(KEYS, st.integers(1, 6))
def test_lru_hits_where_the_stack_distance_is_below_the_capacity(keys, capacity):
    # An independent reference: the number of different keys since the last read of the same one.
    policy = Lru(capacity)
    for place, key in enumerate(keys):
        before = [other for other in range(place) if keys[other] == key]
        near = bool(before) and len(set(keys[before[-1] + 1 : place])) < capacity
        assert policy.access(key) == near


@pytest.mark.parametrize("name", POLICIES)
@settings(deadline=None, max_examples=60)
@given(accesses=SIZED, capacity=st.integers(1, 14))
def test_no_policy_exceeds_its_capacity_or_forgets_what_it_holds(name, accesses, capacity):
    policy = make_policy(name, capacity, object_bytes=3)
    contents: dict[int, int] = {}
    admitted = 0
    for key, size in accesses:
        hit = policy.access(key, size)
        assert hit == (contents.get(key) == size)
        if hit:
            assert policy.admitted == admitted
        admitted = policy.admitted
        contents = dict(policy.contents())
        assert sum(contents.values()) == policy.used <= capacity
        assert contents.get(key, size) == size
    assert policy.admitted >= policy.used


@pytest.mark.parametrize("name", POLICIES)
@settings(deadline=None, max_examples=40)
@given(keys=KEYS, capacity=st.integers(1, 6))
def test_no_policy_beats_belady(name, keys, capacity):
    trace = trace_of(keys)
    assert replay(make_policy(name, capacity), trace).hits <= belady(trace, capacity).hits


@pytest.mark.parametrize("name", POLICIES)
@settings(deadline=None, max_examples=40)
@given(accesses=SIZED, capacity=st.integers(1, 14))
def test_no_policy_beats_the_bound_for_sizes(name, accesses, capacity):
    keys, sizes = (np.array(each, dtype=np.int64) for each in zip(*accesses, strict=True))
    trace = Trace("sized", keys, sizes)
    outcome, bound = replay(make_policy(name, capacity), trace), pfoo_lower(trace, capacity)
    assert outcome.hits <= bound.hits
    assert outcome.missed_bytes >= bound.missed_bytes


@given(SIZED, st.integers(1, 14))
def test_arc_keeps_the_bounds_of_its_four_lists(accesses, capacity):
    policy = Arc(capacity)
    for key, size in accesses:
        policy.access(key, size)
        lists = policy._t1, policy._t2, policy._b1, policy._b2
        t1, t2, b1, b2 = (queue.total for queue in lists)
        assert [queue.total for queue in lists] == [sum(queue.values()) for queue in lists]
        assert t1 + t2 <= capacity
        assert t1 + b1 <= capacity
        assert t1 + t2 + b1 + b2 <= 2 * capacity
        assert 0 <= policy._target <= capacity
        assert len(set().union(*lists)) == sum(map(len, lists))


@given(SIZED, st.integers(1, 14))
def test_s3_fifo_keeps_its_queues_apart_and_its_ghosts_bounded(accesses, capacity):
    policy = S3Fifo(capacity)
    for key, size in accesses:
        policy.access(key, size)
        queues = policy._small, policy._main, policy._ghosts
        assert len(set().union(*queues)) == sum(map(len, queues))
        assert policy._small_used == sum(policy._small.values())
        assert policy._ghosts_used == sum(policy._ghosts.values()) <= capacity
        assert policy._reads.keys() == policy._small.keys() | policy._main.keys()
        assert all(0 <= reads <= 3 for reads in policy._reads.values())


@pytest.mark.parametrize("name", POLICIES)
def test_an_object_larger_than_the_cache_is_never_kept(name):
    policy = make_policy(name, 10)
    assert [policy.access(1, 11) for _ in range(3)] == [False] * 3
    assert (policy.used, list(policy.contents())) == (0, [])


@pytest.mark.parametrize("name", POLICIES)
def test_a_replay_comes_out_the_same_twice(name):
    trace = zipf_with_scans(3, 4000)
    first, second = (replay(make_policy(name, 200), trace) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", ["s3-fifo", "arc", "hit-density", "portfolio"])
def test_what_resists_scans_closes_part_of_the_gap_on_popular_keys_with_scans(name):
    trace = zipf_with_scans(5)
    lru, best = (each.miss_ratio for each in (replay(Lru(300), trace), belady(trace, 300)))
    assert gap_closed(lru, replay(make_policy(name, 300), trace).miss_ratio, best) > 0.15


def test_the_cycle_is_found_and_held_against_lru_where_less_than_one_fits():
    trace = layers(2)
    ranking = CycleAware()
    outcome = replay(Ranked(60, ranking), trace)
    assert ranking.cycle == pytest.approx(96, abs=1)
    assert replay(Lru(60), trace).hits == 0
    assert outcome.hits > 0.4 * belady(trace, 60).hits


def test_no_cycle_is_found_in_gaps_of_all_lengths():
    gaps = np.exp(np.random.default_rng(4).uniform(np.log(32), np.log(60_000), 1024))
    assert find_cycle(np.floor(gaps)) is None
    assert find_cycle(np.array([100.0, 201.0, 100.0, 299.0] * 20)) == 100


def test_without_a_cycle_the_score_is_that_of_lru():
    trace = zipf_with_scans(6, 5000)
    ranking = CycleAware()
    ranked, lru = replay(Ranked(30, ranking), trace), replay(Lru(30), trace)
    assert ranking.cycle is None
    assert ranked == lru


def test_hit_density_learns_to_refuse_keys_that_never_come_again():
    policy = Ranked(300, HitDensity())
    replay(policy, zipf_with_scans(8))
    before = policy.admitted
    for key in range(50_000, 50_400):
        policy.access(key)
    assert policy.admitted - before < 200


def test_the_portfolio_leaves_lru_where_less_than_a_cycle_fits_and_says_so():
    trace = layers(9)
    policy = Portfolio(60)
    outcome = replay(policy, trace)
    assert policy.following != "lru"
    assert policy.cycle == pytest.approx(96, abs=1)
    assert outcome.hits > 0.35 * belady(trace, 60).hits


def test_the_portfolio_stays_with_lru_where_nothing_is_better():
    trace = trace_of([key for start in range(4000) for key in (start, start + 1)])
    policy = Portfolio(50)
    outcome = replay(policy, trace)
    assert policy.switches == []
    assert outcome == replay(Lru(50), trace)


def test_the_portfolio_takes_its_contents_along_without_bringing_them_in_again():
    policy = Portfolio(40)
    for key in range(30):
        policy.access(key)
    before = policy.admitted
    policy._follow("arc")
    assert {key for key, _ in policy.contents()} == set(range(30))
    policy.access(0)
    assert policy.admitted == before == 30


def test_an_unknown_policy_and_an_empty_cache_are_refused():
    with pytest.raises(ValueError, match="no policy 'clock'; there are lru"):
        make_policy("clock", 5)
    with pytest.raises(ValueError, match="capacity is 0"):
        make_policy("lru", 0)
