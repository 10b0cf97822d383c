"""Where things come from, written to the graph of this deployment."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from aura.graph.guarded_graph import GuardedGraph
from aura.graph.model import Write
from aura.graph.opening import open_graph
from aura.resilience.deadline import Deadline
from aura.settings import Settings


@dataclass(frozen=True)
class Lineage:
    """Opens the graph when there is something to write: a run must not fail because a server is down."""

    settings: Settings

    def record(self, writes: Sequence[Write]) -> None:
        """Write facts, all or none; with Neo4j configured they wait on disk while it is down.

        Raises:
            GraphError: The graph refuses them, or the embedded one cannot be written.
            OutboxError: They cannot be kept until Neo4j is back.
        """
        with closing(open_graph(self.settings)) as graph:
            graph.apply(writes)

    def send_waiting(self, seconds: float) -> int:
        """Send what waits for Neo4j, for at most this long; returns the number of batches that still wait.

        Raises:
            GraphError: The graph does not answer.
            OutboxError: The outbox cannot be read.
        """
        with closing(open_graph(self.settings)) as graph:
            if isinstance(graph, GuardedGraph) and graph.status().waiting:
                graph.drain(Deadline(seconds))
            return graph.status().waiting
