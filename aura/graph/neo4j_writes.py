"""What is written to Neo4j, in Cypher: idempotent MERGEs, grouped so that a batch takes few queries.

Belongs here: the writing queries and the constraints. Values are parameters; labels and types are members of an
enumeration. Does not: reading, connections.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby

from aura.graph.model import DeleteNode, Edge, EdgeType, Label, Node, NodeId, ReplaceEdges, Write
from aura.graph.neo4j_connection import Query
from aura.graph.store import missing_node

PROGRESS_LABEL = "AuraProgress"
"""Nodes with the last number of each numbered sequence of writes; they are no part of the graph."""


async def create_constraints(query: Query) -> None:
    """A key is unique within its label; made once, and found there ever after."""
    for label in (*(each.value for each in Label), PROGRESS_LABEL):
        await query(f"CREATE CONSTRAINT aura_{label.lower()} IF NOT EXISTS FOR (n:{label}) REQUIRE n.key IS UNIQUE")


async def write_once(query: Query, origin: str, batches: Sequence[tuple[int, Sequence[Write]]]) -> None:
    """Make the batches behind the last number of their origin, and keep the new last number."""
    # Setting a property takes the lock that makes this wait for a transaction whose caller gave up on it.
    ((done,),) = await query(
        f"MERGE (n:{PROGRESS_LABEL} {{key: $origin}}) SET n.asked = coalesce(n.asked, 0) + 1 "
        "RETURN coalesce(n.position, 0)",
        origin=origin,
    )
    new = [(number, writes) for number, writes in batches if number > done]
    if new:
        await write_all(query, [write for _, writes in new for write in writes])
        await query(
            f"MATCH (n:{PROGRESS_LABEL} {{key: $origin}}) SET n.position = $position",
            origin=origin,
            position=new[-1][0],
        )


async def write_all(query: Query, writes: Sequence[Write]) -> None:
    """Make writes in order; a run of the same kind is made at once.

    Raises:
        MissingNodeError: An edge's end is not there.
    """
    for kind, run in groupby(writes, key=type):
        if kind is Node:
            await _write_nodes(query, [write for write in run if isinstance(write, Node)])
        elif kind is Edge:
            await _write_edges(query, [write for write in run if isinstance(write, Edge)])
        elif kind is DeleteNode:
            await _delete_nodes(query, [write.id for write in run if isinstance(write, DeleteNode)])
        else:
            for write in run:
                if isinstance(write, ReplaceEdges):
                    await _replace_edges(query, write)


async def _write_nodes(query: Query, nodes: Sequence[Node]) -> None:
    last = {node.id: node for node in nodes}
    by_label: dict[Label, list[Node]] = defaultdict(list)
    for node in last.values():
        by_label[node.id.label].append(node)
    for label, group in by_label.items():
        await query(
            f"UNWIND $rows AS row MERGE (n:{label.value} {{key: row.key}}) SET n = row",
            rows=[{**node.properties, "key": node.id.key} for node in group],
        )


async def _write_edges(query: Query, edges: Sequence[Edge]) -> None:
    last = {(edge.type, edge.source, edge.target): edge for edge in edges}
    groups: dict[tuple[EdgeType, Label, Label], list[Edge]] = defaultdict(list)
    for edge in last.values():
        groups[edge.type, edge.source.label, edge.target.label].append(edge)
    for (kind, source, target), group in groups.items():
        ((written,),) = await query(
            f"UNWIND $rows AS row MATCH (a:{source.value} {{key: row.source}}) "
            f"MATCH (b:{target.value} {{key: row.target}}) "
            f"MERGE (a)-[r:{kind.value}]->(b) SET r = row.properties RETURN count(*)",
            rows=[
                {"source": edge.source.key, "target": edge.target.key, "properties": dict(edge.properties)}
                for edge in group
            ],
        )
        if written < len(group):
            await _refuse_missing(query, group)


async def _refuse_missing(query: Query, edges: Sequence[Edge]) -> None:
    for edge in edges:
        for end in (edge.source, edge.target):
            if not await _exists(query, end):
                raise missing_node(end, edge)


async def _exists(query: Query, node_id: NodeId) -> bool:
    return bool(await query(f"MATCH (n:{node_id.label.value} {{key: $key}}) RETURN 1", key=node_id.key))


async def _delete_nodes(query: Query, ids: Sequence[NodeId]) -> None:
    by_label: dict[Label, list[str]] = defaultdict(list)
    for node_id in ids:
        by_label[node_id.label].append(node_id.key)
    for label, keys in by_label.items():
        await query(f"UNWIND $keys AS key MATCH (n:{label.value} {{key: key}}) DETACH DELETE n", keys=keys)


async def _replace_edges(query: Query, write: ReplaceEdges) -> None:
    if not await _exists(query, write.source):
        raise missing_node(write.source, write)
    former = await query(
        f"MATCH (:{write.source.label.value} {{key: $key}})-[r:{write.type.value}]->(b) "
        "WITH r, elementId(b) AS id DELETE r RETURN id",
        key=write.source.key,
    )
    await _write_edges(query, write.edges)
    if write.prune:
        await query(
            "UNWIND $ids AS id MATCH (n) WHERE elementId(n) = id AND NOT (n)--() DELETE n",
            ids=[row[0] for row in former],
        )
