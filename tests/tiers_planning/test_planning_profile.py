"""The measured profile of a real store: complete, tidy afterwards, honest about what it could not measure."""

import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from aura.measure.energy import ModelledCpu, open_meter
from aura.tiers.budgets import TierBudgets
from aura.tiers.codec import encode
from aura.tiers.planning.latency import fit_latency, lines_through, summarize_latencies
from aura.tiers.planning.profile import TierProfile, UnknownTierCostError, machine_name, measure_profile
from aura.tiers.planning.samples import COSTS, SAMPLES, SKIPPED, Cell, Line, tabulate
from aura.tiers.planning.scratch import KINDS, SCRATCH
from aura.tiers.records import Tier
from aura.tiers.store import open_store
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
        assert row["mean_seconds"] > 0
        assert row["mean_stderr"] >= 0
        assert row["n"] >= 1
    assert measured.interrupted >= 1


def test_every_coefficient_is_within_its_interval(measured):
    for row in measured.costs.to_pylist():
        for name in ("intercept", "seconds_per_byte"):
            value = row[f"{name}_seconds" if name == "intercept" else name]
            assert 0 <= row[f"{name}_low"] <= row[f"{name}_high"]
            assert row[f"{name}_low"] * 0.5 <= value <= row[f"{name}_high"] * 2


def test_gets_are_measured_at_several_reuse_distances(measured):
    for tier in ("L1", "L2", "L3"):
        found = {row["reuse_bytes"] for row in rows(measured.samples, tier=tier, operation="get", kind="bytes")}
        assert min(found) == 0
        assert max(found) > 4 << 20
        assert len(found) >= 3
    assert {row["reuse_bytes"] for row in rows(measured.samples, operation="put")} == {0}


def test_the_store_is_as_before(measured, store):
    assert [entry.key for entry in store.entries()] == ["kept"]
    assert all(state.used_bytes == 0 for state in store.tiers() if state.tier is not Tier.L3)
    assert len(store.access_log().ids) == 1


def test_a_size_that_does_not_fit_a_tier_is_skipped_with_its_reason(measured):
    skipped = rows(measured.skipped, tier="L1", operation="get", kind="bytes")
    assert [row["bytes"] for row in skipped] == [256 << 10]
    assert "does not fit" in skipped[0]["reason"] or str(256 << 10) in skipped[0]["reason"]
    found = rows(measured.samples, tier="L1", operation="get", kind="bytes")
    assert {row["bytes"] for row in found} == {4 << 10, 32 << 10}
    assert rows(measured.skipped, tier="L1", operation="put")
    assert not rows(measured.skipped, tier="L3")


def test_a_prediction_at_a_measured_size_and_distance_is_its_mean(measured):
    for row in measured.samples.to_pylist():
        tier, reuse = Tier(row["tier"]), row["reuse_bytes"]
        predicted = measured.predict_seconds(tier, row["bytes"], row["kind"], row["operation"], reuse_bytes=reuse)
        assert predicted == pytest.approx(row["mean_seconds"])


def test_predictions_without_a_distance_are_those_of_reads_between_many_others(measured):
    for tier in measured.tiers:
        far = measured.predict_seconds(tier, [5000, 20_000], reuse_bytes=1 << 40)
        assert measured.predict_seconds(tier, [5000, 20_000]).tolist() == far.tolist()


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
        "reuse_bytes": [0] * len(sizes),
        "n": [1] * len(sizes),
        "mean_seconds": seconds,
        "mean_stderr": [0.0] * len(sizes),
        "median_seconds": seconds,
        "p10_seconds": seconds,
        "p90_seconds": seconds,
    }
    tables = pa.Table.from_pylist([line], schema=COSTS), pa.table(samples, schema=SAMPLES), SKIPPED.empty_table()
    return TierProfile(*tables, "m", energy="none", interrupted=1.0, interrupted_stderr=0.0, rounds=1, seed=0)


def test_an_unmeasured_cost_is_an_error_that_says_why(tmp_path):
    with open_store(tmp_path / "store", budgets=TierBudgets(process_bytes=5 << 10, arena_bytes=0)) as small:
        profile = measure_profile(small, sizes=SIZES, repeats=1)
    assert profile.tiers == (Tier.L3,)
    with pytest.raises(UnknownTierCostError, match=r"get of table in L1 \(.*measure the profile again"):
        profile.predict_seconds(Tier.L1, 1000)
    with pytest.raises(UnknownTierCostError, match="measured are L3"):
        profile.predict_seconds(Tier.L0, 1000)


def test_without_a_counter_energy_is_unavailable_and_never_a_number(measured, store, tmp_path):
    meter = open_meter("auto", powercap_root=tmp_path)
    for profile in (measured, measure_profile(store, sizes=SIZES[:2], repeats=1, meter=meter)):
        assert set(profile.costs["joules_source"].to_pylist()) == {"unavailable"}
        assert profile.costs["joules_per_byte"].null_count == profile.costs.num_rows
        assert profile.energy.startswith("unavailable")
    assert "no RAPL zones" in profile.energy


COUNTER = """
import pathlib, sys, time
zone, watts = pathlib.Path(sys.argv[1]), float(sys.argv[2])
started = time.monotonic()
while True:
    # Whole, as the kernel answers.
    (zone / "next").write_text(f"{int(1e6 * watts * (time.monotonic() - started))}\\n")
    (zone / "next").replace(zone / "energy_uj")
    time.sleep(0.002)
"""


@pytest.fixture
def powercap(tmp_path):
    """A directory like the kernel's powercap class with one package; another process advances its counter at 40 W."""
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("262143328850\n")
    (zone / "energy_uj").write_text("0\n")
    counter = subprocess.Popen([sys.executable, "-c", COUNTER, str(zone), "40"])
    while (zone / "energy_uj").read_text() == "0\n":
        assert counter.poll() is None
        time.sleep(0.01)
    yield tmp_path
    counter.kill()
    counter.wait()


@pytest.mark.slow
def test_a_counter_gives_joules_per_byte_and_says_that_they_are_measured(store, powercap):
    profile = measure_profile(store, sizes=SIZES[:2], repeats=1, meter=open_meter("auto", powercap_root=powercap))
    costs = profile.costs.to_pylist()
    # On a busy machine the process that advances the counter may miss the window of a line.
    measured = [row for row in costs if row["joules_source"] == "measured"]
    assert len(measured) > len(costs) / 2
    assert min(row["joules_per_byte"] for row in measured) > 0
    assert {(row["joules_source"], row["joules_per_byte"]) for row in costs if row not in measured} <= {
        ("unavailable", None)
    }
    assert "RAPL" in profile.energy


@pytest.mark.slow
def test_joules_of_a_model_are_never_called_measured(store):
    profile = measure_profile(store, sizes=SIZES[:2], repeats=1, meter=ModelledCpu(10.0))
    assert set(profile.costs["joules_source"].to_pylist()) == {"modelled"}
    assert profile.energy.startswith("modelled: busy-core")


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


@given(st.lists(st.tuples(st.integers(1, 1 << 24), st.floats(1e-8, 1.0)), min_size=2, unique_by=lambda pair: pair[0]))
@settings(max_examples=100, deadline=None)
def test_the_fit_is_that_of_constrained_least_squares(points):
    sizes, seconds = (np.array(each, dtype=np.float64) for each in zip(*points, strict=True))
    design = np.column_stack([1 / seconds, sizes / sizes.max() / seconds])
    _, residual = nnls(design, np.ones(len(sizes)))
    (intercept,), (slope,) = lines_through(sizes, seconds[None, :])
    assert np.linalg.norm(1 - (intercept + slope * sizes) / seconds) <= residual + 1e-6


def simulated(rng, *, rounds, interrupted=0.0, drift=0.05):
    """Samples of a line 5 us + 0.1 ns a byte; a machine that is 5 % faster or slower from round to round."""
    line = Line("L3", "get", "table")
    speed = rng.normal(1, drift, rounds)
    timed = {}
    for size in (4096, 65536, 1 << 20, 4 << 20):
        seconds = (5e-6 + 1e-10 * size) * speed[:, None] * rng.normal(1, 0.02, (rounds, 8))
        seconds += 4e-3 * (rng.random(seconds.shape) < seconds * interrupted)
        timed[Cell(line, size, 0)] = list(enumerate(seconds))
    return timed


def test_the_intervals_cover_the_truth_as_often_as_they_say():
    hits = 0
    for run in range(200):
        costs, _, _ = tabulate(simulated(np.random.default_rng(run), rounds=15), {}, rounds=15, seed=run)
        row = costs.to_pylist()[0]
        hits += row["seconds_per_byte_low"] <= 1e-10 <= row["seconds_per_byte_high"]
    assert 0.85 < hits / 200 < 1.0


def test_interruptions_raise_all_means_by_one_factor():
    rng = np.random.default_rng(0)
    timed = simulated(rng, rounds=60, interrupted=50.0, drift=0.0)
    _, samples, interruptions = tabulate(timed, {}, rounds=60, seed=0)
    # 50 interruptions of 4 ms in a second of gets.
    assert interruptions["get"].factor == pytest.approx(1.2, abs=0.05)
    for row in samples.to_pylist():
        assert row["mean_seconds"] == pytest.approx(1.2 * (5e-6 + 1e-10 * row["bytes"]), rel=0.06)


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
