"""The port: what a graph store can do, in typed operations.

Belongs here: the operations and what they mean on every adapter. Does not: SQL or Cypher.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from aura.graph.errors import GraphLimitError, GraphValueError, MissingNodeError
from aura.graph.model import (
    DeleteNode,
    Direction,
    Edge,
    EdgeType,
    GraphCounts,
    Neighbour,
    Node,
    NodeId,
    Path,
    Reached,
    ReplaceEdges,
    Write,
    fingerprint,
)
from aura.resilience.breaker import BreakerReading

MAX_WRITES = 10_000
"""Nodes and edges in one batch: it is one transaction, and one item of the outbox."""

MAX_PATHS = 10_000
"""Paths that are looked at before the best are chosen; their number can grow exponentially with their length."""

MAX_LENGTH = 32
"""Longest path, and greatest depth, that can be asked for."""


@dataclass(frozen=True)
class GraphStatus:
    """Whether what is read is all that was written.

    Attributes:
        place: Where the graph is, as a person reads it.
        waiting: Batches that were accepted and are not in the graph yet.
        waiting_seconds: How long the oldest of them has waited; None when none waits.
        refused: Batches that the graph refused for good after they had been accepted.
        breaker: The breaker in front of the server; None where there is no server.
    """

    place: str
    waiting: int = 0
    waiting_seconds: float | None = None
    refused: int = 0
    breaker: BreakerReading | None = None


class GraphStore(ABC):
    """A directed graph of labelled nodes and typed edges with properties.

    A node is known by label and key, an edge by type, source and target. Self-loops and cycles are allowed. Writing the
    same twice changes nothing. Each call ends within the time-out that the store was opened with, and then raises
    GraphUnavailableError. Safe to share between threads, not across a fork.
    """

    @abstractmethod
    def apply(self, writes: Sequence[Write]) -> None:
        """Make all writes in order, or none.

        Raises:
            MissingNodeError: An edge's end is not there at its turn; the error names it.
            GraphValueError: More than MAX_WRITES nodes and edges.
            GraphUnavailableError: The store cannot be reached, or took too long.
        """

    def upsert_nodes(self, nodes: Iterable[Node]) -> None:
        """Write nodes; the properties of one that exists are replaced, not merged. Errors as `apply`."""
        self.apply(tuple(nodes))

    def upsert_edges(self, edges: Iterable[Edge]) -> None:
        """Write edges; the properties of one that exists are replaced, not merged. Errors as `apply`."""
        self.apply(tuple(edges))

    def delete_nodes(self, ids: Iterable[NodeId]) -> None:
        """Remove nodes with all their edges; those that are not there are passed over. Errors as `apply`."""
        self.apply(tuple(DeleteNode(each) for each in ids))

    @abstractmethod
    def node(self, node_id: NodeId) -> Node | None:
        """The node, or None."""

    @abstractmethod
    def neighbours(
        self,
        node_id: NodeId,
        direction: Direction = "both",
        types: Collection[EdgeType] = (),
        limit: int = 1000,
    ) -> list[Neighbour]:
        """The nodes beside a node, one for each edge, ordered by type, neighbour, and outgoing first.

        A node with a self-loop is its own neighbour once. A node that is not there has no neighbours.

        Args:
            node_id: The node.
            direction: Along outgoing edges, incoming ones or both.
            types: The edges that count; empty: all.
            limit: The largest number.
        """

    @abstractmethod
    def paths(
        self,
        source: NodeId,
        target: NodeId,
        max_length: int = 6,
        types: Collection[EdgeType] = (),
        limit: int = 100,
    ) -> list[Path]:
        """The simple paths (no node twice) from one node to another along the edges, shortest first.

        Paths over the same nodes with different types of edges are different. From a node to itself there is one path,
        without edges. Where an end is not there, there is none.

        Args:
            source: Where the paths begin.
            target: Where they end.
            max_length: The largest number of edges, at most MAX_LENGTH.
            types: The edges that count; empty: all.
            limit: The largest number of paths.

        Raises:
            GraphLimitError: There are more than MAX_PATHS of them: ask for shorter ones or fewer types.
        """

    @abstractmethod
    def shortest_path(
        self, source: NodeId, target: NodeId, max_length: int = MAX_LENGTH, types: Collection[EdgeType] = ()
    ) -> Path | None:
        """The first of the shortest paths in the order of `paths`; None where there is none. Arguments as `paths`."""

    @abstractmethod
    def impact(
        self, node_id: NodeId, max_depth: int = MAX_LENGTH, types: Collection[EdgeType] = (), limit: int = 10_000
    ) -> list[Reached]:
        """Everything that can be reached along the edges, nearest first, then by id; the node itself is left out.

        Args:
            node_id: Where the effect begins.
            max_depth: The largest number of edges, at most MAX_LENGTH.
            types: The edges that count; empty: all.
            limit: The largest number of nodes.
        """

    @abstractmethod
    def counts(self) -> GraphCounts:
        """The number of nodes by label and of edges by type."""

    @abstractmethod
    def elements(self) -> Iterator[Node | Edge]:
        """Every node, then every edge, in no particular order; written to meanwhile, it may mix old and new."""

    def digest(self) -> str:
        """64 hexadecimal digits that are equal for equal graphs, on every adapter, in whatever order it was written."""
        return f"{sum(map(fingerprint, self.elements())) % 2**256:064x}"

    @abstractmethod
    def status(self) -> GraphStatus:
        """Whether all that was written can be read; asks no server."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections; writes that wait stay on disk."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_batch(writes: Sequence[Write]) -> None:
    """See that a batch is small enough for one transaction.

    Raises:
        GraphValueError: It is not.
    """
    size = size_of(writes)
    if size > MAX_WRITES:
        raise GraphValueError(f"a batch of {size} nodes and edges: expected at most {MAX_WRITES}; write it in parts")


def size_of(writes: Sequence[Write]) -> int:
    """Nodes and edges that are written."""
    return sum(len(getattr(write, "edges", ())) + 1 for write in writes)


def check_length(length: int) -> None:
    """See that a length or depth can be asked for.

    Raises:
        GraphValueError: It cannot.
    """
    if not 1 <= length <= MAX_LENGTH:
        raise GraphValueError(f"a length or depth of {length}: expected 1 to {MAX_LENGTH}")


def check_limit(limit: int) -> None:
    """See that an answer may have something in it.

    Raises:
        GraphValueError: It may not.
    """
    if limit < 1:
        raise GraphValueError(f"a limit of {limit}: expected at least 1")


def missing_node(node_id: NodeId, wanted_by: Edge | ReplaceEdges) -> MissingNodeError:
    """The error for an edge without an end."""
    what = wanted_by if isinstance(wanted_by, Edge) else f"the {wanted_by.type} edges of {wanted_by.source}"
    return MissingNodeError(
        f"There is no node {node_id}, which {what} needs. Write the node before, or in the same batch."
    )


def too_many_paths(source: NodeId, target: NodeId, max_length: int) -> GraphLimitError:
    """The error for a question with too large an answer."""
    return GraphLimitError(
        f"There are more than {MAX_PATHS} paths of up to {max_length} edges from {source} to {target}. "
        "Ask for shorter ones, or for fewer types of edges."
    )
