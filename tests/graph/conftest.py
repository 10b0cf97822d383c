"""The graph on each of its adapters."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from graph_states import empty

from aura.graph.neo4j_graph import Neo4jGraph
from aura.graph.sqlite_graph import SqliteGraph
from aura.graph.store import GraphStore


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch) -> None:
    """A shell that points AURA at servers of its own does not reach the tests."""
    for name in list(os.environ):
        if name.startswith("AURA_") or name == "DAGSTER_HOME":
            monkeypatch.delenv(name)


@pytest.fixture
def sqlite_graph(tmp_path) -> Iterator[SqliteGraph]:
    """An empty graph in a file."""
    with SqliteGraph(tmp_path / "graph" / "graph.db", timeout_seconds=60) as graph:
        yield graph


@pytest.fixture(scope="session")
def neo4j_connected(neo4j) -> Iterator[Neo4jGraph]:
    """The session's Neo4j, whatever is in it."""
    with Neo4jGraph(neo4j.address, timeout_seconds=60) as graph:
        yield graph


@pytest.fixture
def neo4j_graph(neo4j_connected) -> Neo4jGraph:
    """An empty graph on the session's Neo4j."""
    empty(neo4j_connected)
    return neo4j_connected


@pytest.fixture(params=["sqlite_graph", pytest.param("neo4j_graph", marks=pytest.mark.servers)])
def graph(request) -> GraphStore:
    """An empty graph on either adapter."""
    return request.getfixturevalue(request.param)
