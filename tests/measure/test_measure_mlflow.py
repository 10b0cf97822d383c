"""Records written to and read from real MLflow stores."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aura.measure.cost import Cost
from aura.measure.energy import Energy, ModelledCpu, unavailable
from aura.measure.history import CostHistory, CostHistoryError, MaterializationCost
from aura.measure.mlflow_recorder import MlflowRecorder
from aura.measure.mlflow_store import TrackingUriError, connect, create_database
from aura.measure.recorder import Record, RecordError

MIB = 1024 * 1024
STARTED = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)
MEASURED = Energy("measured", 12.5, {"package-0": 10.0, "gpu-0": 2.5}, "counters")
MODELLED = ModelledCpu(10.0).begin().end(window_seconds=1.0, cpu_seconds=2.0)


def record(
    subject: str = "text_embeddings",
    *,
    partition: str | None = "python-docs",
    started_at: datetime = STARTED,
    energy: Energy | None = None,
    succeeded: bool = True,
    reused: bool = False,
) -> Record:
    cost = Cost(started_at, 2.5, 4.0, 300 * MIB, energy or unavailable("no counters"), "VmHWM")
    return Record(
        subject=subject,
        partition=partition,
        run_id="a-dagster-run",
        group="embeddings",
        code_version="7",
        cost=cost,
        figures={"items": 5000.0},
        tags={"model": "all-MiniLM-L6-v2"},
        succeeded=succeeded,
        reused=reused,
    )


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> str:
    return request.node.name


def test_a_record_is_one_finished_run_that_mlflow_shows_with_its_tags_params_and_figures(uri, experiment) -> None:
    run_id = MlflowRecorder(uri, experiment).record(record(energy=MEASURED))
    run = connect(uri).get_run(run_id)
    assert run.info.run_name == "text_embeddings[python-docs] 2026-03-01 12:30:05"
    assert run.info.status == "FINISHED"
    assert run.info.start_time == STARTED.timestamp() * 1000
    assert run.info.end_time - run.info.start_time == 2500
    assert run.data.metrics == {
        "wall_seconds": 2.5,
        "cpu_seconds": 4.0,
        "peak_memory_mib": 300.0,
        "joules_measured": 12.5,
        "items": 5000.0,
    }
    assert run.data.params == {"model": "all-MiniLM-L6-v2"}
    tags = {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")}
    assert tags == {
        "dagster.run_id": "a-dagster-run",
        "aura.asset": "text_embeddings",
        "aura.partition": "python-docs",
        "aura.group": "embeddings",
        "aura.code_version": "7",
        "aura.energy.source": "measured",
        "aura.energy.method": "counters",
        "aura.peak_memory_method": "VmHWM",
        "aura.reused": "false",
    }


@pytest.mark.parametrize(
    ("energy", "present"),
    [(MEASURED, {"joules_measured"}), (MODELLED, {"joules_modelled"}), (unavailable("none"), set())],
    ids=["measured", "modelled", "unavailable"],
)
def test_joules_of_different_sources_are_different_metrics(uri, experiment, energy, present) -> None:
    run = connect(uri).get_run(MlflowRecorder(uri, experiment).record(record(energy=energy)))
    assert {name for name in run.data.metrics if "joules" in name} == present


def test_a_body_that_raised_is_a_failed_run(uri, experiment) -> None:
    run = connect(uri).get_run(MlflowRecorder(uri, experiment).record(record(succeeded=False)))
    assert run.info.status == "FAILED"
    assert run.data.metrics["wall_seconds"] == 2.5


def test_a_record_is_read_back_as_it_was_written(uri, experiment) -> None:
    run_id = MlflowRecorder(uri, experiment).record(record(energy=MODELLED, reused=True))
    assert run_id is not None
    assert CostHistory(uri, experiment).latest() == [
        MaterializationCost(
            asset="text_embeddings",
            partition="python-docs",
            group="embeddings",
            run_id="a-dagster-run",
            mlflow_run_id=run_id,
            started_at=STARTED,
            succeeded=True,
            reused=True,
            wall_seconds=2.5,
            cpu_seconds=4.0,
            peak_memory_mib=300.0,
            energy_source="modelled",
            joules=20.0,
            code_version="7",
            figures={"items": 5000.0},
            tags={"model": "all-MiniLM-L6-v2"},
        )
    ]


def test_the_latest_of_each_asset_and_partition_comes_newest_first(uri, experiment) -> None:
    recorder = MlflowRecorder(uri, experiment)
    for minutes, subject, partition in [(3, "a", "x"), (1, "a", "x"), (2, "a", "y"), (0, "b", None)]:
        recorder.record(record(subject, partition=partition, started_at=STARTED + timedelta(minutes=minutes)))
    latest = CostHistory(uri, experiment).latest()
    assert [(cost.asset, cost.partition) for cost in latest] == [("a", "x"), ("a", "y"), ("b", None)]
    assert latest[0].started_at == STARTED + timedelta(minutes=3)


def test_the_series_of_an_asset_comes_oldest_first_and_without_the_others(uri, experiment) -> None:
    recorder = MlflowRecorder(uri, experiment)
    for minutes, subject in [(2, "a"), (0, "a"), (1, "b"), (3, "a")]:
        recorder.record(record(subject, started_at=STARTED + timedelta(minutes=minutes)))
    history = CostHistory(uri, experiment)
    minutes = [(cost.started_at - STARTED).total_seconds() / 60 for cost in history.series("a")]
    assert minutes == [0, 2, 3]
    assert len(history.series("a", max_runs=2)) == 2
    with pytest.raises(ValueError, match="quotes"):
        history.series("a' or 'b")


def test_what_ended_since_a_moment_is_found_by_its_end(uri, experiment) -> None:
    recorder = MlflowRecorder(uri, experiment)
    for minutes, subject in [(0, "a"), (1, "b"), (2, "c")]:
        recorder.record(record(subject, started_at=STARTED + timedelta(minutes=minutes)))
    history = CostHistory(uri, experiment)

    def ended_since(seconds):
        return [cost.asset for cost in history.ended_since(STARTED + timedelta(seconds=seconds))]

    # Each takes 2.5 s.
    assert [ended_since(seconds) for seconds in (-9, 2.5, 2.501, 122.5, 122.501)] == [
        ["c", "b", "a"], ["c", "b", "a"], ["c", "b"], ["c"], [],
    ]  # fmt: skip
    assert [cost.asset for cost in history.ended_since()] == ["c", "b", "a"]


def test_runs_of_other_people_and_of_killed_processes_are_not_costs(uri, experiment) -> None:
    MlflowRecorder(uri, experiment).record(record())
    client = connect(uri)
    experiment_id = client.get_experiment_by_name(experiment).experiment_id
    client.create_run(experiment_id, tags={"aura.asset": "text_embeddings"})
    client.set_terminated(client.create_run(experiment_id).info.run_id)
    assert len(CostHistory(uri, experiment).latest()) == 1


def test_a_history_of_a_store_or_experiment_that_does_not_exist_is_empty_and_creates_nothing(uri, tmp_path) -> None:
    assert CostHistory(uri, "never written").latest() == []
    assert CostHistory(f"sqlite:///{tmp_path}/absent/mlflow.db").latest() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", ["postgresql://host/db", "sqlite:///", "mlruns", "http://", ""])
def test_an_address_that_is_neither_file_nor_server_is_refused_at_once(bad: str) -> None:
    with pytest.raises(TrackingUriError, match="expected sqlite"):
        MlflowRecorder(bad)
    with pytest.raises(TrackingUriError, match="expected sqlite"):
        CostHistory(bad)


@pytest.mark.parametrize(
    ("figures", "tags"),
    [({"a=b": 1.0}, {}), ({"loss": float("nan")}, {}), ({}, {"": "x"}), ({}, {f"t{i}": "x" for i in range(101)})],
)
def test_a_record_that_no_store_could_keep_is_refused_where_it_is_made(figures, tags) -> None:
    with pytest.raises(RecordError):
        Record("a", None, "run", "group", None, record().cost, figures=figures, tags=tags)


@contextmanager
def silent_server() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def no_server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("server", [no_server, silent_server])
def test_a_server_that_is_down_costs_the_figures_but_not_the_materialization(server, monkeypatch, caplog) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with server() as address, caplog.at_level(logging.WARNING, logger="aura.measure.mlflow_recorder"):
        assert MlflowRecorder(address).record(record()) is None
        with pytest.raises(CostHistoryError, match=address):
            CostHistory(address).latest()
    (warning,) = caplog.records
    assert address in warning.getMessage()
    assert "make up" in warning.getMessage()


@pytest.mark.parametrize("content", [b"not a database, " * 400, None], ids=["garbage", "directory"])
def test_a_file_that_is_no_database_costs_the_figures_but_not_the_materialization(tmp_path, caplog, content) -> None:
    path = tmp_path / "mlflow.db"
    path.mkdir() if content is None else path.write_bytes(content)
    assert MlflowRecorder(f"sqlite:///{path}").record(record()) is None
    assert str(path) in caplog.text


def test_a_recorder_recovers_when_its_store_does(tmp_path) -> None:
    path = tmp_path / "mlflow.db"
    path.mkdir()
    recorder = MlflowRecorder(f"sqlite:///{path}")
    assert recorder.record(record()) is None
    path.rmdir()
    assert recorder.record(record()) is not None


def test_a_new_database_is_published_whole_and_its_artifacts_go_next_to_it(tmp_path) -> None:
    path = tmp_path / "new" / "mlflow.db"
    path.parent.mkdir()
    path.with_name("mlflow.db.creating").write_bytes(b"left by a killed process")
    create_database(path)
    assert sorted(file.name for file in path.parent.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    client = connect(f"sqlite:///{path}")
    MlflowRecorder(f"sqlite:///{path}", "costs").record(record())
    artifacts = (tmp_path / "new" / "artifacts").as_uri()
    assert client.get_experiment("0").artifact_location.startswith(artifacts)
    assert client.get_experiment_by_name("costs").artifact_location == artifacts


def test_every_asset_with_a_run_is_named_however_many_runs_others_have(tmp_path) -> None:
    address = f"sqlite:///{tmp_path}/mlflow.db"
    recorder = MlflowRecorder(address)
    cost = Cost(datetime.now(UTC), 1.0, 1.0, 1, unavailable("none"), "VmHWM")
    # More than SQLite joins tables.
    many = [f"asset {number}" for number in range(70)]
    for subject in ("old's", "busy", "busy", "busy", *many):
        assert recorder.record(Record(subject, None, "run", "group", None, cost))
    assert {cost.asset for cost in CostHistory(address).ended_since()} == {*many, "busy", "old's"}
    assert list(CostHistory(f"sqlite:///{tmp_path}/absent/mlflow.db").ended_since()) == []


RECORD_FIVE = """
import sys
from datetime import UTC, datetime
from aura.measure.cost import Cost
from aura.measure.energy import unavailable
from aura.measure.mlflow_recorder import MlflowRecorder
from aura.measure.recorder import Record

cost = Cost(datetime.now(UTC), 1.0, 1.0, 1, unavailable("none"), "VmHWM")
recorder = MlflowRecorder(sys.argv[1])
for index in range(5):
    assert recorder.record(Record(sys.argv[2], str(index), "run", "group", None, cost)) is not None

from mlflow.telemetry import get_telemetry_client
assert get_telemetry_client() is None
"""


@pytest.mark.slow
def test_processes_that_create_the_same_database_at_once_lose_nothing(tmp_path) -> None:
    address = f"sqlite:///{tmp_path}/mlflow.db"
    # MLflow also keeps its telemetry off by itself where it sees one of these.
    environment = {name: value for name, value in os.environ.items() if name not in {"CI", "PYTEST_CURRENT_TEST"}}
    environment.pop("MLFLOW_DISABLE_TELEMETRY", None)
    commands = [[sys.executable, "-c", RECORD_FIVE, address, name] for name in ("a", "b")]
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for command in commands]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    assert len(CostHistory(address).latest()) == 10


def test_nothing_is_imported_before_the_first_record() -> None:
    check = (
        "import sys; from aura.measure.mlflow_recorder import MlflowRecorder; from aura.measure.history import *; "
        "from aura.measure.tracing import configure_tracing; MlflowRecorder('http://127.0.0.1:1'); "
        "configure_tracing('aura', None); "
        "sys.exit(any(name in sys.modules for name in ('mlflow', 'pynvml', 'opentelemetry.sdk', 'requests')))"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


@contextmanager
def tracking_server(directory: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    database = directory / "mlflow.db"
    create_database(database)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(directory / "artifacts")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        while not answers(f"{address}/health"):
            assert server.poll() is None, "the tracking server ended"
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@pytest.mark.slow
def test_a_real_tracking_server_keeps_and_returns_records(tmp_path) -> None:
    with tracking_server(tmp_path) as address:
        run_id = MlflowRecorder(address).record(record(energy=MEASURED))
        (cost,) = CostHistory(address).latest()
    assert cost.mlflow_run_id == run_id
    assert cost.joules == 12.5
