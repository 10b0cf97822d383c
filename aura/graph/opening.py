"""Opens the graph that the settings name.

Belongs here: the choice of the adapter. Does not: the adapters.
"""

from __future__ import annotations

import functools

from aura.graph.errors import GraphUnavailableError
from aura.graph.guarded_graph import FAILURES, GuardedGraph
from aura.graph.neo4j_graph import Neo4jGraph
from aura.graph.sqlite_graph import SqliteGraph
from aura.graph.store import GraphStore
from aura.resilience.breaker import CircuitBreaker
from aura.resilience.outbox import Outbox
from aura.settings import Settings


def open_graph(settings: Settings) -> GraphStore:
    """Neo4j behind its outbox where one is configured, else the file under the home.

    A configured server is not asked: one that is down is no reason not to open.

    Raises:
        GraphUnavailableError: The file cannot be opened, or the driver is not installed.
        OutboxError: The outbox cannot be opened.
    """
    graph = settings.graph
    if graph.neo4j is None:
        return SqliteGraph(settings.graph_file, graph.timeout_seconds)
    server = Neo4jGraph(
        graph.neo4j,
        user=graph.neo4j_user,
        password=graph.neo4j_password.get_secret_value() if graph.neo4j_password else None,
        timeout_seconds=graph.timeout_seconds,
    )
    outbox = Outbox(settings.graph_outbox_file, graph.outbox_limit)
    return GuardedGraph(server, outbox, _breaker(graph.neo4j), timeout_seconds=graph.timeout_seconds)


@functools.cache
def _breaker(address: str) -> CircuitBreaker:
    """One for all graphs of this process: what one has learned of the server saves the next its time-out."""
    return CircuitBreaker(f"Neo4j at {address}", failures=FAILURES, on=(GraphUnavailableError,))
