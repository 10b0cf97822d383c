"""The Dagster instance on a real PostgreSQL."""

from __future__ import annotations

import uuid
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from aura.services.stack import prepare_dagster_home
from aura.settings import load_settings

PROJECT = Path(__file__).resolve().parents[2]


@dg.asset
def measured() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"rows": 3})


@pytest.mark.servers
def test_runs_and_events_are_kept_in_postgres_and_seen_by_another_instance(tmp_path, monkeypatch, postgres):
    monkeypatch.setenv("AURA_HOME", str(tmp_path / "home"))
    for variable, value in postgres.variables.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings()
    prepare_dagster_home(settings, PROJECT)
    tag = {"kept": uuid.uuid4().hex}
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        assert type(instance.run_storage).__name__ == "PostgresRunStorage"
        run = create_run_for_test(instance, job_name="by_hand", tags=tag)
        assert dg.materialize([measured], instance=instance, tags=tag).success
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        runs = instance.get_runs(dg.RunsFilter(tags=tag))
        assert {found.job_name for found in runs} == {"by_hand", runs[0].job_name}
        assert len(runs) == 2
        assert instance.get_run_by_id(run.run_id).tags["kept"] == tag["kept"]
        event = instance.get_latest_materialization_event(dg.AssetKey("measured"))
        assert event.asset_materialization.metadata["rows"].value == 3
    # Nothing of it is in SQLite, and the password is not on disk.
    assert list(settings.dagster_home.rglob("*.db")) == []
    password = postgres.variables["AURA_POSTGRES__PASSWORD"]
    assert password not in (settings.dagster_home / "dagster.yaml").read_text()


def test_without_postgres_the_instance_is_the_projects_own_file(tmp_path, monkeypatch):
    monkeypatch.setenv("AURA_HOME", str(tmp_path / "home"))
    settings = load_settings()
    prepare_dagster_home(settings, PROJECT)
    assert (settings.dagster_home / "dagster.yaml").read_text() == (PROJECT / "deploy" / "dagster.yaml").read_text()
    assert sorted(path.name for path in settings.dagster_home.iterdir()) == ["dagster.yaml"]
