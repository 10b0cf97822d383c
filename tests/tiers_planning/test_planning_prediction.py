"""What a sequence of reads will cost: reuse distances, interpolation, and the comparison with a replay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aura.tiers.budgets import TierBudgets
from aura.tiers.planning.latency import summarize_latencies, without_interruptions
from aura.tiers.planning.prediction import PredictedMean, Replay, predict_mean, replay
from aura.tiers.planning.profile import measure_profile
from aura.tiers.planning.reuse import reuse_bytes
from aura.tiers.planning.rounds import passing_bytes
from aura.tiers.planning.scratch import KINDS, scratch_object
from aura.tiers.planning.surface import LEAST_REUSE, Surface
from aura.tiers.records import Entry, Tier
from aura.tiers.store import open_store

BUDGETS = TierBudgets(process_bytes=4 << 20, arena_bytes=8 << 20)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(0)
    with open_store(tmp_path_factory.mktemp("store"), budgets=BUDGETS) as opened:
        for number in range(60):
            opened.put(f"object/{number:02d}", scratch_object(KINDS[number % 3], 3000 + 1500 * number, rng))
        keys = [entry.key for entry in opened.entries()]
        opened.move({key: (Tier.L1, Tier.L2, Tier.L3)[number % 3] for number, key in enumerate(keys)})
        yield opened


@pytest.fixture(scope="module")
def profile(store):
    return measure_profile(store, sizes=(4 << 10, 64 << 10, 256 << 10), repeats=3)


def test_the_distance_counts_every_object_between_two_reads_once():
    sizes = np.array([1.0, 10.0, 100.0])
    distances = reuse_bytes(np.array([0, 1, 1, 2, 1, 0, 0]), sizes)
    assert distances.tolist() == [np.inf, np.inf, 0, np.inf, 100, 110, 0]


@given(st.lists(st.integers(0, 7), max_size=60), st.lists(st.integers(0, 1000), min_size=8, max_size=8))
@settings(max_examples=100, deadline=None)
def test_the_distance_is_that_of_its_definition(reads, sizes):
    distances = reuse_bytes(np.array(reads, dtype=np.int64), np.array(sizes, dtype=np.float64))
    for now, number in enumerate(reads):
        before = [place for place in range(now) if reads[place] == number]
        expected = sum(sizes[each] for each in set(reads[before[-1] + 1 : now])) if before else np.inf
        assert distances[now] == pytest.approx(expected)


def test_process_memory_copies_nothing_and_the_block_cache_sees_only_the_disk():
    assert passing_bytes(Tier.L2, Tier.L1, 10) == passing_bytes(Tier.L3, Tier.L1, 10) == 0
    assert passing_bytes(Tier.L3, Tier.L2, 10) == 0
    assert passing_bytes(Tier.L3, Tier.L3, 10) == passing_bytes(Tier.L2, Tier.L3, 10) == 10


def surface(mean):
    sizes, reuse = np.array([1024.0, 4096.0, 16384.0]), np.array([LEAST_REUSE, 1 << 22, 1 << 24])
    return Surface(sizes, reuse, np.array(mean), 0.1 * np.array(mean), 1e-6, 1e-9)


def test_a_surface_meets_what_was_measured_and_stays_between_it():
    means = np.random.default_rng(0).uniform(1e-6, 1e-4, (3, 3))
    drawn = surface(means)
    for row, reuse in enumerate(drawn.reuse):
        assert drawn.seconds(drawn.sizes, reuse) == pytest.approx(means[row])
    ratio = means / drawn.line(drawn.sizes)
    between = drawn.seconds(2048, 1 << 23) / drawn.line(2048)
    assert ratio[1:, :2].min() <= between <= ratio[1:, :2].max()
    assert drawn.seconds(4096, 0) == pytest.approx(means[0, 1])
    assert drawn.seconds(1 << 20, np.inf) == pytest.approx(drawn.line(1 << 20) * ratio[2, 2])


@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(0, 1e9)), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_the_sum_of_predictions_is_linear_in_what_was_measured(reads):
    drawn = surface(np.random.default_rng(1).uniform(1e-6, 1e-4, (3, 3)))
    size, reuse = (np.array(each) for each in zip(*reads, strict=True))
    total = (drawn.coefficients(size, reuse) * drawn.mean_seconds).sum()
    assert total == pytest.approx(drawn.seconds(size, reuse).sum())


def test_the_same_object_again_and_again_is_cheaper_than_a_round_through_all(store, profile):
    lives = {entry.key: entry for entry in store.entries()}
    keys = sorted(lives)
    again = predict_mean(profile, lives, [key for key in keys for _ in range(20)])
    around = predict_mean(profile, lives, keys * 20)
    assert again.mean_seconds < around.mean_seconds
    for predicted in (again, around):
        assert 0 < predicted.mean_low <= predicted.mean_seconds <= predicted.mean_high
        assert predicted.calm_mean_seconds <= predicted.mean_seconds
    with pytest.raises(ValueError, match="no reads"):
        predict_mean(profile, lives, [])


def test_one_read_costs_what_the_profile_says(profile):
    lives = {"a": Entry("a", 0, "table", 10_000, Tier.L2), "b": Entry("b", 1, "bytes", 1 << 20, Tier.L3)}
    # Before the read of `a`, both have been read once in order of their keys.
    predicted = predict_mean(profile, lives, ["a", "b"])
    first = profile.predict_seconds(Tier.L2, 10_000, "table", reuse_bytes=1 << 20)
    second = profile.predict_seconds(Tier.L3, 1 << 20, "bytes", reuse_bytes=0)
    assert predicted.mean_seconds == pytest.approx((first + second) / 2)


def test_a_replay_reads_what_is_there_and_logs_nothing(store, profile):
    keys = [entry.key for entry in store.entries()]
    logged = len(store.access_log().ids)
    found = replay(store, profile, [*keys, "gone", *keys])
    assert found.measured.n == 2 * len(keys)
    assert 0 < found.calm_mean_seconds <= found.measured.mean_seconds * (1 + 1e-9)
    assert len(store.access_log().ids) == logged
    assert replay(store, profile, ["gone"]) is None
    assert replay(store, profile, []) is None


def test_errors_are_relative_to_what_was_measured():
    seconds = np.array([1e-6, 1e-6, 1e-6, 1e-6, 96e-6])
    measured = summarize_latencies(seconds, resamples=10, seed=0)
    compared = Replay(PredictedMean(22e-6, 21e-6, 23e-6, 2e-6), measured, without_interruptions(seconds).mean())
    assert compared.relative_error == pytest.approx(0.1)
    assert compared.calm_error == pytest.approx(2 / 1 - 1)
