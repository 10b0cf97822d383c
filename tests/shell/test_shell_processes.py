"""The graph, the command line and the demo as real processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

AURA = Path(sys.executable).with_name("aura")

CHAIN = {
    "corpus_manifest",
    "text_embeddings",
    "text_index",
    "embedding_diagrams",
    "diagram_vectors",
    "averaged_landscapes",
    "embedding_loops",
    "expert_model",
    "expert_routing_table",
    "drift_reference",
    "embedding_drift",
    "network_reference",
    "network_drift",
}
"""What the graph makes of a source of texts."""

READ_AGAIN = {"corpus_manifest", "text_embeddings", "diagram_vectors", "drift_reference", "network_reference"}
"""What looks at its predecessor in every run; all else is reused where nothing has changed."""

SHELL_PROCESS = Path(__file__).with_name("shell_process.py")


def aura(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(AURA), *map(str, arguments)],
        env={**os.environ, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def demo(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aura_assets.demo", *map(str, arguments)],
        env={**os.environ, "COLUMNS": "160", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def assert_one_sentence(finished: subprocess.CompletedProcess[str], *words: object) -> None:
    """A mistake of the user gives exit code 1 and one line that names it."""
    assert finished.returncode == 1, finished.stdout + finished.stderr
    said = finished.stderr + finished.stdout
    assert "Traceback" not in said
    for word in words:
        assert str(word) in said


@pytest.mark.slow
def test_two_processes_run_the_graph_on_one_store_at_the_same_time(graph, corpus_directory, tmp_path) -> None:
    other = shutil.copytree(corpus_directory, tmp_path / "other")
    for number in range(5):
        (other / "turtle" / f"{number:02d}.txt").unlink()
    graph.register(other, "other")
    with graph.instance() as instance:
        # Dagster makes its tables at the first query, and two processes must not do that at once.
        assert instance.get_runs_count() == 0
        assert not instance.all_asset_keys()
        instance.schedule_storage.all_instigator_state()
    with ExitStack() as running:
        processes = [
            running.enter_context(
                subprocess.Popen(
                    [sys.executable, str(SHELL_PROCESS), name],
                    stdout=subprocess.PIPE,
                    # Threads of two processes that spin for each other's cores are all that this would measure.
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
            )
            for name in (graph.source, "other")
        ]
        for process in processes:
            running.callback(process.kill)
        outcomes = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    for outcome in outcomes:
        assert outcome["failed"] == {}
        assert set(outcome["materialized"]) == CHAIN
    assert set(graph.published()) == set(graph.published("other")) >= {"expert_routing_table"}
    assert graph.load("text_embeddings").table.num_rows == 60
    assert graph.load("text_embeddings", "other").table.num_rows == 55


def test_settings_are_listed_with_their_origin_and_secrets_are_masked(home) -> None:
    finished = aura("settings", AURA_MEASURE__OTLP_TOKEN="orange")
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"topology\.landmarks\s+40\s+environment", finished.stdout)
    assert re.search(r"corpus\.max_file_bytes\s+32\.0MiB\s+default", finished.stdout)
    assert "measure.otlp_token" in finished.stdout
    assert "orange" not in finished.stdout


@pytest.mark.parametrize(
    ("variable", "value"),
    [("AURA_EXPERTS__EXPERTS", "many"), ("AURA_EXPERTS__EXPRETS", "4"), ("AURA_EXPERTS__EPOCHS", "[/many]")],
)
def test_a_wrong_setting_is_named(home, variable, value) -> None:
    assert_one_sentence(aura("settings", **{variable: value}), variable)


def test_a_source_is_added_listed_and_removed(home, corpus_directory) -> None:
    added = aura("sources", "add", "library", corpus_directory)
    assert added.returncode == 0, added.stderr
    assert str(corpus_directory) in added.stdout
    listed = aura("sources", "list", COLUMNS="300").stdout
    assert "python-docs" in listed
    assert str(corpus_directory) in listed
    assert aura("sources", "remove", "library").returncode == 0
    assert "library" not in aura("sources", "list").stdout
    assert (corpus_directory / "turtle" / "00.txt").is_file()


def test_removing_a_source_withdraws_its_values_and_no_others(graph, corpus_directory, tmp_path) -> None:
    graph.register(shutil.copytree(corpus_directory, tmp_path / "other"), "other")
    for name in (graph.source, "other"):
        assert graph.run_selection(["corpus_manifest", "text_embeddings"], name).success
    assert aura("sources", "remove", "library").returncode == 0
    assert graph.published() == {}
    assert set(graph.published("other")) == {"corpus_manifest", "text_embeddings"}
    with graph.store() as store:
        assert len(store.entries("values/")) == 2


def test_mistakes_with_sources_are_named(home, corpus_directory, tmp_path) -> None:
    assert_one_sentence(aura("sources", "remove", "librray"), "librray", "python-docs")
    missing = tmp_path / "[not] there"
    assert_one_sentence(aura("sources", "add", "library", missing), missing, "does not exist")
    file = corpus_directory / "turtle" / "00.txt"
    assert_one_sentence(aura("sources", "add", "library", file), file, "not a directory")
    assert_one_sentence(aura("sources", "add", "My Library", corpus_directory), "My Library")
    assert "library" not in aura("sources", "list").stdout
    assert aura("sources", "add", "library", corpus_directory).returncode == 0
    assert_one_sentence(aura("sources", "add", "library", tmp_path), "library", "already")


def test_the_tiers_and_their_objects_are_listed(graph) -> None:
    assert graph.run_selection(["corpus_manifest"]).success
    assert_one_sentence(aura("tiers", "stat"), "no owner", "aura tiers serve")
    with graph.store():
        stat = aura("tiers", "stat")
    assert stat.returncode == 0, stat.stderr
    for words in ("process memory", "warm pool", "RocksDB"):
        assert words in stat.stdout
    assert re.search(r"L1 .*│\s*1\.0\s*│", stat.stdout)
    listed = aura("tiers", "ls", "values/")
    assert listed.returncode == 0
    assert re.search(r"values/corpus_manifest/library/\S+\s*│\s*table\s*│\s*[\d.]+\s*│\s*L3", listed.stdout)
    assert "values/" not in aura("tiers", "ls", "nothing/").stdout


def test_a_home_that_cannot_be_used_is_named(home, tmp_path) -> None:
    file = tmp_path / "file"
    file.write_text("here is a file", encoding="utf-8")
    assert_one_sentence(aura("tiers", "stat", AURA_HOME=str(file)), file)


@pytest.mark.slow
def test_the_demo_prints_what_was_made_at_which_cost_and_what_to_do_next(home, corpus_directory) -> None:
    first = demo("--source", corpus_directory)
    assert first.returncode == 0, first.stdout + first.stderr
    for asset in ("corpus_manifest", "text_embeddings", "embedding_diagrams", "expert_model", "expert_routing_table"):
        assert asset in first.stdout
    assert "tier_placement" in first.stdout
    for words in ("wall s", "CPU s", "energy", "tier", "make up", "http://127.0.0.1:3000", str(home.home)):
        assert words in first.stdout
    assert "image_embeddings[library] skipped: no image items in this source" in first.stdout
    assert re.search(r"text_embeddings\s+60\s", first.stdout)
    assert "Traceback" not in first.stderr
    second = demo("--source", corpus_directory)
    assert second.returncode == 0, second.stdout + second.stderr
    assert second.stdout.count("reused") == len(CHAIN - READ_AGAIN)


@pytest.mark.slow
def test_the_demo_names_a_directory_that_is_not_there_and_does_not_remember_it(home, tmp_path) -> None:
    missing = tmp_path / "nowhere"
    finished = demo("--source", missing)
    assert_one_sentence(finished, missing, "does not exist")
    assert len((finished.stdout + finished.stderr).strip().splitlines()) == 1
    assert "nowhere" not in aura("sources", "list").stdout


@pytest.mark.slow
def test_the_demo_says_what_failed_when_a_step_or_the_whole_run_does(home, corpus_directory, tmp_path) -> None:
    missing = tmp_path / "no-such-model"
    finished = demo("--source", corpus_directory, AURA_EMBEDDINGS__TEXT_MODEL=str(missing))
    assert_one_sentence(finished, "text_embeddings failed", missing)
    finished = demo("--source", corpus_directory, AURA_MEASURE__OTLP_ENDPOINT="grpc://nowhere")
    assert_one_sentence(finished, "the run failed", "grpc://nowhere")
