"""Placement on a real store: what is read often ends up where reading is cheap, within every capacity."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aura.tiers.budgets import TierBudgets
from aura.tiers.catalog import Catalog
from aura.tiers.codec import encode
from aura.tiers.planning.checks import as_predicted, within_capacity
from aura.tiers.planning.placement import UNIFORM_BASIS, TierPlacement, apply_moves, plan_and_apply, restore_placement
from aura.tiers.planning.plan import plan_placement
from aura.tiers.planning.profile import TierProfile, measure_profile
from aura.tiers.planning.samples import COSTS, SAMPLES, SKIPPED
from aura.tiers.records import Access, Entry, Tier, TierState
from aura.tiers.store import open_store
from aura.tiers.tables import ValueSchemaError

KIB = 1024
BUDGETS = TierBudgets(process_bytes=256 * KIB, arena_bytes=512 * KIB)
LINES = {Tier.L1: (2e-7, 1e-13, 2e-6, 1e-10), Tier.L2: (2e-6, 1e-10, 2e-6, 1e-10), Tier.L3: (8e-6, 3e-10, 5e-3, 5e-9)}
"""Intercept and slope of get, then of put, as on a common machine."""


def profile_of(lines):
    """The profile of a machine with these lines, the same for every kind."""
    costs, samples = [], []
    for tier, (get, per_get_byte, put, per_put_byte) in lines.items():
        cells = [("get", kind, get, per_get_byte) for kind in ("bytes", "table", "tensors")]
        for operation, kind, intercept, slope in [*cells, ("put", "bytes", put, per_put_byte)]:
            cell = {"tier": str(tier), "operation": operation, "kind": kind}
            line = {"intercept_seconds": intercept, "seconds_per_byte": slope, "worst_relative_error": 0.0}
            costs.append(dict.fromkeys(COSTS.names) | cell | line | {"joules_source": "unavailable"})
            for size in (KIB, 1024 * KIB):
                seconds = {name: intercept + slope * size for name in SAMPLES.names if name.endswith("seconds")}
                samples.append(cell | {"bytes": size, "reuse_bytes": 0, "n": 1, "mean_stderr": 0.0} | seconds)
    return TierProfile(
        pa.Table.from_pylist(costs, schema=COSTS),
        pa.Table.from_pylist(samples, schema=SAMPLES),
        SKIPPED.empty_table(),
        "a common machine",
        energy="unavailable",
        interrupted=1.0,
        interrupted_stderr=0.0,
        rounds=1,
        seed=0,
    )


PROFILE = profile_of(LINES)


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("store"), budgets=BUDGETS) as store:
        objects = {
            f"values/weights/-/0/weights/{n:06d}": {"w": np.full(4 * KIB, n, dtype=np.float32)} for n in range(60)
        }
        store.write(objects)
        yield store


@pytest.fixture
def store(shared_store):
    shared_store.trim_access_log(0)
    yield shared_store
    weights = shared_store.entries("values/weights/")
    shared_store.move({entry.key: Tier.L3 for entry in weights})
    others = {entry.key for entry in shared_store.entries()} - {entry.key for entry in weights}
    shared_store.write({}, others)


def read_skewed(store, accesses=3000):
    """Read the published objects, the first ones most; returns their keys in order of popularity."""
    keys = [entry.key for entry in store.entries("values/")]
    chances = 1 / np.arange(1, len(keys) + 1) ** 1.3
    for index in np.random.default_rng(0).choice(len(keys), accesses, p=chances / chances.sum()):
        store.get(keys[index])
    return keys


def tiers_of(store, prefix="values/"):
    return {entry.key: entry.tier for entry in store.entries(prefix)}


def test_what_is_read_most_moves_to_the_fastest_tier_and_everything_fits(store):
    keys = read_skewed(store)
    placement = plan_and_apply(store, PROFILE)
    now = tiers_of(store)
    assert {now[key] for key in keys[:8]} == {Tier.L1}
    assert Tier.L2 in now.values()
    assert now[keys[-1]] is Tier.L3
    assert placement.over_capacity == ()
    after = zip(placement.objects["key"].to_pylist(), placement.objects["tier_after"].to_pylist(), strict=True)
    assert dict(after) == now
    assert placement.moves.refused == ()
    assert placement.moves.promoted == sum(tier is not Tier.L3 for tier in now.values())


def test_the_prediction_improves_and_is_close_to_its_bound(store):
    read_skewed(store)
    placement = plan_and_apply(store, PROFILE)
    assert placement.predicted_mean_after < placement.predicted_mean_before / 2
    assert placement.lower_bound_seconds <= placement.planned_cost_seconds == placement.predicted_cost_seconds
    assert within_capacity(placement).passed
    assert placement.gap <= 0.002
    assert placement.accesses == 3000
    assert sum(placement.objects["weight"].to_pylist()) == pytest.approx(3000)


def test_every_logged_access_is_replayed_and_the_replay_is_not_logged(store):
    read_skewed(store, accesses=500)
    placement = plan_and_apply(store, PROFILE)
    for measured in (placement.measured_before, placement.measured_after):
        assert measured.n == 500
        assert 0 < measured.mean_low <= measured.mean_seconds <= measured.mean_high
        assert measured.p50_seconds <= measured.p99_seconds
    assert len(store.access_log().ids) == 500
    assert plan_and_apply(store, PROFILE, replayed=100).measured_after.n == 100


def test_an_applied_plan_is_stable(store):
    read_skewed(store)
    plan_and_apply(store, PROFILE)
    before = tiers_of(store)
    again = plan_and_apply(store, PROFILE)
    assert (again.moves.promoted, again.moves.demoted, again.moves.bytes_moved) == (0, 0, 0)
    assert tiers_of(store) == before


def test_when_other_objects_become_hot_the_places_change(store):
    keys = read_skewed(store)
    plan_and_apply(store, PROFILE)
    for _ in range(300):
        for key in keys[-10:]:
            store.get(key)
    placement = plan_and_apply(store, PROFILE, short_half_life=100, long_half_life=500)
    assert placement.moves.refused == ()
    assert {tiers_of(store)[key] for key in keys[-10:]} == {Tier.L1}
    assert placement.moves.demoted > 0
    assert placement.over_capacity == ()


def test_a_placement_is_restored_after_the_memory_tiers_have_started_empty(store):
    keys = read_skewed(store)
    placement = plan_and_apply(store, PROFILE)
    placed = tiers_of(store)
    store.move(dict.fromkeys(keys, Tier.L3))
    gone = next(key for key, tier in placed.items() if tier is Tier.L1)
    content = store.get(gone)
    store.delete(gone)
    report = restore_placement(store, placement)
    assert report.refused == ()
    assert tiers_of(store) == {key: tier for key, tier in placed.items() if key != gone}
    store.put(gone, content)


def test_two_full_tiers_exchange_their_objects(store):
    keys = [entry.key for entry in store.entries("values/")]
    lower = dict.fromkeys(keys[:15], Tier.L1) | dict.fromkeys(keys[15:46], Tier.L2)
    assert len(store.move(lower).refused) == 0
    swapped = dict.fromkeys(keys[:15], Tier.L2) | dict.fromkeys(keys[15:30], Tier.L1)
    report = apply_moves(store, swapped)
    assert report.refused == ()
    assert {key: tiers_of(store)[key] for key in swapped} == swapped
    assert (report.promoted, report.demoted) == (15, 15)


def test_what_has_no_room_is_reported_and_stays_readable(store):
    keys = [entry.key for entry in store.entries("values/")]
    report = apply_moves(store, dict.fromkeys(keys, Tier.L1))
    held = [key for key, tier in tiers_of(store).items() if tier is Tier.L1]
    assert report.promoted == len(held) == len(keys) - len(report.refused)
    assert [int(store.get(key)["w"][0]) for key in keys] == list(range(60))


def test_a_move_that_does_not_pay_for_itself_is_not_made(store):
    keys = read_skewed(store, accesses=0)
    store.get(keys[0])
    assert plan_and_apply(store, PROFILE).moves.promoted == 0
    read_skewed(store)
    assert plan_and_apply(store, PROFILE, hysteresis=1e6).moves.promoted == 0


def test_an_empty_log_counts_every_object_once_and_says_so(store):
    placement = plan_and_apply(store, PROFILE)
    assert placement.basis == UNIFORM_BASIS
    assert placement.accesses == 0
    assert set(placement.objects["weight"].to_pylist()) == {1.0}
    assert placement.measured_before.n == placement.objects.num_rows


def test_a_slower_arena_than_the_disk_stays_empty(store):
    inverted = profile_of({**LINES, Tier.L2: (5e-5, 1e-9, 2e-6, 1e-10)})
    read_skewed(store)
    plan_and_apply(store, inverted)
    assert Tier.L2 not in tiers_of(store).values()
    assert Tier.L1 in tiers_of(store).values()


def test_a_tier_without_a_measured_cost_gets_nothing_and_keeps_what_it_has(store):
    keys = read_skewed(store)
    store.move({keys[-1]: Tier.L2})
    partial = profile_of({tier: LINES[tier] for tier in (Tier.L1, Tier.L3)})
    placement = plan_and_apply(store, partial)
    assert placement.unmeasured == 1
    assert [key for key, tier in tiers_of(store).items() if tier is Tier.L2] == [keys[-1]]


def test_objects_that_are_not_published_values_are_left_alone_and_their_room_is_respected(store):
    store.put("other", b"x" * (200 * KIB))
    store.move({"other": Tier.L1})
    read_skewed(store)
    placement = plan_and_apply(store, PROFILE)
    assert tiers_of(store, "other") == {"other": Tier.L1}
    assert placement.over_capacity == ()
    assert placement.moves.refused == ()


def test_a_pinned_object_stays_and_the_placement_says_so(store):
    keys = read_skewed(store)
    store.pin(keys[-1], Tier.L1)
    placement = plan_and_apply(store, PROFILE)
    assert tiers_of(store)[keys[-1]] is Tier.L1
    assert keys[-1] in dict(placement.moves.refused)
    assert within_capacity(placement).passed
    assert placement.over_capacity == ()
    after = dict(zip(placement.objects["key"].to_pylist(), placement.objects["tier_after"].to_pylist(), strict=True))
    assert after == tiers_of(store)
    store.unpin(keys[-1])


def test_headroom_stays_free(store):
    read_skewed(store)
    placement = plan_and_apply(store, PROFILE, headroom=0.5)
    for row in placement.tiers.to_pylist():
        if row["capacity_bytes"] is not None:
            assert row["used_bytes_after"] <= row["capacity_bytes"] / 2


def test_a_store_without_published_values_has_an_empty_placement(tmp_path):
    with open_store(tmp_path / "store", budgets=BUDGETS) as empty:
        placement = plan_and_apply(empty, PROFILE)
    assert placement.objects.num_rows == 0
    assert placement.measured_before is placement.measured_after is None
    assert placement.gap == 0.0
    assert np.isnan(placement.predicted_mean_after)
    assert TierPlacement.from_parts(placement.to_parts()).moves == placement.moves


def test_a_placement_from_a_measured_profile_stays_within_capacity(store):
    read_skewed(store)
    profile = measure_profile(store, sizes=(4 * KIB, 16 * KIB, 64 * KIB), repeats=2)
    placement = plan_and_apply(store, profile)
    assert placement.over_capacity == ()
    assert placement.predicted_mean_after <= placement.predicted_mean_before


def test_a_placement_survives_publication(store):
    read_skewed(store)
    placement = plan_and_apply(store, PROFILE)
    catalog = Catalog(store)
    catalog.publish("tier_placement", placement, partition=None, provenance={})
    back = catalog.load_as(TierPlacement, "tier_placement", None)
    assert back.objects.equals(placement.objects)
    assert back.tiers.equals(placement.tiers)
    assert (back.measured_after, back.moves, back.gap) == (placement.measured_after, placement.moves, placement.gap)
    for name, part in back.to_parts().items():
        assert encode(part).payload == encode(placement.to_parts()[name]).payload


def test_parts_of_another_version_are_refused(store):
    parts = plan_and_apply(store, PROFILE).to_parts()
    with pytest.raises(ValueSchemaError, match="objects"):
        TierPlacement.from_parts({"tiers": parts["tiers"]})
    unknown = parts["objects"].replace_schema_metadata({b"aura": b'{"basis": "x"}'})
    with pytest.raises(ValueSchemaError, match="not those of this version"):
        TierPlacement.from_parts({"objects": unknown, "tiers": parts["tiers"]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"short_half_life": 0},
        {"long_half_life": 1},
        {"hysteresis": -1.0},
        {"headroom": 1.0},
        {"replayed": 0},
    ],
)
def test_parameters_out_of_range_are_refused(store, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        plan_and_apply(store, PROFILE, **wrong)


def entry(number, tier=Tier.L3, size=16 * KIB):
    return Entry(f"values/v/-/0/p/{number}", number, "bytes", size, tier)


def access(*numbers):
    keys = tuple(str(number) for number in range(1 + max(numbers, default=0)))
    return Access(np.array(numbers, dtype=np.int32), keys, len(numbers))


def planned(entries, log, process_bytes, **parameters):
    used = {tier: [each.bytes for each in entries if each.tier is tier] for tier in (Tier.L1, Tier.L3)}
    states = [
        TierState(tier, room, sum(used[tier]), len(used[tier]), 0, 0.0)
        for tier, room in ((Tier.L1, process_bytes), (Tier.L3, None))
    ]
    chosen = {"short_half_life": 1000, "long_half_life": 1000, "hysteresis": 0.25, "headroom": 0.0} | parameters
    return plan_placement(entries, states, log, PROFILE, **chosen)


def test_an_object_that_has_just_moved_does_not_flap_back():
    """Two objects are read about equally often, and there is room for one of them."""
    size = 16 * KIB
    first = planned([entry(0), entry(1)], access(*[0, 1] * 100, 0), size)
    assert first.moves == {entry(0).key: Tier.L1}
    here = [entry(0, Tier.L1), entry(1)]
    reads = [*[0, 1] * 100, 0]
    for ahead in (1, 0, 1, 0):
        reads += [ahead, ahead]
        assert planned(here, access(*reads), size).moves == {}
    reads += [1] * 100
    assert planned(here, access(*reads), size).moves == {entry(0).key: Tier.L3, entry(1).key: Tier.L1}
    assert planned(here, access(*reads), size, hysteresis=1e3).moves == {}


def test_a_placement_takes_over_the_history_of_the_one_before(store):
    read_skewed(store)
    times = iter([datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)])
    first = plan_and_apply(store, PROFILE, clock=lambda: next(times))
    second = plan_and_apply(
        store, PROFILE, previous=TierPlacement.from_parts(first.to_parts()), clock=lambda: next(times)
    )
    rows = second.history.to_pylist()
    assert [row["at"].day for row in rows] == [1, 2]
    assert first.history.equals(second.history.slice(0, 1).combine_chunks())
    assert rows[0]["cost_before_seconds"] > rows[0]["cost_seconds"] >= rows[0]["lower_bound_seconds"]
    assert rows[1]["cost_before_seconds"] == rows[1]["cost_seconds"]
    held = {state.tier: state.used_bytes for state in store.tiers()}
    assert {tier: rows[1][f"{tier}_bytes"] for tier in held} == held


def test_a_placement_says_what_it_foretold_and_what_was_measured(store):
    read_skewed(store)
    placement = plan_and_apply(store, PROFILE)
    for replayed in (placement.replay_before, placement.replay_after):
        assert replayed.predicted.mean_low <= replayed.predicted.mean_seconds <= replayed.predicted.mean_high
        ratio = replayed.predicted.mean_seconds / replayed.measured.mean_seconds
        assert replayed.relative_error == pytest.approx(ratio - 1)
    assert placement.replay_after.predicted.mean_seconds < placement.replay_before.predicted.mean_seconds


def test_a_profile_of_another_machine_is_found_out(store):
    read_skewed(store)
    slow = profile_of({tier: tuple(1000 * each for each in line) for tier, line in LINES.items()})
    assert not as_predicted(plan_and_apply(store, slow)).passed


objects = st.lists(
    st.tuples(st.integers(1, 400 * KIB), st.sampled_from([Tier.L1, Tier.L2, Tier.L3])), min_size=0, max_size=12
)


@given(objects, st.lists(st.integers(0, 11), max_size=200), st.integers(0, 1024 * KIB), st.integers(0, 1024 * KIB))
@settings(max_examples=80, deadline=None)
def test_a_plan_fits_and_no_plan_predicts_less_than_its_bound(shapes, reads, process_bytes, arena_bytes):
    entries = [entry(number, tier, size) for number, (size, tier) in enumerate(shapes)]
    states = []
    for tier, capacity in ((Tier.L1, process_bytes), (Tier.L2, arena_bytes), (Tier.L3, None)):
        held = [each.bytes for each in entries if each.tier is tier]
        room = None if capacity is None else max(capacity, sum(held))
        states.append(TierState(tier, room, sum(held), len(held), 0, 0.0))
    plan = plan_placement(
        entries, states, access(*reads), PROFILE, short_half_life=100, long_half_life=100, hysteresis=0.25, headroom=0.0
    )
    final = {each.key: each.tier for each in entries} | plan.moves
    for state in states[:2]:
        assert sum(each.bytes for each in entries if final[each.key] is state.tier) <= state.capacity_bytes
    stay = plan.costs[np.arange(len(entries)), plan.before].sum()
    noise = 1e-9 * (stay + 1e-6)
    assert plan.solution.lower_bound <= plan.solution.cost + noise
    assert plan.solution.cost <= stay * 1.002 + noise
