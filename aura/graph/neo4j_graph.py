"""The graph in Neo4j (5.26).

Belongs here: what the operations are in Cypher. Values are parameters always; only labels and types, which are members
of an enumeration, and numbers that were checked become part of a query's text. Does not: time-outs and errors (see
`aura.graph.neo4j_connection`), the writing side (`aura.graph.neo4j_writes`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from typing import Any, Literal, TypeVar

from aura.graph.errors import GraphError
from aura.graph.model import (
    Direction,
    Edge,
    EdgeType,
    GraphCounts,
    Label,
    Neighbour,
    Node,
    NodeId,
    Path,
    Reached,
    Step,
    Write,
)
from aura.graph.neo4j_connection import Neo4jConnection, Query
from aura.graph.neo4j_writes import create_constraints, write_all, write_once
from aura.graph.store import (
    MAX_LENGTH,
    MAX_PATHS,
    GraphStatus,
    GraphStore,
    check_batch,
    check_length,
    check_limit,
    too_many_paths,
)

Result = TypeVar("Result")

PAGE_NODES = 500
"""Nodes that are read in one call, with their outgoing edges, when all are read."""


def node_pattern(name: str, label: Label, key: str) -> str:
    """`(n:Label {key: $key})`."""
    return f"({name}:{label.value} {{key: ${key}}})"


def any_of(types: Collection[EdgeType]) -> str:
    """`A|B`: these types, or all when there are none."""
    return "|".join(sorted(each.value for each in types or EdgeType))


class Neo4jGraph(GraphStore):
    """A graph on a server. Opening asks nothing of it; the constraints are made before the first call."""

    def __init__(
        self,
        address: str,
        *,
        user: str | None = None,
        password: str | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        """Prepare the connection; arguments and errors as Neo4jConnection."""
        self._connection = Neo4jConnection(address, user=user, password=password, timeout_seconds=timeout_seconds)
        self._prepared = False

    def apply(self, writes: Sequence[Write]) -> None:
        """Make all writes in one transaction; see GraphStore."""
        check_batch(writes)
        if writes:
            self._run("write", lambda query: write_all(query, writes))

    def apply_once(self, origin: str, batches: Sequence[tuple[int, Sequence[Write]]]) -> None:
        """Make the batches of a numbered sequence that were not made before, in one transaction.

        The last number is kept in the graph with the writes' effect. So a batch whose transaction was committed without
        the reply arriving is passed over when it comes again, even where repeating it would have another effect (an
        edge, and in a later batch the deletion of its end).

        Args:
            origin: Name of the sequence.
            batches: Number, increasing, and writes.

        Raises:
            MissingNodeError: An edge's end is not there at its turn; nothing was written.
            GraphUnavailableError: The server cannot be reached, or took too long.
        """
        self._run("write", lambda query: write_once(query, origin, batches))

    def node(self, node_id: NodeId) -> Node | None:
        """The node; see GraphStore."""
        text = f"MATCH {node_pattern('n', node_id.label, 'key')} RETURN properties(n)"
        rows = self._read(text, key=node_id.key)
        return _node(node_id.label, rows[0][0]) if rows else None

    def neighbours(
        self,
        node_id: NodeId,
        direction: Direction = "both",
        types: Collection[EdgeType] = (),
        limit: int = 1000,
    ) -> list[Neighbour]:
        """The nodes beside a node; see GraphStore."""
        check_limit(limit)
        here, edge = node_pattern("a", node_id.label, "key"), f"[e:{any_of(types)}]"
        answer = (
            "RETURN type(e) AS type, properties(e), labels(b)[0] AS label, properties(b) "
            "ORDER BY type, label, b.key LIMIT $limit"
        )
        found: list[tuple[int, Neighbour]] = []
        if direction != "in":
            for kind, properties, label, other in self._read(
                f"MATCH {here}-{edge}->(b) {answer}", key=node_id.key, limit=limit
            ):
                node = _node(label, other)
                found.append((0, Neighbour(Edge(kind, node_id, node.id, properties), node)))
        if direction != "out":
            loops = "" if direction == "in" else "WHERE b <> a"  # a loop was found as an outgoing edge
            for kind, properties, label, other in self._read(
                f"MATCH {here}<-{edge}-(b) {loops} {answer}", key=node_id.key, limit=limit
            ):
                node = _node(label, other)
                found.append((1, Neighbour(Edge(kind, node.id, node_id, properties), node)))
        found.sort(key=lambda each: (each[1].edge.type, each[1].node.id, each[0]))
        return [neighbour for _, neighbour in found[:limit]]

    def paths(
        self,
        source: NodeId,
        target: NodeId,
        max_length: int = 6,
        types: Collection[EdgeType] = (),
        limit: int = 100,
    ) -> list[Path]:
        """The simple paths between two nodes; see GraphStore."""
        check_length(max_length)
        check_limit(limit)
        if source == target:
            return [Path(source)] if self.node(source) else []
        rows = self._read(
            f"MATCH p = {node_pattern('a', source.label, 'source')}-[:{any_of(types)}*1..{max_length}]->"
            f"{node_pattern('b', target.label, 'target')} "
            "WHERE all(n IN nodes(p) WHERE single(m IN nodes(p) WHERE m = n)) "
            "RETURN [r IN relationships(p) | type(r)], [n IN tail(nodes(p)) | [labels(n)[0], n.key]] LIMIT $most",
            source=source.key,
            target=target.key,
            most=MAX_PATHS + 1,
        )
        if len(rows) > MAX_PATHS:
            raise too_many_paths(source, target, max_length)
        found = [
            Path(source, tuple(_step(kind, *node) for kind, node in zip(kinds, nodes, strict=True)))
            for kinds, nodes in rows
        ]
        return sorted(found, key=lambda path: path.order)[:limit]

    def shortest_path(
        self, source: NodeId, target: NodeId, max_length: int = MAX_LENGTH, types: Collection[EdgeType] = ()
    ) -> Path | None:
        """The first of the shortest paths; see GraphStore.

        There may be exponentially many shortest ones, so the first is walked to: at each node the first edge behind
        which the target is one edge nearer.
        """
        check_length(max_length)
        if source == target:
            return Path(source) if self.node(source) else None
        end = node_pattern("b", target.label, "target")

        async def walk(query: Query) -> Path | None:
            rows = await query(
                f"MATCH {node_pattern('a', source.label, 'source')} MATCH {end} "
                f"MATCH p = shortestPath((a)-[:{any_of(types)}*1..{max_length}]->(b)) RETURN length(p)",
                source=source.key,
                target=target.key,
            )
            if not rows:
                return None
            steps: list[Step] = []
            here = source
            for left in range(rows[0][0], 0, -1):
                onward = "n = b"
                if left > 1:
                    onward = (
                        "n <> b AND n <> a AND EXISTS { MATCH p = "
                        f"shortestPath((n)-[:{any_of(types)}*1..{left - 1}]->(b)) WHERE length(p) = {left - 1} }}"
                    )
                answers = await query(
                    f"MATCH {node_pattern('a', here.label, 'here')}-[e:{any_of(types)}]->(n) MATCH {end} "
                    f"WHERE {onward} RETURN type(e), labels(n)[0], n.key",
                    here=here.key,
                    target=target.key,
                )
                if not answers:
                    raise GraphError(f"The graph between {source} and {target} changed while it was read. Ask again.")
                steps.append(min(_step(*answer) for answer in answers))
                here = steps[-1].node
            return Path(source, tuple(steps))

        return self._run("read", walk)

    def impact(
        self, node_id: NodeId, max_depth: int = MAX_LENGTH, types: Collection[EdgeType] = (), limit: int = 10_000
    ) -> list[Reached]:
        """Everything downstream; see GraphStore."""
        check_length(max_depth)
        check_limit(limit)
        rows = self._read(
            f"MATCH p = {node_pattern('a', node_id.label, 'key')}-[:{any_of(types)}*1..{max_depth}]->(b) WHERE b <> a "
            "WITH b, min(length(p)) AS depth "
            "RETURN labels(b)[0] AS label, b.key AS key, depth ORDER BY depth, label, key LIMIT $limit",
            key=node_id.key,
            limit=limit,
        )
        return [Reached(NodeId(label, key), depth) for label, key, depth in rows]

    def counts(self) -> GraphCounts:
        """Nodes by label, edges by type; see GraphStore."""
        nodes = ", ".join(f"COUNT {{ (:{each.value}) }}" for each in Label)
        edges = ", ".join(f"COUNT {{ ()-[:{each.value}]->() }}" for each in EdgeType)
        (row,) = self._read(f"RETURN [{nodes}], [{edges}]")
        return GraphCounts(
            {label: number for label, number in zip(Label, row[0], strict=True) if number},
            {kind: number for kind, number in zip(EdgeType, row[1], strict=True) if number},
        )

    def elements(self) -> Iterator[Node | Edge]:
        """Every node and edge, in pages; see GraphStore."""
        for label in Label:
            after = ""  # no key is empty
            while rows := self._read(
                f"MATCH (a:{label.value}) WHERE a.key > $after "
                "WITH a ORDER BY a.key LIMIT $page "
                f"RETURN properties(a), COLLECT {{ MATCH (a)-[e:{any_of(())}]->(b) "
                "RETURN [type(e), labels(b)[0], b.key, properties(e)] }",
                after=after,
                page=PAGE_NODES,
            ):
                for properties, edges in rows:
                    node = _node(label, properties)
                    yield node
                    for kind, to_label, to_key, edge_properties in edges:
                        yield Edge(kind, node.id, NodeId(to_label, to_key), edge_properties)
                    after = max(after, node.id.key)

    def status(self) -> GraphStatus:
        """Nothing waits here; see GraphStore."""
        return GraphStatus(place=f"Neo4j at {self._connection.address}")

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def _read(self, text: str, **parameters: Any) -> list[list[Any]]:  # noqa: ANN401  what Bolt can carry
        return self._run("read", lambda query: query(text, **parameters))

    def _run(self, mode: Literal["read", "write"], work: Callable[[Query], Awaitable[Result]]) -> Result:
        # Threads that come here together make the constraints twice, which is harmless; waiting for one that does not
        # get an answer would add up their time-outs.
        if not self._prepared:
            self._connection.run("write", create_constraints)
            self._prepared = True
        return self._connection.run(mode, work)


def _node(label: str, properties: dict[str, Any]) -> Node:
    key = properties.pop("key")
    return Node(NodeId(Label(label), key), properties)


def _step(kind: str, label: str, key: str) -> Step:
    return Step(EdgeType(kind), NodeId(Label(label), key))
