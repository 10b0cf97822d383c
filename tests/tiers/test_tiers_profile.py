"""The measured profile of a real store: complete, tidy afterwards, honest about what it could not measure."""

import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aura.tiers.codec import encode
from aura.tiers.latency import fit_latency, summarize_latencies
from aura.tiers.profile import (
    COSTS,
    SAMPLES,
    SKIPPED,
    TierProfile,
    UnknownTierCostError,
    machine_name,
    measure_profile,
)
from aura.tiers.scratch import KINDS, SCRATCH
from aura.tiers.store import Tier, TierBudgets, open_store
from aura.tiers.tables import ValueSchemaError

SIZES = (4 << 10, 32 << 10, 256 << 10)
BUDGETS = TierBudgets(process_bytes=200 << 10, arena_bytes=2 << 20)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("store"), budgets=BUDGETS) as opened:
        opened.put("kept", b"x" * 1000)
        opened.get("kept")
        yield opened


@pytest.fixture(scope="module")
def measured(store):
    return measure_profile(store, sizes=SIZES, repeats=3, seed=1)


def rows(table, **wanted):
    return [row for row in table.to_pylist() if all(row[name] == value for name, value in wanted.items())]


def test_every_tier_operation_and_kind_has_a_line(measured, store):
    tiers = [str(state.tier) for state in store.tiers()]
    expected = {(tier, "get", kind) for tier in tiers for kind in KINDS} | {(tier, "put", "bytes") for tier in tiers}
    assert {(row["tier"], row["operation"], row["kind"]) for row in measured.costs.to_pylist()} == expected
    assert measured.tiers == tuple(Tier(tier) for tier in tiers)
    assert measured.machine == machine_name()


def test_lines_are_positive_and_samples_ordered(measured):
    for row in measured.costs.to_pylist():
        assert row["intercept_seconds"] + row["seconds_per_byte"] > 0
        if row["seconds_per_byte"] > 0:
            assert row["bandwidth_bytes_per_second"] == pytest.approx(1 / row["seconds_per_byte"])
    for row in measured.samples.to_pylist():
        assert 0 < row["p10_seconds"] <= row["median_seconds"] <= row["p90_seconds"]
        assert row["n"] >= 3


def test_the_store_is_as_before(measured, store):
    assert [entry.key for entry in store.entries()] == ["kept"]
    assert all(state.used_bytes == 0 for state in store.tiers() if state.tier is not Tier.L3)
    assert len(store.access_log().ids) == 1


def test_a_size_that_does_not_fit_a_tier_is_skipped_with_its_reason(measured):
    skipped = rows(measured.skipped, tier="L1", operation="get", kind="bytes")
    assert [row["bytes"] for row in skipped] == [256 << 10]
    assert "does not fit" in skipped[0]["reason"] or str(256 << 10) in skipped[0]["reason"]
    assert len(rows(measured.samples, tier="L1", operation="get", kind="bytes")) == 2
    assert rows(measured.skipped, tier="L1", operation="put")
    assert not rows(measured.skipped, tier="L3")


def test_a_prediction_at_a_measured_size_is_its_median(measured):
    for row in measured.samples.to_pylist():
        predicted = measured.predict_seconds(Tier(row["tier"]), row["bytes"], row["kind"], row["operation"])
        assert predicted == pytest.approx(row["median_seconds"])


def test_predictions_follow_the_line_beyond_the_measured_sizes():
    profile = line_profile(intercept=1e-6, slope=1e-9, sizes=(1000, 10_000))
    assert profile.predict_seconds(Tier.L3, [0, 1000, 5000, 100_000]) == pytest.approx([1e-6, 2e-6, 6e-6, 101e-6])


def line_profile(*, intercept, slope, sizes):
    seconds = [intercept + slope * size for size in sizes]
    line = dict.fromkeys(COSTS.names) | {
        "tier": "L3",
        "operation": "get",
        "kind": "table",
        "intercept_seconds": intercept,
        "seconds_per_byte": slope,
        "worst_relative_error": 0.0,
        "joules_source": "unavailable",
    }
    samples = {
        "tier": ["L3"] * len(sizes),
        "operation": ["get"] * len(sizes),
        "kind": ["table"] * len(sizes),
        "bytes": list(sizes),
        "n": [1] * len(sizes),
        "median_seconds": seconds,
        "p10_seconds": seconds,
        "p90_seconds": seconds,
    }
    costs = pa.Table.from_pylist([line], schema=COSTS)
    return TierProfile(costs, pa.table(samples, schema=SAMPLES), SKIPPED.empty_table(), "m", rounds=1, seed=0)


def test_an_unmeasured_cost_is_an_error_that_says_why(tmp_path):
    with open_store(tmp_path / "store", budgets=TierBudgets(process_bytes=5 << 10, arena_bytes=0)) as small:
        profile = measure_profile(small, sizes=SIZES, repeats=1)
    assert profile.tiers == (Tier.L3,)
    with pytest.raises(UnknownTierCostError, match=r"get of table in L1 \(.*measure the profile again"):
        profile.predict_seconds(Tier.L1, 1000)
    with pytest.raises(UnknownTierCostError, match="measured are L3"):
        profile.predict_seconds(Tier.L0, 1000)


def test_without_a_counter_energy_is_unavailable_and_never_a_number(measured):
    assert set(measured.costs["joules_source"].to_pylist()) == {"unavailable"}
    assert measured.costs["joules_per_byte"].null_count == measured.costs.num_rows


def test_a_counter_gives_joules_and_one_that_fails_gives_none(store):
    profile = measure_profile(store, sizes=SIZES[:2], repeats=1, energy=time.perf_counter)
    assert set(profile.costs["joules_source"].to_pylist()) == {"measured"}
    assert min(profile.costs["joules_per_byte"].to_pylist()) > 0
    readings = iter([1.0, 2.0])
    profile = measure_profile(store, sizes=SIZES[:2], repeats=1, energy=lambda: next(readings, None))
    assert set(profile.costs["joules_source"].to_pylist()) == {"unavailable"}


def test_an_interrupted_measurement_removes_its_objects(store):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_profile(store, sizes=SIZES[:2], repeats=1, progress=interrupt)
    assert store.entries(SCRATCH) == []


def test_objects_that_a_killed_measurement_left_are_removed_by_the_next(store):
    store.put(f"{SCRATCH}bytes/99/0", b"left")
    steps = []
    measure_profile(store, sizes=SIZES[:2], repeats=2, progress=lambda done, total: steps.append((done, total)))
    assert store.entries(SCRATCH) == []
    assert steps == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"sizes": (4096, 4096)}, "two different sizes"), ({"sizes": (1, 4096)}, "1024"), ({"repeats": 0}, "one round")],
)
def test_a_measurement_that_cannot_give_a_line_is_refused(store, arguments, message):
    with pytest.raises(ValueError, match=message):
        measure_profile(store, **arguments)


def test_a_profile_survives_its_parts_byte_for_byte(measured):
    parts = measured.to_parts()
    back = TierProfile.from_parts(parts)
    assert back.costs.equals(measured.costs)
    assert (back.machine, back.rounds, back.seed) == (measured.machine, 3, 1)
    for name, part in back.to_parts().items():
        assert encode(part).payload == encode(parts[name]).payload


def test_parts_of_another_value_are_refused(measured):
    parts = dict(measured.to_parts())
    with pytest.raises(ValueSchemaError, match="part 'samples' is missing"):
        TierProfile.from_parts({"costs": parts["costs"]})
    with pytest.raises(ValueSchemaError, match="expected an Arrow table"):
        TierProfile.from_parts(parts | {"samples": b""})
    with pytest.raises(ValueSchemaError, match="samples"):
        TierProfile.from_parts(parts | {"samples": parts["skipped"]})
    with pytest.raises(ValueSchemaError, match="metadata lacks"):
        TierProfile.from_parts(parts | {"costs": measured.costs})


@given(st.floats(1e-8, 1e-2), st.floats(0, 1e-6), st.lists(st.integers(1, 1 << 24), min_size=2, unique=True))
@settings(max_examples=100, deadline=None)
def test_the_fit_finds_an_exact_line(intercept, slope, sizes):
    fit = fit_latency(sizes, [intercept + slope * size for size in sizes])
    predicted = fit.intercept_seconds + fit.seconds_per_byte * np.array(sizes)
    assert predicted == pytest.approx(intercept + slope * np.array(sizes), rel=1e-6)
    assert fit.worst_relative_error < 1e-6


@given(st.lists(st.tuples(st.integers(1, 1 << 24), st.floats(1e-8, 1.0)), min_size=2, unique_by=lambda pair: pair[0]))
@settings(max_examples=100, deadline=None)
def test_no_coefficient_is_ever_negative(points):
    fit = fit_latency(*zip(*points, strict=True))
    assert fit.intercept_seconds >= 0
    assert fit.seconds_per_byte >= 0
    assert (fit.intercept_stderr is None) == (len(points) == 2)


def test_the_standard_error_covers_the_truth_of_a_noisy_line():
    rng = np.random.default_rng(3)
    sizes = np.geomspace(4096, 4 << 20, 12)
    hits = 0
    for _ in range(200):
        fit = fit_latency(sizes, (5e-6 + 1e-10 * sizes) * rng.normal(1, 0.05, len(sizes)))
        hits += abs(fit.seconds_per_byte - 1e-10) < 2 * fit.seconds_per_byte_stderr
    assert 0.85 < hits / 200 < 0.99


@pytest.mark.parametrize(("sizes", "seconds"), [([1], [1.0]), ([2, 2], [1.0, 1.0]), ([1, 2], [0.0, 1.0])])
def test_a_fit_needs_two_sizes_and_positive_latencies(sizes, seconds):
    with pytest.raises(ValueError, match=r"sizes|positive"):
        fit_latency(sizes, seconds)


def test_the_bootstrap_interval_of_the_mean_covers_it_and_is_seeded():
    seconds = np.random.default_rng(0).exponential(1.0, 2000)
    summary = summarize_latencies(seconds, resamples=500, seed=1)
    assert summary.mean_low < summary.mean_seconds < summary.mean_high
    assert summary.mean_high - summary.mean_low == pytest.approx(2 * 1.96 / np.sqrt(2000), rel=0.15)
    assert (summary.n, summary.p50_seconds) == (2000, np.median(seconds))
    assert summary == summarize_latencies(seconds, resamples=500, seed=1)
    with pytest.raises(ValueError, match="no latencies"):
        summarize_latencies([], resamples=10, seed=0)
