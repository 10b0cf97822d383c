"""The store against a model: any operations in any order, in several threads, with tiers that come and go."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aura.tiers.budgets import TierBudgets
from aura.tiers.errors import CapacityError, ObjectNotFoundError, TierAbsentError
from aura.tiers.records import Operation, Tier
from aura.tiers.store import open_store

KEYS = [f"{group}/{number}" for group in "abc" for number in range(4)]
KIB = 1024
BUDGETS = {
    "device_bytes": st.sampled_from([0, 64 * KIB]),
    "process_bytes": st.sampled_from([0, 48 * KIB]),
    "arena_bytes": st.sampled_from([0, 64 * KIB]),
    "online": st.booleans(),
}
TIERS = st.sampled_from(list(Tier))
SIZES = st.sampled_from([0, 1, 1000, 10_000, 40_000, 70_000])
KINDS = st.sampled_from(["bytes", "tensors", "table"])


def value_of(kind, size, seed):
    """A value of this kind; equal arguments give equal values."""
    rng = np.random.default_rng([seed, size])
    if kind == "bytes":
        return rng.bytes(size)
    array = rng.integers(0, 255, size // 8)
    return {"w": array, "n": np.array([seed])} if kind == "tensors" else pa.table({"w": array})


def same(found, expected):
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in expected)
    return found.equals(expected) if isinstance(expected, pa.Table) else found == expected


VALUES = st.builds(value_of, KINDS, SIZES, st.integers(0, 3))
CHANGES = st.tuples(st.sampled_from(["put", "delete", "get", "move", "pin", "unpin", "prefetch"]), VALUES, TIERS)


class StoreAgainstModel(RuleBasedStateMachine):
    """The model is a dictionary; the store has an owner and a client, which are asked by turns."""

    @initialize(budgets=st.fixed_dictionaries(BUDGETS))
    def begin(self, budgets):
        self.home = Path(tempfile.mkdtemp(prefix="aura-model-"))
        self.model = {}
        self.open(budgets)

    def open(self, budgets):
        chosen = TierBudgets(**budgets)
        self.owner = open_store(self.home / "s", budgets=chosen, device="cpu")
        self.client = open_store(self.home / "s", budgets=chosen)
        self.turn = 0

    def teardown(self):
        if hasattr(self, "owner"):
            self.client.close()
            self.owner.close()
            shutil.rmtree(self.home)

    @property
    def store(self):
        """The owner or the client, by turns."""
        self.turn += 1
        return (self.owner, self.client)[self.turn % 2]

    @rule(
        puts=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4), gone=st.sets(st.sampled_from(KEYS), max_size=2)
    )
    def write(self, puts, gone):
        gone -= puts.keys()
        self.store.write(puts, gone)
        self.model.update(puts)
        for key in gone:
            self.model.pop(key, None)

    @rule(keys=st.lists(st.sampled_from(KEYS), max_size=5))
    def read(self, keys):
        there = [key for key in keys if key in self.model]
        found = self.store.get_many(there)
        assert all(same(found[key], self.model[key]) for key in there)
        for key in set(keys) - self.model.keys():
            assert not self.store.contains(key)
            with pytest.raises(ObjectNotFoundError):
                self.store.get(key)

    @rule(wanted=st.dictionaries(st.sampled_from(KEYS), TIERS, max_size=6))
    def move(self, wanted):
        tiers = {state.tier for state in self.store.tiers()}
        report = self.store.move(wanted)
        refused = dict(report.refused)
        assert all(key in refused for key, tier in wanted.items() if key not in self.model or tier not in tiers)

    @rule(key=st.sampled_from(KEYS), tier=TIERS)
    def pin(self, key, tier):
        try:
            self.store.pin(key, tier)
        except ObjectNotFoundError:
            assert key not in self.model
        except TierAbsentError:
            assert tier not in {state.tier for state in self.store.tiers()} or tier is Tier.L3
        except CapacityError:
            return

    @rule(key=st.sampled_from(KEYS))
    def unpin(self, key):
        self.store.unpin(key)

    @rule(keys=st.lists(st.sampled_from(KEYS), max_size=4), tier=TIERS)
    def prefetch(self, keys, tier):
        try:
            self.store.prefetch(keys, tier)
        except TierAbsentError:
            assert tier not in {state.tier for state in self.store.tiers()} or tier is Tier.L3

    @rule(tier=st.sampled_from([Tier.L0, Tier.L1]), size=st.integers(0, 100_000))
    def relieve(self, tier, size):
        try:
            self.store.relieve(tier, size)
        except TierAbsentError:
            assert tier not in {state.tier for state in self.store.tiers()}

    @rule(size=st.integers(0, 50_000), tier=TIERS)
    def measure(self, size, tier):
        before = self.owner.operations().total
        try:
            self.store.time_gets(sorted(self.model), tier)
            self.store.time_puts([size], tier)
        except (CapacityError, TierAbsentError):
            return
        assert not (self.owner.operations(before).rows[:, 1] == Operation.PUT).any()

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=3))
    def upkeep(self, keys):
        """After reads that the online layer cannot overlook."""
        there = [key for key in keys if key in self.model]
        for key in there * 400:
            self.owner.get(key)
        self.owner.upkeep.round()
        assert all(same(self.store.get(key), self.model[key]) for key in there)

    @rule(plans=st.lists(st.lists(st.tuples(st.integers(0, 3), CHANGES), max_size=8), min_size=3, max_size=3))
    def at_the_same_time(self, plans):
        """Three threads, each with keys of its own and all moving those of the others."""
        wrong = []
        threads = [
            threading.Thread(target=self.work, args=(group, plan, wrong))
            for group, plan in zip("abc", plans, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    def work(self, group, plan, wrong):
        store = self.client if group == "a" else self.owner
        try:
            for number, (action, value, tier) in plan:
                key, other = f"{group}/{number}", KEYS[(5 * number + len(plan)) % len(KEYS)]
                if action == "put":
                    store.put(key, value)
                    self.model[key] = value
                elif action == "delete":
                    store.delete(key)
                    self.model.pop(key, None)
                elif action == "get" and key in self.model and not same(store.get(key), self.model[key]):
                    wrong.append(key)
                elif action == "move":
                    store.move({other: tier, key: tier})
                elif action == "unpin":
                    store.unpin(key)
                elif action in ("pin", "prefetch"):
                    self.reach(store, action, key, tier)
        except Exception as error:  # noqa: BLE001 - told by the thread that waits
            wrong.append(repr(error))

    @staticmethod
    def reach(store, action, key, tier):
        try:
            store.pin(key, tier) if action == "pin" else store.prefetch([key], tier)
        except (ObjectNotFoundError, CapacityError, TierAbsentError):
            return

    @rule(budgets=st.fixed_dictionaries(BUDGETS))
    def open_again(self, budgets):
        """With other tiers than before."""
        self.client.close()
        self.owner.close()
        self.open(budgets)

    @precondition(lambda self: hasattr(self, "owner"))
    @invariant()
    def holds(self):
        entries = {entry.key: entry for entry in self.store.entries()}
        assert entries.keys() == self.model.keys()
        states = self.store.tiers()
        assert all(state.used_bytes <= state.capacity_bytes for state in states[:-1])
        assert {entry.tier for entry in entries.values()} <= {state.tier for state in states}
        assert len({entry.id for entry in entries.values()}) == len(entries)


StoreAgainstModel.TestCase.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
test_the_store_does_what_a_dictionary_does = pytest.mark.slow(StoreAgainstModel.TestCase)
