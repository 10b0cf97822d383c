"""Neo4j behind an outbox and a breaker: writes are kept while it is down, reads say how far it is behind.

Belongs here: the degraded mode of the graph. Does not: Cypher, the outbox and the breaker themselves.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, TypeVar

from aura.graph.errors import GraphError, GraphUnavailableError, GraphValueError, MissingNodeError
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
)
from aura.graph.neo4j_graph import Neo4jGraph
from aura.graph.store import MAX_LENGTH, GraphStatus, GraphStore, check_batch, size_of
from aura.resilience.breaker import CircuitBreaker, CircuitOpenError
from aura.resilience.deadline import Deadline
from aura.resilience.outbox import ItemRefusedError, Outbox, WaitingItem

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

BATCHES = 25
"""Waiting batches that are sent in one call; a batch takes a few queries of some milliseconds each."""

TRANSACTION_WRITES = 2000
"""Nodes and edges of waiting batches that are sent in one transaction, unless one batch alone has more."""

FAILURES = 3
"""A failure against a server that hangs costs its caller the whole time-out, so the breaker opens early."""


class GuardedGraph(GraphStore):
    """A graph on a server that may be down.

    `apply` returns when the writes are on this machine's disk, and sends them at once if the server answers. All
    writes go through the outbox, so they reach the server in the order of the calls, from all processes that share the
    outbox. What waits is sent by the next write or read, or by `drain`. A batch is in the graph exactly once.

    Differences from a graph that is always there: an edge whose end is missing is found out when it is sent; the batch
    is then set aside, logged and counted (`status().refused`), where `apply` would have raised MissingNodeError.
    """

    def __init__(self, inner: Neo4jGraph, outbox: Outbox, breaker: CircuitBreaker, *, timeout_seconds: float) -> None:
        """Put the outbox and the breaker before a server; all of them are closed with this graph.

        Args:
            inner: The server.
            outbox: Keeps what is not sent yet.
            breaker: Counts GraphUnavailableError as its failures.
            timeout_seconds: A write or read that finds a long queue sends it for this long before it goes on.
        """
        self._inner = inner
        self._outbox = outbox
        self._breaker = breaker
        self._timeout = timeout_seconds

    def apply(self, writes: Sequence[Write]) -> None:
        """Accept the writes; see the class.

        Raises:
            GraphValueError: The batch is too large.
            OutboxFullError: The server is down, and as many batches wait as may; nothing was accepted.
            OutboxError: The disk refused.
        """
        check_batch(writes)
        if not writes:
            return
        self._outbox.append([encode(writes)])
        try:
            self.drain(Deadline(self._timeout))
        except CircuitOpenError:
            pass  # the failures that opened the breaker were logged
        except GraphError as error:
            logger.warning("%d writes wait for %s: %s", len(self._outbox), self._inner.status().place, error)

    def drain(self, deadline: Deadline | None = None) -> int:
        """Send what waits, in order; returns the number of batches that were sent.

        Raises:
            CircuitOpenError: The server is not asked at present.
            GraphError: It cannot be reached or refuses; the rest waits on.
            OutboxError: The disk refused.
        """
        return self._outbox.drain_numbered(
            lambda items: self._breaker.call(lambda: self._send(items)), batch=BATCHES, deadline=deadline
        )

    def _send(self, items: Sequence[WaitingItem]) -> None:
        group: list[tuple[int, Sequence[Write]]] = []
        for index, item in enumerate(items):
            try:
                writes = decode(item.item)
            except (ValueError, KeyError, TypeError) as error:
                self._send_group(group, first_index=index - len(group))
                raise ItemRefusedError(index, f"it cannot be read as a batch of writes: {error}") from error
            if group and sum(size_of(each) for _, each in group) + size_of(writes) > TRANSACTION_WRITES:
                self._send_group(group, first_index=index - len(group))
                group = []
            group.append((item.position, writes))
        self._send_group(group, first_index=len(items) - len(group))

    def _send_group(self, group: Sequence[tuple[int, Sequence[Write]]], *, first_index: int) -> None:
        if not group:
            return
        try:
            self._inner.apply_once(self._outbox.identity, group)
        except (MissingNodeError, GraphValueError) as error:
            if len(group) > 1:  # one by one, to find out which batch it is
                for offset, batch in enumerate(group):
                    self._send_group([batch], first_index=first_index + offset)
                return
            logger.warning("A batch of %d writes was refused for good: %s", len(group[0][1]), error)
            raise ItemRefusedError(first_index, str(error)) from error

    def node(self, node_id: NodeId) -> Node | None:
        """The node; see GraphStore."""
        return self._read(lambda: self._inner.node(node_id))

    def neighbours(
        self,
        node_id: NodeId,
        direction: Direction = "both",
        types: Collection[EdgeType] = (),
        limit: int = 1000,
    ) -> list[Neighbour]:
        """The nodes beside a node; see GraphStore."""
        return self._read(lambda: self._inner.neighbours(node_id, direction, types, limit))

    def paths(
        self,
        source: NodeId,
        target: NodeId,
        max_length: int = 6,
        types: Collection[EdgeType] = (),
        limit: int = 100,
    ) -> list[Path]:
        """The simple paths between two nodes; see GraphStore."""
        return self._read(lambda: self._inner.paths(source, target, max_length, types, limit))

    def shortest_path(
        self, source: NodeId, target: NodeId, max_length: int = MAX_LENGTH, types: Collection[EdgeType] = ()
    ) -> Path | None:
        """The first of the shortest paths; see GraphStore."""
        return self._read(lambda: self._inner.shortest_path(source, target, max_length, types))

    def impact(
        self, node_id: NodeId, max_depth: int = MAX_LENGTH, types: Collection[EdgeType] = (), limit: int = 10_000
    ) -> list[Reached]:
        """Everything downstream; see GraphStore."""
        return self._read(lambda: self._inner.impact(node_id, max_depth, types, limit))

    def counts(self) -> GraphCounts:
        """Nodes by label, edges by type; see GraphStore."""
        return self._read(self._inner.counts)

    def elements(self) -> Iterator[Node | Edge]:
        """Every node and edge; see GraphStore."""
        elements = self._inner.elements()
        element = self._read(lambda: next(elements, None))
        while element is not None:
            yield element
            element = self._asked(lambda: next(elements, None))

    def status(self) -> GraphStatus:
        """What waits and whether the server is asked; see GraphStore."""
        return GraphStatus(
            place=self._inner.status().place,
            waiting=len(self._outbox),
            waiting_seconds=self._outbox.oldest_age(),
            refused=len(self._outbox.refused()),
            breaker=self._breaker.reading(),
        )

    def close(self) -> None:
        """Close connections and files; what waits stays on disk."""
        self._inner.close()
        self._outbox.close()

    def _read(self, ask: Callable[[], Result]) -> Result:
        def drain_and_ask() -> Result:
            if len(self._outbox):
                self.drain(Deadline(self._timeout))
            return self._breaker.call(ask)

        result = self._saying_how_far_behind(drain_and_ask)
        if waiting := len(self._outbox):
            logger.warning("What was read from %s is behind by %d writes", self._inner.status().place, waiting)
        return result

    def _asked(self, ask: Callable[[], Result]) -> Result:
        return self._saying_how_far_behind(lambda: self._breaker.call(ask))

    def _saying_how_far_behind(self, ask: Callable[[], Result]) -> Result:
        try:
            return ask()
        except (CircuitOpenError, GraphUnavailableError) as error:
            waiting = len(self._outbox)
            kept = f"{waiting} writes wait for it on this disk" if waiting else "No write waits for it"
            raise GraphUnavailableError(f"{error} {kept}.") from error


def encode(writes: Sequence[Write]) -> bytes:
    """A batch of writes as an item of the outbox."""
    return json.dumps([_plain(write) for write in writes], separators=(",", ":")).encode()


def decode(item: bytes) -> list[Write]:
    """A batch of writes from an item of the outbox.

    Raises:
        ValueError, KeyError or TypeError: It is none.
    """
    return [_write(plain) for plain in json.loads(item)]


def _plain(write: Write) -> dict[str, Any]:
    if isinstance(write, Node):
        return {"node": str(write.id), "properties": dict(write.properties)}
    if isinstance(write, Edge):
        ends = {"source": str(write.source), "target": str(write.target)}
        return {"edge": write.type.value, **ends, "properties": dict(write.properties)}
    if isinstance(write, DeleteNode):
        return {"delete": str(write.id)}
    edges = [_plain(edge) for edge in write.edges]
    return {"replace": write.type.value, "source": str(write.source), "edges": edges, "prune": write.prune}


def _write(plain: dict[str, Any]) -> Write:
    if "node" in plain:
        return Node(NodeId.parse(plain["node"]), plain["properties"])
    if "edge" in plain:
        return _edge(plain)
    if "delete" in plain:
        return DeleteNode(NodeId.parse(plain["delete"]))
    edges = tuple(_edge(edge) for edge in plain["edges"])
    return ReplaceEdges(NodeId.parse(plain["source"]), EdgeType(plain["replace"]), edges, plain["prune"])


def _edge(plain: dict[str, Any]) -> Edge:
    source, target = NodeId.parse(plain["source"]), NodeId.parse(plain["target"])
    return Edge(EdgeType(plain["edge"]), source, target, plain["properties"])
