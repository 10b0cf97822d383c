"""Reading without blocking, without owning, and without changing what is looked at."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest

from aura.overview.readings import Reader
from aura.overview.stored import RECENT_SECONDS, StoreView
from aura.tiers.budgets import TierBudgets
from aura.tiers.catalog import Catalog
from aura.tiers.errors import StoreUnavailableError
from aura.tiers.records import Tier
from aura.tiers.store import open_store

SMALL = TierBudgets(process_bytes=1 << 20, arena_bytes=1 << 20)


class Clock:
    """Seconds that the test sets."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        """The seconds now."""
        return self.now


class Rows:
    """A value of rows, as an asset publishes it."""

    def __init__(self, count):
        self.table = pa.table({"number": range(count)})

    def to_parts(self):
        """One table."""
        return {"rows": self.table}


def test_a_source_that_does_not_answer_keeps_nobody_waiting():
    answer, clock = threading.Event(), Clock()

    def read():
        assert answer.wait(30)
        return "value"

    reader = Reader(read, (OSError,), clock)
    first = reader.latest(max_age_seconds=1, patience_seconds=0)
    clock.now += 3
    second = reader.latest(max_age_seconds=1, patience_seconds=0.01)
    assert (first.value, second.value, second.error, second.waited_seconds) == (None, None, None, 3)
    answer.set()
    assert reader.latest(max_age_seconds=1, patience_seconds=30).value == "value"


def test_a_result_is_read_again_only_when_it_is_too_old():
    results, clock = iter(range(9)), Clock()
    reader = Reader(lambda: next(results), (), clock)

    def read():
        return reader.latest(max_age_seconds=10, patience_seconds=30).value

    assert [read(), read()] == [0, 0]
    clock.now += 10
    assert [read(), read()] == [1, 1]


def test_an_absent_source_is_said_and_a_defect_is_raised():
    errors, clock = iter([OSError("start it"), ValueError("defect")]), Clock()

    def read():
        raise next(errors)

    reader = Reader(read, (OSError,), clock)
    assert reader.latest(max_age_seconds=1, patience_seconds=30).error == "start it"
    clock.now += 1
    with pytest.raises(ValueError, match="defect"):
        reader.latest(max_age_seconds=1, patience_seconds=30)


def test_looking_at_the_store_is_no_access(tmp_path):
    with open_store(tmp_path, budgets=SMALL) as owner:
        catalog = Catalog(owner)
        published = catalog.publish("a", Rows(10), partition="p", provenance={})
        view = StoreView(tmp_path, 5)
        (value,) = view.values()
        assert (value.name, value.partition, value.rows) == ("a", "p", 10)
        assert value.tier_bytes == {Tier.L3: published.bytes}
        before = len(owner.access_log().ids)
        owner.move({published.keys[0]: Tier.L1})
        (value,) = view.values()
        view.tiers()
        assert value.tier_bytes == {Tier.L1: published.bytes}
        assert len(owner.access_log().ids) == before
        catalog.publish("a", Rows(20), partition="p", provenance={})
        assert view.values()[0].rows == 20
        view.close()


def test_recent_gets_are_those_of_the_last_minute_and_of_this_owner(tmp_path):
    clock = Clock()
    view = StoreView(tmp_path, 5, clock)

    def recent():
        disk = view.tiers()[-1]
        return disk.recent_gets, disk.recent_seconds

    with open_store(tmp_path, budgets=SMALL) as owner:
        owner.put("k", b"v")
        owner.get("k")
        assert recent() == (0, 0)
        clock.now += 30
        owner.get_many(["k"] * 5)
        assert recent() == (5, 30)
        clock.now += RECENT_SECONDS
        assert recent() == (0, RECENT_SECONDS)
    with pytest.raises(StoreUnavailableError, match="aura tiers serve"):
        view.tiers()
    with open_store(tmp_path, budgets=SMALL) as owner:
        clock.now += 1
        owner.get("k")
        assert recent() == (0, 0)
        assert view.tiers()[-1].state.gets == 1
