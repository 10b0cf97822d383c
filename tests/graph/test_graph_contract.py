"""What a graph store promises, on both adapters."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from aura.graph.errors import GraphError, GraphLimitError, GraphValueError, MissingNodeError
from aura.graph.model import (
    DeleteNode,
    Edge,
    EdgeType,
    GraphCounts,
    Label,
    Node,
    NodeId,
    Path,
    Reached,
    ReplaceEdges,
    Step,
)
from aura.graph.store import MAX_WRITES

FEEDS, CONTAINS, INFLUENCES = EdgeType.FEEDS, EdgeType.CONTAINS, EdgeType.INFLUENCES


def asset(key: str) -> NodeId:
    return NodeId(Label.ASSET, key)


def item(key: str) -> NodeId:
    return NodeId(Label.ITEM, key)


def feeds(source: str, target: str, **properties) -> Edge:
    return Edge(FEEDS, asset(source), asset(target), properties)


def write(graph, edges: str) -> None:
    """Write assets and what feeds what: `ab bc` is a -> b -> c."""
    keys = sorted(set(edges.replace(" ", "")))
    graph.apply([*(Node(asset(key)) for key in keys), *(feeds(a, b) for a, b in edges.split())])


def by_way_of(keys: str) -> Path:
    return Path(asset(keys[0]), tuple(Step(FEEDS, asset(key)) for key in keys[1:]))


def test_a_node_is_read_as_it_was_written_each_value_with_its_type(graph) -> None:
    properties = {"count": 1, "ratio": 1.0, "fresh": True, "name": "Zürich 🎯", "least": -(2**63), "small": 5e-324}
    graph.upsert_nodes([Node(asset("a"), properties)])
    read = graph.node(asset("a"))
    assert read.properties == properties
    assert {name: type(value) for name, value in read.properties.items()} == {
        name: type(value) for name, value in properties.items()
    }
    assert graph.node(asset("b")) is None
    assert graph.node(item("a")) is None


def test_an_upsert_replaces_properties_and_does_not_merge_them(graph) -> None:
    write(graph, "ab")
    for properties in ({"old": 1, "kept": 1}, {"kept": 2}):
        graph.upsert_nodes([Node(asset("a"), properties)])
        graph.upsert_edges([feeds("a", "b", **properties)])
    assert graph.node(asset("a")).properties == {"kept": 2}
    (neighbour,) = graph.neighbours(asset("a"))
    assert neighbour.edge.properties == {"kept": 2}
    assert graph.counts() == GraphCounts({Label.ASSET: 2}, {FEEDS: 1})


def test_the_same_element_twice_in_a_batch_is_as_its_last_write(graph) -> None:
    graph.apply([Node(asset("a"), {"n": 1}), Node(asset("a"), {"n": 2})])
    graph.apply([feeds("a", "a", n=1), feeds("a", "a", n=2)])
    (loop,) = graph.neighbours(asset("a"))
    assert loop.node.properties == loop.edge.properties == {"n": 2}


@pytest.mark.parametrize("end", ["source", "target"])
def test_an_edge_without_an_end_is_refused_by_name_with_its_whole_batch(graph, end: str) -> None:
    graph.upsert_nodes([Node(asset("here"))])
    before = graph.digest()
    ends = ("nowhere", "here") if end == "source" else ("here", "nowhere")
    with pytest.raises(MissingNodeError, match=r"no node Asset:nowhere, which Asset:\w+ -FEEDS-> Asset:\w+ needs"):
        graph.apply([Node(asset("new")), feeds("here", "new"), feeds(*ends)])
    assert graph.digest() == before


def test_an_end_may_be_written_earlier_in_the_batch_but_not_later(graph) -> None:
    graph.apply([Node(asset("a")), Node(asset("b")), feeds("a", "b")])
    with pytest.raises(MissingNodeError, match="Asset:c"):
        graph.apply([feeds("a", "c"), Node(asset("c"))])


def test_a_deleted_node_takes_its_edges_along_and_deleting_again_is_no_error(graph) -> None:
    write(graph, "ab bc ca")
    graph.delete_nodes([asset("b"), asset("never there")])
    graph.delete_nodes([asset("b")])
    assert graph.counts() == GraphCounts({Label.ASSET: 2}, {FEEDS: 1})
    graph.apply([Node(asset("b"))])
    assert graph.neighbours(asset("b")) == []


def test_edges_of_a_type_are_replaced_as_a_whole(graph) -> None:
    write(graph, "ab ac da")
    graph.upsert_edges([Edge(INFLUENCES, asset("a"), asset("b"))])
    graph.apply([ReplaceEdges(asset("a"), FEEDS, (feeds("a", "c", n=1), feeds("a", "d")))])
    found = [
        (each.edge.type, each.node.id.key, dict(each.edge.properties)) for each in graph.neighbours(asset("a"), "out")
    ]
    assert found == [(FEEDS, "c", {"n": 1}), (FEEDS, "d", {}), (INFLUENCES, "b", {})]
    assert graph.shortest_path(asset("d"), asset("a")) == by_way_of("da")


def test_replacing_can_prune_the_targets_that_are_left_alone(graph) -> None:
    source = NodeId(Label.SOURCE, "s")
    kept, shared, alone = item("kept"), item("shared"), item("alone")
    graph.apply([Node(each) for each in (source, kept, shared, alone, asset("other"))])
    contains = [Edge(CONTAINS, source, each) for each in (kept, shared, alone)]
    graph.apply([*contains, Edge(FEEDS, asset("other"), shared)])
    graph.apply([ReplaceEdges(source, CONTAINS, (contains[0],), prune=True)])
    assert [graph.node(each) is not None for each in (kept, shared, alone)] == [True, True, False]
    graph.apply([ReplaceEdges(source, CONTAINS, ())])
    assert graph.node(kept) is not None


def test_replacing_the_edges_of_a_missing_node_is_refused(graph) -> None:
    with pytest.raises(MissingNodeError, match="Asset:a"):
        graph.apply([Node(asset("b")), ReplaceEdges(asset("a"), FEEDS, ())])
    assert graph.node(asset("b")) is None


def test_neighbours_are_told_by_direction_and_type_in_order_up_to_a_limit(graph) -> None:
    write(graph, "ab ca aa ba")
    graph.upsert_edges([Edge(INFLUENCES, asset("a"), asset("c"))])

    def near(*arguments, **named) -> list[str]:
        return [
            f"{each.edge.source.key}{each.edge.target.key}"
            for each in graph.neighbours(asset("a"), *arguments, **named)
        ]

    assert near("out") == ["aa", "ab", "ac"]
    assert near("in") == ["aa", "ba", "ca"]
    assert near() == ["aa", "ab", "ba", "ca", "ac"]
    assert near(types=[INFLUENCES]) == ["ac"]
    assert near(types=[FEEDS], limit=2) == ["aa", "ab"]
    assert graph.neighbours(asset("nobody")) == []


def test_paths_repeat_no_node_and_come_shortest_first(graph) -> None:
    write(graph, "aa ab ba bc cb cd bd dd da")
    assert graph.paths(asset("a"), asset("d")) == [by_way_of("abd"), by_way_of("abcd")]
    assert graph.paths(asset("a"), asset("d"), max_length=2) == [by_way_of("abd")]
    assert graph.paths(asset("a"), asset("d"), limit=1) == [by_way_of("abd")]
    assert graph.paths(asset("a"), asset("a")) == [by_way_of("a")]
    assert graph.paths(asset("a"), asset("nobody")) == graph.paths(asset("nobody"), asset("nobody")) == []


def test_parallel_edges_of_different_types_are_different_paths(graph) -> None:
    write(graph, "ab")
    graph.upsert_edges([Edge(INFLUENCES, asset("a"), asset("b"))])
    assert [[step.type for step in path.steps] for path in graph.paths(asset("a"), asset("b"))] == [
        [FEEDS],
        [INFLUENCES],
    ]
    assert graph.paths(asset("a"), asset("b"), types=[INFLUENCES]) == [
        Path(asset("a"), (Step(INFLUENCES, asset("b")),))
    ]


def test_of_equally_short_paths_the_first_in_order_is_the_shortest_path(graph) -> None:
    write(graph, "as at sx tx xz ay yz za")
    assert graph.shortest_path(asset("a"), asset("x")) == by_way_of("asx")
    assert graph.shortest_path(asset("a"), asset("z")) == by_way_of("ayz")
    assert graph.shortest_path(asset("s"), asset("t")) == by_way_of("sxzat")
    assert graph.shortest_path(asset("s"), asset("t"), max_length=3) is None
    assert graph.shortest_path(asset("s"), asset("s")) == by_way_of("s")
    assert graph.shortest_path(asset("a"), asset("x"), types=[INFLUENCES]) is None
    assert graph.shortest_path(asset("a"), asset("nobody")) is None


def test_a_lattice_with_millions_of_shortest_paths_is_answered_and_listing_them_is_refused(graph) -> None:
    layers = [[f"{layer}-{place}" for place in range(6)] for layer in range(9)]
    graph.upsert_nodes(Node(asset(key)) for layer in layers for key in layer)
    graph.upsert_edges(feeds(a, b) for layer, after in pairwise(layers) for a in layer for b in after)
    path = graph.shortest_path(asset("0-3"), asset("8-4"))
    assert [step.node.key for step in path.steps] == [*(f"{layer}-0" for layer in range(1, 8)), "8-4"]
    with pytest.raises(GraphLimitError, match="more than 10000 paths of up to 8 edges"):
        graph.paths(asset("0-3"), asset("8-4"), max_length=8)
    assert len(graph.impact(asset("0-3"))) == 48


def test_impact_is_everything_downstream_with_its_depth(graph) -> None:
    write(graph, "aa ab bc cd db ae xc")
    graph.upsert_edges([Edge(INFLUENCES, asset("e"), asset("x"))])
    reached = [Reached(asset(key), depth) for key, depth in [("b", 1), ("e", 1), ("c", 2), ("x", 2), ("d", 3)]]
    assert graph.impact(asset("a")) == reached
    assert graph.impact(asset("a"), types=[FEEDS]) == [each for each in reached if each.id.key != "x"]
    assert graph.impact(asset("a"), max_depth=1) == reached[:2]
    assert graph.impact(asset("a"), limit=3) == reached[:3]
    assert graph.impact(asset("nobody")) == []


def test_the_digest_knows_content_not_order(graph) -> None:
    graph.apply([Node(asset("a"), {"n": 1, "m": 2}), Node(item("b"))])
    graph.apply([Edge(FEEDS, asset("a"), item("b"), {"x": True})])
    first = graph.digest()
    graph.delete_nodes([asset("a"), item("b")])
    assert graph.digest() == f"{0:064x}"
    graph.apply([Node(item("b")), Node(asset("a"), {"m": 2, "n": 1}), Edge(FEEDS, asset("a"), item("b"), {"x": True})])
    assert graph.digest() == first
    for change in (Node(asset("a"), {"n": 1.0, "m": 2}), Edge(FEEDS, asset("a"), item("b"), {"x": 1})):
        graph.apply([change])
        assert graph.digest() != first
        graph.apply([Node(asset("a"), {"n": 1, "m": 2}), Edge(FEEDS, asset("a"), item("b"), {"x": True})])
        assert graph.digest() == first


def test_every_element_is_read_back_however_many_there_are(graph) -> None:
    keys = [f"key {number} 🎯" if number % 7 else f"\uffee{number}" for number in range(1203)]
    nodes = [Node(item(key), {"n": number}) for number, key in enumerate(keys)]
    edges = [Edge(FEEDS, item(keys[0]), item(key)) for key in keys[1:]]
    graph.apply([*nodes, *edges])
    read = list(graph.elements())
    assert len(read) == len(nodes) + len(edges)
    assert {each.id: each.properties for each in read if isinstance(each, Node)} == {n.id: n.properties for n in nodes}
    assert {each.target for each in read if isinstance(each, Edge)} == {edge.target for edge in edges}
    near = graph.neighbours(item(keys[0]), limit=300)
    assert [each.node.id.key for each in near] == sorted(keys[1:])[:300]


def test_text_that_could_be_a_query_is_only_text(graph) -> None:
    hostile = "x'}) DETACH DELETE n //\"; DROP TABLE nodes; --`$key /1/ \t\n\0"
    graph.apply([Node(asset(hostile), {"text": hostile}), Node(asset("b")), feeds(hostile, "b", text=hostile)])
    assert graph.node(asset(hostile)).properties == {"text": hostile}
    assert graph.paths(asset(hostile), asset("b")) == [Path(asset(hostile), (Step(FEEDS, asset("b")),))]
    graph.delete_nodes([asset(hostile)])
    assert graph.counts() == GraphCounts({Label.ASSET: 1}, {})


def test_a_batch_too_large_for_one_transaction_is_refused_before_anything_is_written(graph) -> None:
    with pytest.raises(GraphValueError, match=rf"batch of {MAX_WRITES + 1} nodes and edges: expected at most"):
        graph.upsert_nodes(Node(item(str(number))) for number in range(MAX_WRITES + 1))
    graph.apply([])
    assert graph.counts() == GraphCounts({}, {})


@pytest.mark.parametrize("bound", [0, 33, -1])
def test_bounds_outside_their_range_are_refused(graph, bound: int) -> None:
    for ask in (
        lambda: graph.paths(asset("a"), asset("b"), max_length=bound),
        lambda: graph.shortest_path(asset("a"), asset("b"), max_length=bound),
        lambda: graph.impact(asset("a"), max_depth=bound),
    ):
        with pytest.raises(GraphValueError, match=f"of {bound}: expected 1 to 32"):
            ask()


def test_threads_that_write_the_same_edges_at_once_leave_each_once(graph) -> None:
    graph.upsert_nodes(Node(asset(key)) for key in "abcd")
    errors: list[GraphError] = []

    def write_all() -> None:
        try:
            for a in "abcd":
                graph.upsert_edges(feeds(a, b) for b in "dcba")
        except GraphError as error:
            errors.append(error)

    threads = [threading.Thread(target=write_all) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors
    assert graph.counts() == GraphCounts({Label.ASSET: 4}, {FEEDS: 16})


def test_deleting_in_the_middle_of_a_batch_has_its_effect_there(graph) -> None:
    write(graph, "ab")
    graph.apply([feeds("b", "a"), DeleteNode(asset("a")), Node(asset("a")), feeds("b", "a", n=2)])
    assert [dict(each.edge.properties) for each in graph.neighbours(asset("a"))] == [{"n": 2}]
