"""What an owner does in the background: prefetches, pins that hold, room that is made, a bandwidth that is kept."""

from __future__ import annotations

import threading
import time

import numpy as np
import pyarrow as pa
import pytest

from aura.tiers.budgets import TierBudgets
from aura.tiers.errors import CapacityError, InvalidPartError, ObjectNotFoundError, TierAbsentError
from aura.tiers.records import Operation, Tier
from aura.tiers.store import open_store
from aura.tiers.upkeep import Bucket

KIB = 1024
BUDGETS = TierBudgets(process_bytes=10 * KIB, arena_bytes=64 * KIB)
WAIT_SECONDS = 20


@pytest.fixture(params=["owner", "client"])
def store(request, tmp_path):
    with open_store(tmp_path / "s", budgets=BUDGETS) as owner:
        if request.param == "owner":
            yield owner
        else:
            with open_store(tmp_path / "s", budgets=BUDGETS) as client:
                yield client


def tiers_of(store):
    return {entry.key: entry.tier for entry in store.entries()}


def wait_for(store, expected):
    """Until every key is in its tier; the background works ten times a second."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end and expected.items() - tiers_of(store).items():
        time.sleep(0.02)
    assert expected.items() <= tiers_of(store).items()


def test_what_is_prefetched_comes_in_the_background(store):
    store.write({"a": bytes(KIB), "b": bytes(KIB), "c": bytes(KIB)})
    store.prefetch(["a", "gone"])
    store.prefetch(["b"], Tier.L2)
    wait_for(store, {"a": Tier.L1, "b": Tier.L2, "c": Tier.L3})
    with pytest.raises(TierAbsentError, match="L0"):
        store.prefetch(["a"], Tier.L0)


def test_a_prefetch_makes_room_by_what_was_not_read_for_longest_but_never_by_what_is_pinned(store):
    store.write({name: bytes(4 * KIB) for name in "abcd"})
    store.pin("a")
    store.move({"b": Tier.L1})
    store.get("b")
    store.prefetch(["c"])
    wait_for(store, {"a": Tier.L1, "b": Tier.L3, "c": Tier.L1})
    store.get("c")
    store.prefetch(["d"])
    wait_for(store, {"a": Tier.L1, "c": Tier.L3, "d": Tier.L1})


def test_a_prefetch_of_what_cannot_fit_or_is_faster_already_demotes_nothing(store):
    store.write({"large": bytes(11 * KIB), "small": bytes(KIB), "pinned": bytes(6 * KIB), "half": bytes(5 * KIB)})
    store.move({"small": Tier.L1})
    store.prefetch(["large"])
    store.prefetch(["small"], Tier.L2)
    store.prefetch(["pinned"])
    wait_for(store, {"pinned": Tier.L1})
    assert tiers_of(store) == {"large": Tier.L3, "small": Tier.L1, "pinned": Tier.L1, "half": Tier.L3}
    store.pin("pinned")
    store.prefetch(["half"])
    store.prefetch(["large"], Tier.L2)
    wait_for(store, {"large": Tier.L2})
    assert tiers_of(store)["half"] == Tier.L3
    assert tiers_of(store)["small"] == Tier.L1


def test_a_prefetch_makes_room_in_one_piece(tmp_path):
    with open_store(tmp_path, budgets=TierBudgets(process_bytes=0, arena_bytes=64 * KIB)) as store:
        store.write({f"{number}": bytes(8 * KIB) for number in range(8)} | {"large": bytes(20 * KIB)})
        assert store.move({f"{number}": Tier.L2 for number in range(8)}).promoted == 8
        store.move({f"{number}": Tier.L3 for number in range(0, 8, 2)})
        store.prefetch(["large"], Tier.L2)
        wait_for(store, {"large": Tier.L2})
        store.write({"empty": b""})
        store.prefetch(["empty"], Tier.L2)
        wait_for(store, {"empty": Tier.L2})


def test_a_pinned_object_whose_copy_was_damaged_comes_back(tmp_path):
    with open_store(tmp_path, budgets=BUDGETS) as store:
        store.put("a", b"right" * 100)
        store.pin("a", Tier.L2)
        store.fast[Tier.L2]._arena.write(store.records["a"].slot, b"wrong")
        assert store.get("a") == b"right" * 100
        wait_for(store, {"a": Tier.L2})


def test_a_pin_that_cannot_be_restored_keeps_nobody_busy(tmp_path):
    with open_store(tmp_path, budgets=BUDGETS) as store:
        store.write({"a": bytes(KIB), "b": bytes(9 * KIB)})
        store.pin("a")
        store.put("a", bytes(11 * KIB))
        rounds = []
        store.upkeep._fetch, fetch = lambda: rounds.append(1) or fetch(), store.upkeep._fetch
        time.sleep(0.5)
        assert 1 <= len(rounds) <= 10
        assert tiers_of(store)["a"] == Tier.L3


def test_nothing_is_pinned_or_prefetched_to_the_disk(store):
    store.put("a", b"1")
    for call in (store.pin, lambda key, tier: store.prefetch([key], tier)):
        with pytest.raises(TierAbsentError, match="L3 is no fast tier"):
            call("a", Tier.L3)


def test_what_was_got_cannot_be_changed_for_others(tmp_path):
    with open_store(tmp_path, budgets=BUDGETS) as store:
        store.write({"a": {"w": np.arange(5)}, "b": {"w": np.arange(5)}})
        store.move({"a": Tier.L1, "b": Tier.L2})
        for key in ("a", "b"):
            with pytest.raises(TypeError):
                store.get(key)["w"] = np.zeros(1)
            with pytest.raises(ValueError, match="read-only"):
                store.get(key)["w"][0] = 1


def test_an_interrupted_copy_gives_its_room_back_and_closing_does_not_wait_for_it(tmp_path, monkeypatch):
    with open_store(tmp_path, budgets=BUDGETS) as store:
        store.put("a", bytes(KIB))

        def interrupted(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(store.fast[Tier.L1], "fill", interrupted)
            with pytest.raises(KeyboardInterrupt):
                store.move({"a": Tier.L1})
        assert {state.tier: (state.used_bytes, state.objects) for state in store.tiers()}[Tier.L1] == (0, 0)
        assert store.move({"a": Tier.L1}).promoted == 1


def test_a_pin_brings_an_object_up_and_nothing_demotes_it_until_it_is_unpinned(store):
    store.write({"a": bytes(KIB), "b": bytes(KIB)})
    store.pin("a", Tier.L2)
    assert [(entry.key, entry.tier, entry.pinned) for entry in store.entries()] == [
        ("a", Tier.L2, True),
        ("b", Tier.L3, False),
    ]
    assert "pinned in L2" in store.move({"a": Tier.L3}).refused[0][1]
    assert store.move({"a": Tier.L1}).promoted == 1
    store.unpin("a")
    store.unpin("a")
    assert store.move({"a": Tier.L3}).demoted == 1
    with pytest.raises(ObjectNotFoundError, match="'gone'"):
        store.pin("gone")
    with pytest.raises(TierAbsentError, match="L0"):
        store.pin("a", Tier.L0)


def test_a_pin_that_does_not_fit_is_refused_and_leaves_the_object_as_it_was(store):
    store.write({"a": bytes(11 * KIB), "b": bytes(KIB)})
    store.pin("a", Tier.L2)
    with pytest.raises(CapacityError, match=r"'a' cannot be pinned in L1.*10240 bytes are free"):
        store.pin("a", Tier.L1)
    assert store.entries("a")[0].pinned
    assert tiers_of(store)["a"] == Tier.L2


def test_a_pinned_object_that_is_written_comes_back_and_one_that_is_deleted_is_forgotten(store):
    store.write({"a": bytes(KIB)})
    store.pin("a")
    store.put("a", b"new")
    wait_for(store, {"a": Tier.L1})
    assert store.get("a") == b"new"
    store.delete("a")
    store.put("a", b"again")
    assert not store.entries("a")[0].pinned


def test_moves_puts_and_deletes_are_counted_by_tier(store):
    store.write({"a": bytes(KIB), "b": bytes(KIB)})
    store.move({"a": Tier.L1, "b": Tier.L2})
    store.move({"a": Tier.L2})
    store.move({"b": Tier.L3})
    store.delete("b")
    found = {
        state.tier: (state.puts, state.deletes, state.promotions, state.demotions, state.bytes_in)
        for state in store.tiers()
    }
    assert found == {
        Tier.L1: (0, 0, 1, 0, KIB),
        Tier.L2: (0, 0, 1, 1, 2 * KIB),
        Tier.L3: (2, 1, 0, 1, 0),
    }
    ids = {key: number for number, key in enumerate("ab")}
    found = store.operations()
    assert found.rows.tolist() == [
        [ids["a"], Operation.PUT, 3],
        [ids["b"], Operation.PUT, 3],
        [ids["a"], Operation.PROMOTION, 1],
        [ids["b"], Operation.PROMOTION, 2],
        [ids["a"], Operation.DEMOTION, 2],
        [ids["b"], Operation.DEMOTION, 3],
        [ids["b"], Operation.DELETE, 3],
    ]
    assert found.deleted == {ids["b"]: "b"}
    later = store.operations(after=5)
    assert (later.rows.tolist(), later.total) == (found.rows[5:].tolist(), 7)
    assert store.operations(after=6).deleted == found.deleted
    assert store.operations(after=7).rows.shape == (0, 3)
    assert store.operations(after=7).deleted == {}
    assert found.reads == 0
    store.get("a")
    assert store.operations(after=7).reads == store.access_log().total == 1


def test_gets_are_counted_where_they_were_answered_while_others_go_on(tmp_path):
    with open_store(tmp_path, budgets=BUDGETS) as store:
        store.write({"a": bytes(KIB), "b": bytes(KIB)})
        store.move({"b": Tier.L2})
        done = threading.Event()

        def read():
            for _ in range(4000):
                store.get("a")
                store.get("b")
            done.set()

        def seen():
            return [(state.gets, state.get_seconds) for state in store.tiers()]

        reader = threading.Thread(target=read)
        reader.start()
        before = seen()
        while not done.is_set():
            now = seen()
            assert now[0] == (0, 0.0), "nothing was ever read from L1"
            assert all(old <= new for old, new in zip(before, now, strict=True))
            before = now
        reader.join()
        assert [gets for gets, _ in seen()] == [0, 4000, 4000]


def test_gets_of_l1_that_clients_make_are_timed_as_they_are(tmp_path):
    with open_store(tmp_path, budgets=BUDGETS) as owner, open_store(tmp_path, budgets=BUDGETS) as client:
        owner.put("a", bytes(KIB))
        owner.move({"a": Tier.L1})
        for number in range(1, 4):
            client.get("a")
            state = owner.tiers()[0]
            assert state.gets == number
            assert state.get_seconds > 0
        answered = state.get_seconds
        for _ in range(5):
            owner.get("a")
        state = owner.tiers()[0]
        assert state.gets == 8
        assert state.get_seconds > answered


def test_what_is_deleted_while_it_is_folded_is_no_error(tmp_path):
    with open_store(tmp_path, budgets=BUDGETS) as store:
        done = threading.Event()

        def replace():
            for _ in range(100):
                store.put("a", bytes(KIB))
                store.move({"a": Tier.L1})
                store.get("a")
                store.delete("a")
            done.set()

        writer = threading.Thread(target=replace)
        writer.start()
        while not done.is_set():
            store.fold()
        writer.join()
        assert store.tiers()[0].gets == 100
        assert store.access_log().total == 100


def test_the_room_of_a_view_is_not_given_away_while_somebody_has_it(tmp_path):
    with open_store(tmp_path, budgets=TierBudgets(arena_bytes=64 * KIB)) as store:
        content = np.arange(10 * KIB, dtype=np.uint8)
        store.write({f"{number}": {"w": content + number} for number in range(8)})
        store.move({"0": Tier.L2})
        view = store.get("0")["w"]
        assert not view.flags.owndata
        store.move({"0": Tier.L3})
        store.put("0", {"w": content + 100})
        moved = store.move({f"{number}": Tier.L2 for number in range(8)})
        assert len(moved.refused) == 3
        np.testing.assert_array_equal(view, content)
        del view
        np.testing.assert_array_equal(store.get("0")["w"], content + 100)
        store.move({f"{number}": Tier.L3 for number in range(8)})
        assert {state.tier: state.used_bytes for state in store.tiers()}[Tier.L2] == 0


def test_a_table_and_arrays_in_the_arena_are_views_and_outlive_the_store(tmp_path):
    table = pa.table({"n": list(range(1000))})
    with open_store(tmp_path, budgets=BUDGETS) as store:
        store.write({"t": table, "w": {"w": np.arange(1000)}})
        store.move({"t": Tier.L2, "w": Tier.L2})
        got, array = store.get("t"), store.get("w")["w"]
    assert got.equals(table)
    np.testing.assert_array_equal(array, np.arange(1000))


def test_a_bucket_lets_a_seconds_worth_go_and_then_as_much_as_flows_in():
    now = [0.0]
    bucket = Bucket(1000, clock=lambda: now[0])
    assert bucket.room()
    bucket.take(3000)
    assert not bucket.room()
    now[0] = 1.9
    assert not bucket.room()
    now[0] = 2.1
    assert bucket.room()
    now[0] = 100.0
    assert bucket.room()
    bucket.take(1000)
    assert not bucket.room()
    assert Bucket(0, clock=lambda: now[0]).room()


def test_a_handle_knows_its_type(store):
    weights = store.tensors("w")
    assert not weights.exists()
    assert weights.entry() is None
    weights.put({"w": np.ones(3)})
    np.testing.assert_array_equal(weights.get()["w"], np.ones(3))
    with weights.pinned(Tier.L2) as found:
        np.testing.assert_array_equal(found["w"], np.ones(3))
        assert weights.entry().pinned
    assert not weights.entry().pinned
    with pytest.raises(InvalidPartError, match="'w' is a mappingproxy, not a Table"):
        store.table("w").get()
    store.raw("b").put(b"1")
    assert store.raw("b").get() == b"1"
    weights.delete()
    assert not weights.exists()
