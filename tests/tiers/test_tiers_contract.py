"""What every store promises, whether this process owns it or another one does."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from store_process import BUDGETS

from aura.tiers.budgets import TierBudgets
from aura.tiers.errors import (
    CapacityError,
    InvalidPartError,
    ObjectNotFoundError,
    StoreClosedError,
    StoreError,
    TierAbsentError,
)
from aura.tiers.local import LocalStore
from aura.tiers.records import Tier
from aura.tiers.remote import RemoteStore
from aura.tiers.store import TieredStore, open_store

TENSORS = {"w": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones(3, np.int64)}
TABLE = pa.table({"id": ["a", "b"], "n": [1, 2]}).replace_schema_metadata({b"aura": b"{}"})


@pytest.fixture(scope="module")
def other_process():
    script = Path(__file__).with_name("store_process.py")
    with subprocess.Popen(
        [sys.executable, script, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.fixture(params=["owner", "client"])
def store(request, tmp_path):
    if request.param == "client":
        other = request.getfixturevalue("other_process")
        other.stdin.write(f"{tmp_path / 'store'}\n")
        other.stdin.flush()
        assert other.stdout.readline() == "ready\n"
    with open_store(tmp_path / "store", budgets=BUDGETS, device="cpu") as opened:
        assert isinstance(opened, LocalStore if request.param == "owner" else RemoteStore)
        yield opened


def tier_of(store: TieredStore, key: str) -> Tier:
    (entry,) = [entry for entry in store.entries(key) if entry.key == key]
    return entry.tier


def state(store: TieredStore, tier: Tier):
    return {state.tier: state for state in store.tiers()}[tier]


@pytest.mark.parametrize("tier", list(Tier))
def test_every_kind_comes_back_from_every_tier(store, tier):
    store.write({"b": b"bytes", "e": b"", "t": TENSORS, "a": TABLE, "none": {}})
    report = store.move(dict.fromkeys(["b", "e", "t", "a", "none"], tier))
    assert report.refused == ()
    assert {entry.tier for entry in store.entries()} == {tier}
    found = store.get_many(["b", "e", "t", "a", "none"])
    assert found["b"] == b"bytes"
    assert found["e"] == b""
    assert found["none"] == {}
    assert found["a"].equals(TABLE, check_metadata=True)
    assert set(found["t"]) == {"w", "b"}
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(found["t"][name], array)
        assert not found["t"][name].flags.writeable


def test_entries_are_in_order_of_the_key_and_filtered_by_prefix(store):
    store.write({"b/2": b"22", "a/1": b"1", "b/1": TENSORS, "é": TABLE})
    assert [entry.key for entry in store.entries()] == ["a/1", "b/1", "b/2", "é"]
    assert [(entry.key, entry.kind) for entry in store.entries("b/")] == [("b/1", "tensors"), ("b/2", "bytes")]
    assert store.entries("b/2")[0].bytes == 2
    assert all(entry.tier == Tier.L3 for entry in store.entries())


def test_a_missing_object_is_a_key_error_that_names_it(store):
    with pytest.raises(ObjectNotFoundError, match="'nothing'"):
        store.get("nothing")
    with pytest.raises(KeyError):
        store.get_many(["nothing"])
    assert not store.contains("nothing")


def test_a_delete_removes_and_may_be_repeated(store):
    store.put("k", b"v")
    assert store.contains("k")
    store.move({"k": Tier.L2})
    store.delete("k")
    store.delete("k")
    assert not store.contains("k")
    assert state(store, Tier.L2).used_bytes == 0
    with pytest.raises(ObjectNotFoundError):
        store.get("k")


@pytest.mark.parametrize("tier", list(Tier))
def test_a_rewritten_object_is_never_served_stale(store, tier):
    store.put("k", b"old")
    store.move({"k": tier})
    before = store.entries("k")[0].id
    store.put("k", b"new")
    assert store.get("k") == b"new"
    assert tier_of(store, "k") == Tier.L3
    assert store.entries("k")[0].id == before


def test_a_write_with_one_bad_value_changes_nothing(store):
    store.put("kept", b"v")
    with pytest.raises(InvalidPartError, match="object"):
        store.write({"new": b"x", "bad": {"o": np.array([None])}}, ["kept"])
    with pytest.raises(InvalidPartError, match="both put and deleted"):
        store.write({"kept": b"x"}, ["kept"])
    assert [entry.key for entry in store.entries()] == ["kept"]
    assert store.get("kept") == b"v"


@pytest.mark.parametrize("key", ["", "\0probe", "k" * 5000])
def test_what_is_no_key_is_refused(store, key):
    with pytest.raises(InvalidPartError, match="not a key"):
        store.put(key, b"v")


def test_objects_move_up_and_down_and_the_report_says_so(store):
    store.write({"a": b"x" * 1000, "b": b"y" * 500})
    up = store.move({"a": Tier.L1, "b": Tier.L2, "missing": Tier.L1})
    assert (up.promoted, up.demoted, up.bytes_moved) == (2, 0, 1500)
    assert up.refused == (("missing", "no such object"),)
    down = store.move({"a": Tier.L3, "b": Tier.L2})
    assert (down.promoted, down.demoted, down.bytes_moved) == (0, 1, 0)
    assert (tier_of(store, "a"), tier_of(store, "b")) == (Tier.L3, Tier.L2)
    assert state(store, Tier.L1).used_bytes == 0
    assert state(store, Tier.L3).objects == 2


@pytest.mark.parametrize("tier", [Tier.L0, Tier.L1, Tier.L2])
def test_a_demotion_in_the_same_move_makes_room(store, tier):
    store.write({"a": b"x" * 40_000, "b": b"y" * 40_000})
    assert store.move({"a": tier}).refused == ()
    report = store.move({"b": tier})
    assert report.refused[0][0] == "b"
    assert "40000 bytes" in report.refused[0][1]
    assert tier_of(store, "b") == Tier.L3
    assert store.move({"b": tier, "a": Tier.L3}).refused == ()
    assert (tier_of(store, "a"), tier_of(store, "b")) == (Tier.L3, tier)


def test_accesses_are_logged_in_order_with_their_keys(store):
    store.write({"a": b"1", "b": b"2", "c": b"3"})
    store.move({"b": Tier.L2, "c": Tier.L1})
    for key in ("a", "b", "b", "c"):
        store.get(key)
    store.get_many(["c", "a"])
    store.time_gets(["a", "b"])
    access = store.access_log()
    assert [access.keys[number] for number in access.ids] == ["a", "b", "b", "c", "c", "a"]
    assert access.ids.dtype == np.int32
    store.delete("b")
    assert [store.access_log().keys[number] for number in access.ids] == ["a", "", "", "c", "c", "a"]
    store.trim_access_log(2)
    assert [access.keys[number] for number in store.access_log().ids] == ["c", "a"]


def test_an_id_is_never_given_again(store):
    store.write({"a": b"1", "b": b"2"})
    last = store.entries("b")[0].id
    store.delete("b")
    store.put("c", b"3")
    assert store.entries("c")[0].id > last


def test_tiers_are_listed_from_fast_to_slow_with_what_they_hold(store):
    store.write({"a": b"x" * 100, "b": b"y" * 100})
    store.move({"a": Tier.L1})
    store.get("a")
    store.get("b")
    states = store.tiers()
    assert [each.tier for each in states] == list(Tier)
    assert [each.objects for each in states] == [0, 1, 0, 2]
    assert [each.gets for each in states] == [0, 1, 0, 1]
    assert [each.used_bytes for each in states] == [0, 100, 0, 200]
    assert states[3].capacity_bytes is None
    assert states[1].get_seconds > 0
    assert states[3].get_seconds > 0


@pytest.mark.parametrize("tier", [None, *Tier])
def test_gets_are_timed_and_leave_no_trace(store, tier):
    store.write({"a": b"x" * 1000, "b": TENSORS, "c": TABLE})
    store.move({"a": Tier.L1, "b": Tier.L2})
    entries, states = store.entries(), store.tiers()
    seconds = store.time_gets(["a", "b", "c", "a"], tier)
    assert seconds.shape == (4,)
    assert seconds.dtype == np.float64
    assert (seconds > 0).all()
    assert store.entries() == entries
    assert store.tiers() == states
    assert store.get("a") == b"x" * 1000


@pytest.mark.parametrize("tier", list(Tier))
def test_puts_are_timed_and_leave_no_trace(store, tier):
    states = store.tiers()
    seconds = store.time_puts([0, 10, 10_000], tier)
    assert seconds.shape == (3,)
    assert (seconds > 0).all()
    assert store.tiers() == states
    assert store.entries() == []


def test_a_measurement_that_does_not_fit_says_so_and_leaves_no_trace(store):
    store.write({"a": b"x" * 40_000, "b": b"y" * 40_000})
    store.move({"a": Tier.L1})
    states = store.tiers()
    with pytest.raises(CapacityError, match="65536 bytes"):
        store.time_gets(["a", "b"], Tier.L1)
    with pytest.raises(CapacityError, match="does not fit into L2"):
        store.time_puts([100_000], Tier.L2)
    assert store.tiers() == states


def test_what_is_flushed_is_read_from_files(store):
    store.write({"a": b"1", "t": TENSORS})
    assert not list(store.directory.rglob("*.sst"))
    store.flush()
    assert list(store.directory.rglob("*.sst"))
    assert store.get("a") == b"1"


def test_a_checkpoint_is_a_store_of_its_own(store, tmp_path):
    store.write({"a": b"1", "t": TENSORS})
    store.get("a")
    store.checkpoint(tmp_path / "copy")
    store.put("a", b"2")
    with open_store(tmp_path / "copy", budgets=TierBudgets(arena_bytes=0)) as copy:
        assert copy.get("a") == b"1"
        assert len(copy.entries()) == 2
        assert len(copy.access_log().ids) == 2
    with pytest.raises(StoreError, match="it exists"):
        store.checkpoint(tmp_path / "copy")


def test_a_closed_store_says_so(store):
    store.put("a", b"1")
    store.move({"a": Tier.L1})
    store.close()
    store.close()
    for call in (lambda: store.get("a"), lambda: store.put("b", b""), store.entries, store.tiers, store.access_log):
        with pytest.raises(StoreClosedError, match="closed"):
            call()


def test_capacities_hold_while_many_threads_write_read_and_move(store):
    content = {f"k{number}": bytes([number]) * (997 * number % 9000) for number in range(24)}
    store.write(content)
    limits = {each.tier: each.capacity_bytes for each in store.tiers() if each.capacity_bytes}
    problems: list[str] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        keys = list(content)
        for _ in range(25):
            chosen = rng.choice(keys, 6, replace=False)
            store.move({str(key): list(Tier)[rng.integers(4)] for key in chosen})
            problems.extend(f"{key} came back wrong" for key in chosen if store.get(str(key)) != content[key])
            store.put(str(chosen[0]), content[chosen[0]])
            problems.extend(
                f"{s.tier} over" for s in store.tiers() if s.tier in limits and s.used_bytes > limits[s.tier]
            )

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    store.move(dict.fromkeys(content, Tier.L3))
    assert [each.used_bytes for each in store.tiers()[:3]] == [0, 0, 0]
    assert len(store.access_log().ids) == 4 * 25 * 6


def test_a_tier_without_budget_is_absent(tmp_path):
    budgets = TierBudgets(device_bytes=0, process_bytes=0, arena_bytes=0)
    with open_store(tmp_path / "s", budgets=budgets) as store:
        store.put("a", b"1")
        assert [each.tier for each in store.tiers()] == [Tier.L3]
        assert "no L1" in store.move({"a": Tier.L1}).refused[0][1]
        with pytest.raises(TierAbsentError, match="warm pool"):
            store.time_gets(["a"], Tier.L2)
        assert store.get("a") == b"1"
