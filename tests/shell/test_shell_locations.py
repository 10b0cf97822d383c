"""The code locations: both workspaces load, cut the graph cleanly, and GPU steps wait for each other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

from aura.services.stack import prepare_dagster_home
from aura_assets.build import ASSETS, build_defs
from aura_assets.op_tags import GPU_POOL, GPU_TAGS
from aura_assets.partitions import sources

PROJECT = Path(__file__).resolve().parents[2]
WORKSPACES = {"workspace.yaml": ("aura",), "deploy/workspace.gpu.yaml": ("cpu", "gpu")}
ON_GPU = {"text_embeddings", "image_embeddings", "audio_embeddings", "joint_embeddings"}


def names(keys) -> set[str]:
    return {key.to_user_string() for key in keys}


def made_by(defs: dg.Definitions) -> set[str]:
    """Assets that these definitions compute."""
    return names(defs.resolve_asset_graph().materializable_asset_keys)


@pytest.mark.slow
@pytest.mark.parametrize(("workspace", "locations"), WORKSPACES.items())
def test_a_workspace_loads_without_error_and_without_a_warning_about_our_code(home, workspace, locations):
    prepare_dagster_home(home, PROJECT)
    check = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-w", str(PROJECT / workspace)],
        cwd=home.home.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    said = check.stdout + check.stderr
    assert check.returncode == 0, said
    for location in locations:
        assert f"Validation successful for code location {location}." in said
    ours = [line for line in said.splitlines() if "definitions_validate_command" not in line]
    assert not [line for line in ours if "Warning" in line or "ERROR" in line or "WARNING" in line]


@pytest.mark.parametrize(("workspace", "locations"), WORKSPACES.items())
def test_a_workspace_names_the_locations_by_their_definitions(workspace, locations):
    import aura_assets.definitions

    entries = yaml.safe_load((PROJECT / workspace).read_text(encoding="utf-8"))["load_from"]
    modules = [entry["python_module"] for entry in entries]
    assert tuple(module["location_name"] for module in modules) == locations
    for module in modules:
        assert module["module_name"] == "aura_assets.definitions"
        assert hasattr(aura_assets.definitions, module["attribute"])


def test_each_asset_is_in_exactly_one_of_the_two_locations_and_all_are_in_the_one(home):
    everything, cpu, gpu = (made_by(build_defs(home, location=name)) for name in ("everything", "cpu", "gpu"))
    assert everything == cpu | gpu == names(key for asset in ASSETS for key in asset.keys)
    assert not cpu & gpu
    assert gpu == ON_GPU


def test_jobs_schedules_and_sensors_exist_once_over_both_locations(home):
    cpu, gpu = (build_defs(home, location=name).get_repository_def() for name in ("cpu", "gpu"))
    for kind in ("schedule_defs", "sensor_defs"):
        here, there = ({each.name for each in getattr(repository, kind)} for repository in (cpu, gpu))
        assert not here & there
    assert {each.name for each in gpu.sensor_defs} == {"automation_gpu"}


def test_the_gpu_assets_and_no_others_carry_the_tags_and_the_pool():
    for asset in ASSETS:
        tags = {name: value for name, value in asset.op.tags.items() if name in GPU_TAGS}
        (name,) = names(asset.keys)
        assert tags == (GPU_TAGS if name in ON_GPU else {}), name
        assert asset.op.pool == (GPU_POOL if name in ON_GPU else None), name


def test_the_tags_say_what_each_executor_reads():
    assert GPU_TAGS["aura/device"] == "gpu"
    assert json.loads(GPU_TAGS["dagster-ray/config"]) == {"num_gpus": 1}
    resources = json.loads(GPU_TAGS["dagster-k8s/config"])["container_config"]["resources"]
    assert resources["limits"] == resources["requests"] == {"nvidia.com/gpu": "1"}


@pytest.mark.slow
def test_a_value_made_in_one_location_is_read_in_the_other(graph):
    def run(location: str, *assets: str) -> dg.ExecuteInProcessResult:
        job = dg.define_asset_job("chosen", selection=dg.AssetSelection.assets(*assets))
        defs = dg.Definitions.merge(build_defs(graph.settings, location=location), dg.Definitions(jobs=[job]))
        return defs.resolve_job_def("chosen").execute_in_process(instance=instance, partition_key=graph.source)

    with graph.instance() as instance:
        instance.add_dynamic_partitions(sources.name or "", [graph.source])
        assert run("cpu", "corpus_manifest").success
        assert run("gpu", "text_embeddings").success
        assert run("cpu", "embedding_diagrams").success
    assert {"corpus_manifest", "text_embeddings", "embedding_diagrams"} == set(graph.published())
    assert graph.load("embedding_diagrams").provenance.points == graph.load("text_embeddings").table.num_rows


def test_the_instance_configuration_is_the_one_that_dagster_runs_with(graph):
    with graph.instance() as instance:
        limits = instance.get_concurrency_config()
        assert limits.pool_config.default_pool_limit == 1
        assert limits.pool_config.pool_granularity.value == "op"
        assert limits.run_queue_config.max_concurrent_runs == 2
        assert not instance.telemetry_enabled
        assert instance.run_monitoring_enabled
        assert instance.run_retries_max_retries == 2
        assert not instance.run_retries_retry_on_asset_or_op_failure


def spans(directory: Path) -> list[tuple[float, float]]:
    """When each step began and ended."""
    return sorted(tuple(json.loads(path.read_text(encoding="utf-8"))) for path in directory.glob("*.json"))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seconds", "together"), [("pooled", 3, False), ("free", 120, True)])
def test_two_steps_that_want_the_gpu_never_run_together_and_two_others_do(home, tmp_path, kind, seconds, together):
    """Each step waits for the other to begin: a wait that ends only if they run together, or when its time is over."""
    prepare_dagster_home(home, PROJECT)
    directory = tmp_path / "spans"
    directory.mkdir()
    pair = Path(__file__).with_name("shell_gpu_pair.py")
    run = subprocess.run(
        [sys.executable, pair, kind, str(seconds), directory], capture_output=True, text=True, check=False, timeout=300
    )
    assert run.returncode == 0, run.stderr[-3000:]
    (_, first_end), (second_start, _) = spans(directory)
    assert (second_start < first_end) is together
