"""The replays cost what their parts say, and the layer pays less than the cascade."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aura.tiers.online.costs import TierCosts
from aura.tiers.online.simulate import dense_ids, replay_cascade, replay_layer
from aura.tiers.records import Tier
from aura.tiers.replay.lru import Lru
from aura.tiers.replay.optimum import stacked_cost
from aura.tiers.replay.policy import replay
from aura.tiers.replay.readers import read_trace
from aura.tiers.replay.trace import Trace

TRACES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "traces"


def tiers(first: int, second: int) -> tuple[TierCosts, ...]:
    return (
        TierCosts(Tier.L1, first, 1.0, 0, 2.0, 0),
        TierCosts(Tier.L2, second, 4.0, 0, 5.0, 0),
        TierCosts(Tier.L3, None, 9.0, 0, 0, 0),
    )


def trace_of(keys: str) -> Trace:
    return Trace("hand", np.array([ord(key) for key in keys], dtype=np.int64))


def test_ids_are_numbered_as_objects_appear():
    assert dense_ids(trace_of("zazbz")).tolist() == [0, 1, 0, 2, 0]


def test_the_cascade_pays_for_what_it_promotes_and_demotes():
    # a and b come from L3; b pushes a down, a comes up and pushes b down, b is found in L2 again.
    cost = replay_cascade(trace_of("abaab"), tiers(1, 1))
    assert dict(cost.gets) == {Tier.L1: 1, Tier.L2: 2, Tier.L3: 2}
    assert cost.get_seconds == 2 * 9 + 4 + 1 + 4
    assert cost.move_seconds == 2 * (9 + 2) + 2 * (4 + 2) + 3 * (1 + 5)
    assert cost.moved_bytes == 4 + 3
    at_hand = replay_cascade(trace_of("abaab"), tiers(1, 1), bytes_at_hand=True)
    assert at_hand.move_seconds == 4 * 2 + 3 * (1 + 5)


def test_what_falls_out_of_the_cascade_falls_for_free():
    cost = replay_cascade(trace_of("abcd"), tiers(1, 1))
    assert (cost.moved_bytes, cost.move_seconds) == (4 + 3, 4 * 11 + 3 * 6)


def test_an_object_too_large_for_the_fastest_tier_goes_to_the_next():
    trace = Trace("sized", np.array([1, 2, 1]), np.array([5, 1, 5]))
    assert dict(replay_cascade(trace, tiers(2, 8)).gets) == {Tier.L1: 0, Tier.L2: 1, Tier.L3: 2}


def test_the_gets_of_the_cascade_cost_what_two_stacked_lru_caches_do():
    trace = Trace("random", (60 * np.random.default_rng(0).random(5000) ** 2).astype(np.int64))
    ratios = [replay(Lru(held), trace).miss_ratio for held in (5, 15)]
    cost = replay_cascade(trace, tiers(5, 10))
    assert cost.get_seconds / cost.accesses == pytest.approx(stacked_cost([1, 4, 9], ratios))


def test_all_gets_are_counted_and_a_store_that_cannot_move_reads_from_the_disk():
    trace = Trace("random", (60 * np.random.default_rng(0).random(3000) ** 2).astype(np.int64))
    dear = (TierCosts(Tier.L1, 10, 1.0, 0, 1e9, 0), tiers(1, 1)[-1])
    cost = replay_layer(trace, dear)
    assert (cost.mean_seconds, cost.miss_ratio, cost.moved_bytes) == (9.0, 1.0, 0)


def test_on_skewed_reads_the_layer_pays_less_than_the_cascade_and_moves_less():
    rng = np.random.default_rng(1)
    trace = Trace("skewed", (2000 * rng.random(40_000) ** 3).astype(np.int64))
    seconds = tuple(
        TierCosts(
            each.tier, each.capacity_bytes, *(1e-6 * value for value in (each.get_seconds, 0, each.put_seconds, 0))
        )
        for each in tiers(50, 100)
    )
    layer, cascade = replay_layer(trace, seconds), replay_cascade(trace, seconds)
    assert sum(count for _, count in layer.gets) == len(trace)
    assert layer.mean_seconds < 0.7 * cascade.mean_seconds
    assert layer.moved_bytes < 0.2 * cascade.moved_bytes


def test_a_batch_ends_after_a_tenth_of_a_second_of_gets():
    # Gets of 9 s: each read is a batch of its own, so that what is read again was moved in time.
    trace = trace_of("ab" * 2000)
    assert replay_layer(trace, tiers(2, 2)).miss_ratio < 0.8


@pytest.mark.parametrize(
    ("name", "layout"),
    [("cache2k_web12.trace.xz", None), ("qwen.route.csv", "decoding"), ("mooncake_synthetic.jsonl", "blocks")],
)
def test_on_recorded_traces_the_layer_costs_less_than_the_cascade(name: str, layout: str | None):
    if not (TRACES / name).is_file():
        pytest.skip(f"the recorded trace {TRACES / name} is not on this machine")
    trace = read_trace(TRACES / name, layout=layout).without_sizes()
    fast = trace.unique // 10
    lines = ((1e-7, 3e-6, fast // 3), (4e-6, 8e-6, fast - fast // 3), (8e-6, 0.0, None))
    costs = [
        TierCosts(tier, room, get, 0, put, 0)
        for tier, (get, put, room) in zip((Tier.L1, Tier.L2, Tier.L3), lines, strict=True)
    ]
    layer, cascade = replay_layer(trace, costs), replay_cascade(trace, costs)
    assert layer.mean_seconds < 0.85 * cascade.mean_seconds
    assert layer.moved_bytes < 0.5 * cascade.moved_bytes
