"""Costs out of a real MLflow file: what is kept of a long history, and how little of it is read again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura.measure.cost import Cost
from aura.measure.energy import unavailable
from aura.measure.history import CostHistory, CostHistoryError, MaterializationCost
from aura.measure.mlflow_recorder import MlflowRecorder
from aura.measure.mlflow_store import connect
from aura.measure.recorder import Record
from aura.overview import costs
from aura.overview.assets import Freshness, asset_rows
from aura.overview.costs import OVERLAP, REREAD_SECONDS, CostBook, CostView, ended_at, outcome, succeeded

NOW = datetime(2026, 11, 20, tzinfo=UTC)
FEW = 3
RUN = MaterializationCost(
    asset="a",
    partition=None,
    group="g",
    run_id="r",
    mlflow_run_id="0",
    started_at=NOW,
    succeeded=True,
    reused=False,
    wall_seconds=1.0,
    cpu_seconds=1.0,
    peak_memory_mib=1.0,
    energy_source="unavailable",
    joules=None,
    code_version=None,
    figures={},
    tags={},
)


class Project:
    """An MLflow file, how to record into it, a view of it, and since when that view has read."""

    def __init__(self, directory, monkeypatch):
        self.file = directory / "mlflow.db"
        self.address = f"sqlite:///{self.file}"
        self.now = 0.0
        self.view = CostView(self.address, "aura", lambda: self.now)
        self.readings = []
        read = CostHistory.ended_since

        def noted(history, moment=None):
            self.readings.append(moment)
            return read(history, moment)

        monkeypatch.setattr(CostHistory, "ended_since", noted)

    def record(self, asset, partition=None, *, minutes=0.0, wall_seconds=1.0, reused=False):
        """One materialization that started so many minutes after NOW; gives the id of its MLflow run."""
        cost = Cost(
            started_at=NOW + timedelta(minutes=minutes),
            wall_seconds=wall_seconds,
            cpu_seconds=1.0,
            peak_memory_bytes=1 << 20,
            peak_memory_method="VmHWM",
            energy=unavailable("no counter here"),
        )
        done = Record(asset, partition, "r", "g", "1", cost, reused=reused)
        return MlflowRecorder(self.address).record(done)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "RUNS_PER_ASSET", FEW)
    return Project(tmp_path, monkeypatch)


def test_every_partition_keeps_its_state_however_many_there_are(project, monkeypatch):
    monkeypatch.setattr(costs, "CHUNK", 4)
    project.record("a", "old", minutes=-9)
    project.record("a", "old", minutes=-8, reused=True)
    for number in range(2 * FEW):
        project.record("a", f"p{number}", minutes=number)
    book = project.view.book()
    assert [run.partition for run in book.series["a"]] == ["p3", "p4", "p5"]
    partitions = ["old", *(f"p{number}" for number in range(2 * FEW))]
    assert sorted(partition for _, partition in book.standings) == partitions
    rows = {row.partition: row for row in asset_rows(book, [], partitions)}
    assert {row.freshness(NOW) for row in rows.values()} == {Freshness.FRESH}
    old = rows["old"]
    assert old.computed.started_at == NOW - timedelta(minutes=9)
    assert old.reuse.started_at == NOW - timedelta(minutes=8)


def test_costs_are_read_again_only_after_somebody_recorded_one_and_then_only_the_latest(project):
    assert project.view.book() == CostBook({})
    assert not project.file.exists()
    project.record("a", minutes=-60)
    project.record("a", minutes=-1, wall_seconds=60.0)
    first = project.view.book()
    assert project.view.book() is first
    project.record("b")
    assert {run.asset for run in project.view.book().runs} == {"a", "b"}
    assert project.readings == [None, None, NOW - OVERLAP]


def test_a_run_that_was_recorded_late_or_began_long_ago_is_seen(project):
    project.record("a")
    project.view.book()
    project.record("b", minutes=-5)
    project.record("c", minutes=-600, wall_seconds=36_000.0)
    assert list(project.view.book().series) == ["a", "b", "c"]
    assert project.readings[1:] == [NOW + timedelta(seconds=1) - OVERLAP]


def test_a_clock_that_runs_ahead_hides_nothing(project):
    ahead = datetime.now(UTC) - NOW + timedelta(days=2)
    project.record("a", minutes=ahead.total_seconds() / 60)
    project.view.book()
    project.record("b", minutes=(ahead - timedelta(days=2)).total_seconds() / 60)
    assert list(project.view.book().series) == ["a", "b"]


def test_everything_is_read_anew_when_the_last_run_was_deleted(project):
    project.record("a", minutes=-60)
    gone = project.record("b")
    project.view.book()
    connect(project.address).delete_run(gone)
    assert list(project.view.book().series) == ["a"]
    assert project.readings == [None, NOW + timedelta(seconds=1) - OVERLAP, None]


def test_old_runs_that_were_deleted_are_gone_a_day_later(project):
    gone = project.record("a", minutes=-60)
    project.record("b")
    project.view.book()
    connect(project.address).delete_run(gone)
    assert list(project.view.book().series) == ["a", "b"]
    project.now += REREAD_SECONDS
    project.record("b", minutes=1)
    assert list(project.view.book().series) == ["b"]


def test_a_file_that_was_deleted_has_no_costs_any_more(project):
    project.record("a")
    project.view.book()
    for file in project.file.parent.glob("mlflow.db*"):
        file.unlink()
    assert project.view.book() == CostBook({})


def test_a_file_that_is_no_database_is_named_with_the_remedy(project):
    project.file.write_text("no database " * 100)
    with pytest.raises(CostHistoryError, match="AURA_MEASURE__MLFLOW_URI"):
        project.view.book()


RUNS = st.lists(
    st.builds(
        lambda asset, partition, minute, word, added: replace(
            RUN,
            asset=asset,
            partition=partition,
            started_at=NOW + timedelta(minutes=minute),
            succeeded=word != "failed",
            reused=word == "reused",
            figures={"added": added},
            tags={"outcome": word},
        ),
        st.sampled_from("ab"),
        st.sampled_from(["x", "y", None]),
        st.integers(0, 9),
        st.sampled_from(["made", "reused", "refused", "skipped", "failed"]),
        st.sampled_from([0.0, 1.0]),
    ),
    max_size=12,
).map(lambda runs: [replace(run, mlflow_run_id=f"{number:02d}") for number, run in enumerate(runs)])


@given(RUNS, st.data())
def test_a_book_is_the_same_in_whatever_order_and_however_often_runs_are_read(runs, data):
    shuffled = data.draw(st.permutations(runs))
    cut = data.draw(st.integers(0, len(runs)))
    assert CostBook.of(runs) == CostBook.of(shuffled[:cut]).with_runs(shuffled).with_runs(shuffled[cut:])


@given(RUNS)
def test_a_standing_is_what_a_look_through_all_runs_finds(runs):
    book = CostBook.of(runs)
    assert set(book.standings) == {(run.asset, run.partition) for run in runs}
    for key, standing in book.standings.items():
        own = sorted((r for r in runs if (r.asset, r.partition) == key), key=lambda r: (r.started_at, r.mlflow_run_id))
        good = [run for run in own if outcome(run) in {"made", "reused"}]
        assert all(succeeded(run) == (run in good) for run in own)
        assert standing.last == own[-1]
        assert standing.succeeded == next(reversed(good), None)
        assert standing.computed == next((run for run in reversed(good) if not run.reused), None)
        assert standing.changed == next((run for run in reversed(good) if run.figures["added"]), None)
        assert ended_at(standing.last) == standing.last.started_at + timedelta(seconds=1)


def test_a_series_that_is_full_says_since_when_it_has_every_run(monkeypatch):
    monkeypatch.setattr(costs, "RUNS_PER_ASSET", FEW)
    runs = [replace(RUN, mlflow_run_id=str(n), started_at=NOW + timedelta(hours=n)) for n in range(FEW + 1)]
    assert CostBook.of(runs).begins_at("a") == runs[1].started_at
    assert CostBook.of(runs[: FEW - 1]).begins_at("a") is None
    assert CostBook.of(runs).begins_at("b") is None
