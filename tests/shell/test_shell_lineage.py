"""The graph says what every value was made from, by which run and at which cost, and where its objects are."""

from __future__ import annotations

import dataclasses
from contextlib import closing

import dagster as dg
import pytest
from shell_graph import changed

from aura.events.event import new_event
from aura.graph.lineage import Version, asset_node, materialization_node, source_node, tier_node
from aura.graph.model import EdgeType, Label
from aura.graph.opening import open_graph
from resources.events import Events
from resources.lineage import Lineage
from sensors.waiting_writes import waiting_writes


@pytest.fixture
def lineage(materialized):
    with closing(open_graph(materialized.graph.settings)) as graph:
        yield graph


def current(materialized, name):
    partition = materialized.graph.source
    return materialization_node(Version(name, partition, materialized.graph.published(partition)[name])).id


def test_what_depends_on_a_source_is_its_impact(lineage, materialized):
    reached = lineage.impact(source_node(materialized.graph.source).id, types=(EdgeType.FEEDS,))
    chain = ("corpus_manifest", "text_embeddings", "embedding_diagrams", "expert_model", "expert_routing_table")
    assert {current(materialized, name) for name in chain} <= {each.id for each in reached}


def test_a_materialization_knows_its_run_and_its_cost(lineage, materialized):
    (beside,) = lineage.neighbours(asset_node("text_embeddings").id, "out", (EdgeType.MATERIALIZED_AS,))
    assert beside.node.id == current(materialized, "text_embeddings")
    assert beside.edge.properties["run_id"] == materialized.second.run_id
    assert beside.edge.properties["wall_seconds"] > 0
    assert beside.edge.properties["at"]


def test_a_source_its_items_a_model_and_its_experts_and_the_tiers_are_nodes(lineage, materialized):
    items = lineage.neighbours(source_node(materialized.graph.source).id, "out", (EdgeType.CONTAINS,))
    assert len(items) == materialized.graph.load("corpus_manifest").table.num_rows
    experts = lineage.neighbours(current(materialized, "expert_model"), "out", (EdgeType.CONTAINS,))
    assert {each.node.id.label for each in experts} == {Label.EXPERT}
    assert len(experts) == 2
    assert lineage.neighbours(tier_node("L3").id, "both", (EdgeType.HOLDS,)) or lineage.neighbours(
        tier_node("L1").id, "both", (EdgeType.HOLDS,)
    )


def test_a_graph_that_cannot_be_written_costs_the_lineage_and_not_the_value(graph, caplog):
    file = graph.settings.graph_file
    file.parent.mkdir(parents=True)
    file.write_bytes(b"this is no database" * 100)
    outcome = graph.run_selection(["corpus_manifest"])
    assert outcome.success
    assert set(graph.published()) == {"corpus_manifest"}


@pytest.mark.servers
@pytest.mark.slow
def test_lineage_that_waits_for_neo4j_is_sent_by_the_next_look(graph, servers):
    server = servers("neo4j")
    settings = changed(graph.settings, graph={"neo4j": server.address, "timeout_seconds": 60.0})
    graph = dataclasses.replace(graph, settings=settings)
    server.kill()
    assert graph.run_selection(["corpus_manifest"]).success
    resources = {"lineage": Lineage(settings), "events": Events(settings)}
    with graph.instance() as instance, dg.build_sensor_context(instance=instance, resources=resources) as context:
        down = waiting_writes(context)
        server.start()
        sent = waiting_writes(context)
    assert "The batches of lineage that wait stay on disk" in down.skip_message
    assert sent.skip_message == "No events wait. No batches of lineage wait."
    with closing(open_graph(settings)) as lineage:
        assert lineage.impact(source_node(graph.source).id, types=(EdgeType.FEEDS,))


@pytest.mark.servers
@pytest.mark.slow
def test_an_alert_that_waits_for_kafka_is_sent_by_the_next_look(graph, servers):
    server = servers("kafka")
    settings = changed(graph.settings, events={"kafka": server.address, "timeout_seconds": 20.0})
    events = Events(settings)
    alert = {"alert": "run/1", "severity": "critical", "failed": "a run", "remedy": "Look."}
    with events.open() as log:
        log.publish("alerts", [new_event("alerts.raised", alert, source="test", key="1", id="before")])
        server.kill()
        (ack,) = log.publish("alerts", [new_event("alerts.raised", alert, source="test", key="1", id="while down")])
    assert ack.offset is None
    server.start()
    resources = {"lineage": Lineage(graph.settings), "events": events}
    with graph.instance() as instance, dg.build_sensor_context(instance=instance, resources=resources) as context:
        assert waiting_writes(context).skip_message == "No events wait. No batches of lineage wait."
    with events.open() as log:
        assert [record.event.id for record in log.read("alerts", 0, 0).records] == ["before", "while down"]
