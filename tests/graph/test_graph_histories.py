"""Whatever is written, both adapters hold the same graph and give the same answers."""

from __future__ import annotations

import pytest
from graph_states import empty
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aura.graph.errors import GraphError
from aura.graph.model import DeleteNode, Edge, EdgeType, Label, Node, NodeId, ReplaceEdges

TYPES = [EdgeType.FEEDS, EdgeType.INFLUENCES]
# Few, so that the same is written again and again; the last three are in another order by UTF-16 than by code point.
IDS = [
    NodeId(Label.ASSET, "a"),
    NodeId(Label.COMPONENT, "a"),
    *(NodeId(Label.ITEM, key) for key in ("a b/c'$`", "\uffee", "🎯")),
]

ids = st.sampled_from(IDS)
values = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
properties = st.dictionaries(st.sampled_from(["n", "m_2", "label", "type"]), values, max_size=3)
nodes = st.builds(Node, ids, properties)
edges = st.builds(Edge, st.sampled_from(TYPES), ids, ids, properties)


@st.composite
def replacements(draw) -> ReplaceEdges:
    """All edges of a type that leave a node."""
    source, kind = draw(ids), draw(st.sampled_from(TYPES))
    targets = draw(st.lists(ids, max_size=4))
    return ReplaceEdges(
        source, kind, tuple(Edge(kind, source, each, draw(properties)) for each in targets), draw(st.booleans())
    )


writes = st.one_of(nodes, edges, edges, edges, st.builds(DeleteNode, ids), replacements())
histories = st.lists(st.lists(writes, min_size=1, max_size=12), min_size=1, max_size=6)


def attempt(graph, batch) -> type[Exception] | None:
    try:
        graph.apply(batch)
    except GraphError as error:
        return type(error)
    return None


@pytest.mark.servers
@pytest.mark.slow
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(history=histories, source=ids, target=ids)
def test_after_each_batch_of_a_random_history_digests_and_answers_are_equal(
    sqlite_graph, neo4j_connected, history, source, target
) -> None:
    both = (sqlite_graph, neo4j_connected)
    for graph in both:
        empty(graph)
        # All nodes are there at first, so that most batches are accepted; some histories delete them.
        graph.apply([Node(each) for each in IDS])
    for batch in history:
        first, second = (attempt(graph, batch) for graph in both)
        assert first is second
        assert sqlite_graph.digest() == neo4j_connected.digest()
    for ask in (
        lambda graph: graph.counts(),
        lambda graph: graph.neighbours(source),
        lambda graph: graph.neighbours(source, "in", limit=2),
        lambda graph: graph.paths(source, target, max_length=4),
        lambda graph: graph.shortest_path(source, target),
        lambda graph: graph.shortest_path(source, target, types=[EdgeType.FEEDS]),
        lambda graph: graph.impact(source),
        lambda graph: graph.impact(source, max_depth=2, types=[EdgeType.INFLUENCES]),
    ):
        assert ask(sqlite_graph) == ask(neo4j_connected)
