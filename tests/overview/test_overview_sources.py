"""Reading without blocking, without owning, and without changing what is looked at."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from aura.measure.cost import Cost
from aura.measure.energy import unavailable
from aura.measure.history import CostHistoryError
from aura.measure.mlflow_recorder import MlflowRecorder
from aura.measure.recorder import Record
from aura.overview.costs import CostView
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


def record(asset, wall_seconds):
    cost = Cost(
        started_at=datetime(2026, 11, 20, tzinfo=UTC),
        wall_seconds=wall_seconds,
        cpu_seconds=1.0,
        peak_memory_bytes=1 << 20,
        peak_memory_method="VmHWM",
        energy=unavailable("no counter here"),
    )
    return Record(subject=asset, partition=None, run_id="r", group="g", code_version="1", cost=cost)


def test_costs_are_read_again_only_after_somebody_recorded_one(tmp_path):
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    view = CostView(address, "aura")
    assert view.book().series == {}
    assert not (tmp_path / "mlflow.db").exists()
    recorder = MlflowRecorder(address)
    recorder.record(record("a", 1.0))
    first = view.book()
    assert [run.wall_seconds for run in first.series["a"]] == [1.0]
    assert view.book() is first
    recorder.record(record("b", 2.0))
    assert {run.wall_seconds for run in view.book().runs} == {1.0, 2.0}


def test_a_file_that_is_no_database_is_named_with_the_remedy(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database " * 100)
    with pytest.raises(CostHistoryError, match="AURA_MEASURE__MLFLOW_URI"):
        CostView(f"sqlite:///{tmp_path / 'mlflow.db'}", "aura").book()
