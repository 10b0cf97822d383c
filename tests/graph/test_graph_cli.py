"""`aura graph` on the embedded graph, and on a server that is not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from aura.graph.cli import graph_app
from aura.graph.lineage import Version, materialized
from aura.graph.opening import open_graph
from aura.settings import Settings

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def home(tmp_path):
    """A home whose graph knows one materialization."""
    with open_graph(Settings(home=tmp_path)) as graph:
        manifest = Version("corpus_manifest", "docs", "v1")
        made = Version("text_embeddings", "docs", "v7")
        graph.apply(materialized(made, inputs=[manifest], run_id="run-1", at=AT, cost={"wall_seconds": 1.5}))
    return tmp_path


def aura(home, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "AURA_HOME": str(home), "COLUMNS": "200", **variables}
    command = [sys.executable, "-c", "from aura.cli import main; main()", "graph", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_people_can_ask_who_is_beside_downstream_and_on_the_way(home) -> None:
    def said(*arguments: str) -> str:
        answer = CliRunner(env={"AURA_HOME": str(home), "COLUMNS": "200"}).invoke(graph_app, arguments)
        assert answer.exit_code == 0
        return answer.output

    assert "wall_seconds=1.5" in said("neighbours", "Asset:text_embeddings", "--direction", "out")
    assert "Materialization:text_embeddings@v7[docs]" in said("impact", "Asset:corpus_manifest")
    assert said("path", "Asset:corpus_manifest", "Materialization:text_embeddings@v7[docs]").strip() == (
        "Asset:corpus_manifest -FEEDS-> Asset:text_embeddings -MATERIALIZED_AS-> "
        "Materialization:text_embeddings@v7[docs]"
    )
    assert said("path", "Asset:text_embeddings", "Asset:corpus_manifest").strip() == "There is no path."
    assert "MATERIALIZED_AS" in said("counts")
    assert len(said("digest").strip()) == 64
    assert "0 writes were sent" in said("drain")


def test_programs_get_the_same_as_json(home) -> None:
    def told(*arguments: str) -> list[dict[str, Any]]:
        answer = CliRunner(env={"AURA_HOME": str(home)}).invoke(graph_app, [*arguments, "--json"])
        assert answer.exit_code == 0
        return [json.loads(line) for line in answer.stdout.splitlines()]

    made = "Materialization:text_embeddings@v7[docs]"
    (edge,) = (each for each in told("neighbours", "Asset:text_embeddings", "--direction", "out"))
    assert (edge["from"], edge["edge"], edge["to"]) == ("Asset:text_embeddings", "MATERIALIZED_AS", made)
    assert edge["properties"]["wall_seconds"] == 1.5
    assert {"edges_away": 1, "node": "Asset:text_embeddings"} in told("impact", "Asset:corpus_manifest")
    (way,) = told("path", "Asset:corpus_manifest", made)
    assert way["steps"] == [
        {"edge": "FEEDS", "node": "Asset:text_embeddings"},
        {"edge": "MATERIALIZED_AS", "node": made},
    ]
    (none,) = told("path", "Asset:text_embeddings", "Asset:corpus_manifest")
    assert none == {"from": "Asset:text_embeddings", "to": "Asset:corpus_manifest", "steps": None}
    (counts,) = told("counts")
    assert (counts["nodes"]["Asset"], counts["edges"]["FEEDS"]) == (2, 2)
    (digest,) = told("digest")
    assert len(digest["digest"]) == 64
    (drained,) = told("drain")
    assert (drained["sent"], drained["waiting"], drained["refused"]) == (0, 0, 0)


def test_a_node_that_cannot_be_is_one_sentence(home) -> None:
    answer = aura(home, "impact", "Planet:mars")
    assert answer.returncode == 2
    assert "'Planet:mars' names no node: expected Label:key with a label of Asset" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_server_that_is_down_is_one_sentence(home) -> None:
    answer = aura(home, "counts", AURA_GRAPH__NEO4J="bolt://127.0.0.1:1", AURA_GRAPH__TIMEOUT_SECONDS="2")
    assert answer.returncode == 1
    assert "Neo4j at bolt://127.0.0.1:1 cannot be used" in answer.stderr
    assert "No write waits for it." in answer.stderr
    assert "Traceback" not in answer.stderr
