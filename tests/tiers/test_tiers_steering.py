"""The online layer in a real store: what is read often comes up by itself, and what others do is not undone blindly."""

from __future__ import annotations

import numpy as np
import pytest

from aura.tiers.budgets import TierBudgets
from aura.tiers.records import Tier
from aura.tiers.store import open_store

KIB = 1024
SIZE = 64 * KIB
OBJECTS = 200
BUDGETS = TierBudgets(process_bytes=2 << 20, arena_bytes=4 << 20, online=True)


@pytest.fixture
def store(tmp_path):
    """A store whose upkeep is driven by the test: its thread is stopped."""
    with open_store(tmp_path, budgets=BUDGETS) as opened:
        opened.upkeep.stop()
        opened.write({f"{number}": np.random.default_rng(number).bytes(SIZE) for number in range(OBJECTS)})
        opened.upkeep.round()
        yield opened


def read(store, keys, times=1):
    for _ in range(times):
        for key in keys:
            store.get(f"{key}")
        store.upkeep.round()


def tiers_of(store):
    return {int(entry.key): entry.tier for entry in store.entries()}


def skewed(seed, number=300):
    weights = 1 / np.arange(1, OBJECTS + 1) ** 1.2
    return np.random.default_rng(seed).choice(OBJECTS, number, p=weights / weights.sum()).tolist()


def test_what_is_read_often_comes_up_within_the_capacities(store):
    for seed in range(30):
        read(store, skewed(seed))
        assert all(state.used_bytes <= state.capacity_bytes for state in store.tiers()[:-1])
    found = tiers_of(store)
    assert found[0] is Tier.L1
    assert Tier.L3 not in {found[number] for number in range(5)}
    hits = 1 - store.tiers()[-1].gets / (30 * 300)
    assert hits > 0.5
    state = store.steered()
    assert state.reads == 30 * 300
    assert state.seconds > 0


def test_what_is_read_once_moves_nothing(store):
    read(store, range(OBJECTS))
    assert {state.bytes_in for state in store.tiers()} == {0}


def test_the_layer_is_off_unless_it_is_asked_for(tmp_path):
    with open_store(tmp_path / "off", budgets=TierBudgets()) as store:
        store.upkeep.stop()
        store.put("0", b"1")
        store.upkeep.round()
        assert store.steered() is None


def test_a_client_sees_what_the_layer_does(store):
    with open_store(store.directory, budgets=BUDGETS) as client:
        read(client_and_upkeep(client, store), skewed(0))
        assert client.steered() == store.steered()
        assert client.steered().reads == 300


class client_and_upkeep:  # noqa: N801 - reads as a function
    """A client to read by, with the owner's upkeep to drive."""

    def __init__(self, client, owner):
        self.get, self.upkeep = client.get, owner.upkeep


def test_writes_deletes_moves_and_pins_by_others_are_respected(store):
    read(store, list(range(20)), times=150)
    assert all(tiers_of(store)[number] is not Tier.L3 for number in range(20))
    fresh = bytes(SIZE)
    store.put("0", fresh)
    store.delete("1")
    store.move({"2": Tier.L3})
    store.pin("199", Tier.L1)
    read(store, list(range(100, 130)), times=100)
    found = tiers_of(store)
    assert 1 not in found
    assert found[199] is Tier.L1
    assert store.get("0") == fresh
    assert all(state.used_bytes <= state.capacity_bytes for state in store.tiers()[:-1])
    store.unpin("199")
    for seed in range(40):
        read(store, [number for number in skewed(seed) if number != 1])
    assert Tier.L3 not in {tiers_of(store)[number] for number in (0, 2)}


def test_a_budget_below_one_turn_is_warned_of_once(store, caplog):
    read(store, range(OBJECTS), times=30)
    warnings = [record for record in caplog.records if "read in turn" in record.getMessage()]
    assert len(warnings) == 1
    budget, turn = store.steered().short_of_cycle
    assert budget < turn <= 1.2 * OBJECTS * SIZE


def test_a_store_that_is_opened_again_begins_from_what_it_holds(tmp_path):
    with open_store(tmp_path, budgets=BUDGETS) as store:
        store.write({"a": bytes(SIZE)})
    with open_store(tmp_path, budgets=BUDGETS) as store:
        store.upkeep.stop()
        store.move({"a": Tier.L2})
        store.upkeep.round()
        assert store.steered().objects == 1
