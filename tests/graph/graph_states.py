"""States of a graph that tests begin from, and histories that they write."""

from __future__ import annotations

import random
from collections.abc import Iterator

from aura.graph.model import DeleteNode, Edge, EdgeType, Label, Node, NodeId, ReplaceEdges, Write
from aura.graph.store import GraphStore


def empty(graph: GraphStore) -> None:
    """Remove everything."""
    graph.delete_nodes([each.id for each in graph.elements() if isinstance(each, Node)])


def batches(count: int, seed: int) -> Iterator[list[Write]]:
    """Batches of writes whose effect depends on their order, and of which none is refused.

    Every third deletes a node whose edges an earlier one wrote: sent a second time, such a pair is no longer harmless.
    """
    chance = random.Random(seed)
    keys = [NodeId(Label.COMPONENT, f"c{number}") for number in range(12)]
    for number in range(count):
        a, b, c = chance.sample(keys, 3)
        nodes: list[Write] = [Node(each, {"batch": number}) for each in (a, b, c)]
        edges = [Edge(EdgeType.INFLUENCES, a, each, {"batch": number}) for each in (b, c)]
        if number % 3 == 0:
            yield [*nodes, *edges]
        elif number % 3 == 1:
            yield [*nodes, ReplaceEdges(a, EdgeType.INFLUENCES, tuple(edges[:1]), prune=True)]
        else:
            yield [DeleteNode(a)]
