"""A run that is killed at its worst moment leaves the store readable, and the next run completes its work."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from aura_assets.build import build_defs
from sensors.dead_runs import release_dead_runs

pytestmark = pytest.mark.slow

RUN = Path(__file__).with_name("shell_run_process.py")


def run_and_kill(graph, moment: str) -> None:
    """Run the corpus job in another process, which dies at that moment; let go of what it held."""
    run = subprocess.run(
        [sys.executable, RUN, moment, graph.source], capture_output=True, text=True, check=False, timeout=240
    )
    assert run.returncode == -signal.SIGKILL, run.stderr[-3000:]
    with graph.instance() as instance:
        (killed,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        # As the daemon does every minute, and the demo before it starts.
        assert release_dead_runs(instance) == [killed.run_id]
        assert instance.get_run_by_id(killed.run_id).status == dg.DagsterRunStatus.FAILURE
        assert release_dead_runs(instance) == []


def without_manifest(published) -> dict[str, str]:
    return {name: version for name, version in published.items() if name != "corpus_manifest"}


def orphans(graph) -> set[str]:
    """Blocks that no published value names."""
    with graph.catalog() as catalog:
        named = {key for published in catalog.published() for key in published.keys}
        return {entry.key for entry in catalog.store.entries("values/")} - named


def add_text(corpus: Path) -> None:
    (corpus / "turtle" / "new.txt").write_text("Turn the turtle left by angle units and draw.", encoding="utf-8")


def test_a_run_killed_while_embedding_leaves_the_old_values_and_the_next_run_completes(graph, corpus_directory):
    assert graph.run().success
    before = graph.published()
    rows = graph.load("text_embeddings").table.num_rows
    add_text(corpus_directory)
    run_and_kill(graph, "embedding")
    after = graph.published()
    assert without_manifest(after) == without_manifest(before)
    assert after["corpus_manifest"] != before["corpus_manifest"], "what was finished before the kill is kept"
    assert graph.load("text_embeddings").table.num_rows == rows
    outcome = graph.run()
    assert outcome.success
    assert outcome.materialized["text_embeddings"]["encoded"] == 1
    assert graph.load("text_embeddings").table.num_rows == rows + 1
    assert set(outcome.materialized) == set(before)


def test_a_run_killed_between_blocks_and_pointer_leaves_the_old_value_and_blocks_that_are_swept(
    graph, corpus_directory
):
    assert graph.run().success
    before = graph.published()
    add_text(corpus_directory)
    run_and_kill(graph, "publishing")
    left = orphans(graph)
    assert left
    assert all(key.startswith("values/embedding_diagrams/") for key in left)
    assert graph.published()["embedding_diagrams"] == before["embedding_diagrams"]
    graph.load("embedding_diagrams")
    assert graph.run("tiers").materialized["tier_placement"]["swept_blocks"] == len(left)
    assert orphans(graph) == set()
    outcome = graph.run()
    assert outcome.success
    assert graph.published()["embedding_diagrams"] != before["embedding_diagrams"]


def test_a_training_that_was_killed_goes_on_where_it_was_to_the_same_model(graph):
    run_and_kill(graph, "training")
    assert "expert_model" not in graph.published()
    epochs = []

    def progress(name):
        return lambda done, total: epochs.append(done) if name.startswith("expert_model") else None

    resumed = graph._execute(build_defs(graph.settings, resources={"progress": progress}), "corpus", graph.source, {})
    assert resumed.success
    assert epochs == [4, 5, 6]
    epochs.clear()
    forced = graph._execute(
        build_defs(graph.settings, resources={"progress": progress}), "corpus", graph.source, {"aura/force": "true"}
    )
    assert epochs == [1, 2, 3, 4, 5, 6], "a training that was completed starts anew"
    assert forced.data_versions["expert_model"] == resumed.data_versions["expert_model"]
