"""Where things come from, written to the graph of this deployment."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from aura.graph.model import Write
from aura.graph.opening import open_graph
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
