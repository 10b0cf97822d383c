"""Lineage told in the domain's words: once or twice, small or large, it is the same graph."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from aura.graph.errors import GraphValueError
from aura.graph.lineage import (
    MAX_INPUTS,
    MAX_ITEMS,
    MAX_OBJECTS,
    StoredSize,
    Version,
    asset_node,
    decided,
    materialization_node,
    materialized,
    model_experts,
    placed,
    source_items,
    source_node,
    tier_node,
)
from aura.graph.model import EdgeType, Label
from aura.graph.store import MAX_WRITES, size_of

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
MANIFEST, EMBEDDINGS = Version("corpus_manifest", "docs", "v1"), Version("text_embeddings", "docs", "v7")
TIERS = ("L1", "L2", "L3")


def made(**changes):
    told = {"inputs": [MANIFEST], "run_id": "run-1", "at": AT, "cost": {"wall_seconds": 1.5}, "source": "docs"}
    return materialized(EMBEDDINGS, **(told | changes))


def out(graph, node, kind) -> dict[str, dict]:
    return {each.node.id.key: dict(each.edge.properties) for each in graph.neighbours(node.id, "out", [kind])}


def test_a_materialization_leads_back_to_its_inputs_and_tells_its_run_time_and_cost(graph) -> None:
    graph.apply(made())
    assert out(graph, asset_node("text_embeddings"), EdgeType.MATERIALIZED_AS) == {
        "text_embeddings@v7[docs]": {"run_id": "run-1", "at": "2026-03-01T12:00:00+00:00", "wall_seconds": 1.5}
    }
    assert list(out(graph, materialization_node(MANIFEST), EdgeType.FEEDS)) == ["text_embeddings@v7[docs]"]
    assert [str(each.id) for each in graph.impact(asset_node("corpus_manifest").id)] == [
        "Asset:text_embeddings",
        "Materialization:text_embeddings@v7[docs]",
    ]


def test_every_fact_told_twice_is_the_graph_it_was_told_once(graph) -> None:
    facts = [
        made(),
        source_items("docs", [("a.txt", "x"), ("b.txt", "y")]),
        model_experts(Version("expert_model", None, "v2"), 4),
        placed([StoredSize("values/a", "L1", 10), StoredSize("values/b", "L3", 20)], TIERS),
        decided("d-1", about=asset_node("text_embeddings"), outcome="recompute", reason="the model drifted", at=AT),
    ]
    for fact in facts:
        graph.apply(fact)
    once = graph.digest()
    for fact in facts:
        graph.apply(fact)
    assert graph.digest() == once


def test_naming_an_input_does_not_wipe_what_is_known_of_it(graph) -> None:
    graph.apply(materialized(MANIFEST, inputs=[], run_id="run-0", at=AT, cost={"wall_seconds": 9.0}))
    graph.apply(made())
    known = out(graph, asset_node("corpus_manifest"), EdgeType.MATERIALIZED_AS)["corpus_manifest@v1[docs]"]
    assert known["run_id"] == "run-0"
    assert graph.node(materialization_node(MANIFEST).id).properties == {
        "asset": "corpus_manifest",
        "partition": "docs",
        "version": "v1",
    }


def test_the_same_content_made_again_tells_its_last_run(graph) -> None:
    graph.apply(made())
    graph.apply(made(run_id="run-2", cost={}))
    (facts,) = out(graph, asset_node("text_embeddings"), EdgeType.MATERIALIZED_AS).values()
    assert facts == {"run_id": "run-2", "at": "2026-03-01T12:00:00+00:00"}


def test_very_many_inputs_are_told_by_asset(graph) -> None:
    inputs = [Version("part", str(number), "v") for number in range(MAX_INPUTS + 1)]
    graph.apply(made(inputs=inputs[:-1]))
    assert graph.counts().nodes[Label.MATERIALIZATION] == MAX_INPUTS + 1
    fewer = made(inputs=inputs)
    assert size_of(fewer) < 10
    assert size_of(made(inputs=inputs[:-1])) <= MAX_WRITES


def test_items_that_a_source_lost_are_gone_unless_something_else_knows_them(graph) -> None:
    graph.apply(source_items("docs", [("a", "x"), ("b", "x")]))
    graph.apply(source_items("docs", [("b", "y")]))
    assert out(graph, source_node("docs"), EdgeType.CONTAINS) == {"docs/b": {"label": "y"}}
    assert graph.counts().nodes == {Label.SOURCE: 1, Label.ITEM: 1}


def test_a_source_with_very_many_items_is_told_by_label(graph) -> None:
    items = [(f"item {number}", f"label {number % 3}") for number in range(MAX_ITEMS + 1)]
    graph.apply(source_items("docs", items[:-1]))
    assert graph.counts().nodes[Label.ITEM] == MAX_ITEMS
    graph.apply(source_items("docs", items))
    counts = graph.counts().nodes
    assert Label.ITEM not in counts
    assert counts[Label.ITEM_GROUP] == 3
    told = out(graph, source_node("docs"), EdgeType.CONTAINS).values()
    assert sum(each["items"] for each in told) == len(items)


def test_a_source_with_very_many_labels_has_one_group_for_the_rarest(graph) -> None:
    items = [(str(number), f"label {number}") for number in range(MAX_ITEMS + 50)] + [("one more", "label 1049")]
    writes = source_items("docs", items)
    assert size_of(writes) <= MAX_WRITES
    graph.apply(writes)
    told = out(graph, source_node("docs"), EdgeType.CONTAINS)
    assert len(told) == MAX_ITEMS
    assert told["docs"] == {"labels": 51, "items": 51}
    assert told["docs/label 1049"]["items"] == 2
    assert sum(each["items"] for each in told.values()) == len(items)


def test_an_object_that_moves_is_on_one_tier(graph) -> None:
    for tier in ("L3", "L1", "L2", "L3"):
        graph.apply(placed([StoredSize("values/a", tier, 10)], TIERS))
        assert [key for key in TIERS if out(graph, tier_node(key), EdgeType.HOLDS)] == [tier]
    graph.apply(placed([], TIERS))
    assert graph.counts().nodes == {Label.TIER: 3}


def test_very_many_objects_are_told_by_the_beginning_of_their_keys(graph) -> None:
    objects = [StoredSize(f"values/{n % 7}/part/{n:06d}", "L3", 2) for n in range(3 * MAX_OBJECTS)]
    writes = placed([*objects, StoredSize("values/hot", "L1", 5)], TIERS)
    assert size_of(writes) < 50
    graph.apply(writes)
    told = out(graph, tier_node("L3"), EdgeType.HOLDS)
    assert sorted(told) == [f"values/{number}/part/" for number in range(7)]
    assert sum(each["objects"] for each in told.values()) == len(objects)
    assert sum(each["bytes"] for each in told.values()) == 2 * len(objects)
    assert out(graph, tier_node("L1"), EdgeType.HOLDS) == {"values/hot": {"objects": 1, "bytes": 5}}


def test_the_largest_placement_fits_into_a_batch(graph) -> None:
    objects = [StoredSize(f"{n}", tier, 1) for tier in ("L0", *TIERS) for n in range(MAX_OBJECTS)]
    graph.apply(placed(objects, ("L0", *TIERS)))
    flat = placed([StoredSize(f"{n}", "L1", 1) for n in range(MAX_OBJECTS + 1)], TIERS)
    graph.apply(flat)
    assert out(graph, tier_node("L1"), EdgeType.HOLDS) == {"/": {"objects": MAX_OBJECTS + 1, "bytes": MAX_OBJECTS + 1}}


def test_an_object_on_a_tier_that_was_not_named_is_refused() -> None:
    with pytest.raises(GraphValueError, match="values/a is on tier 'L9': expected one of L1, L2, L3"):
        placed([StoredSize("values/a", "L9", 1)], TIERS)


def test_names_that_are_no_text_or_too_long_still_have_nodes_of_their_own(graph) -> None:
    odd = ["long" * 400, "long" * 400 + "er", "bytes\udcff", "bytes\udcfe"]
    graph.apply(source_items("docs", [(name, name) for name in odd]))
    assert graph.counts().nodes[Label.ITEM] == len(odd)


def test_names_with_the_characters_between_them_are_not_mixed_up() -> None:
    versions = [
        Version("a", "b]@c", "v"),
        Version("a@v[b]", None, "c"),
        Version("a", None, "v[b"),
        Version("a", "b", "v"),
    ]
    assert len({materialization_node(each).id for each in versions}) == len(versions)


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(GraphValueError, match="no time zone"):
        made(at=datetime(2026, 3, 1))  # noqa: DTZ001
