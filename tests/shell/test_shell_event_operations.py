"""The placement is made anew when the accesses have moved, and only then; a run that fails is an alert."""

from __future__ import annotations

from contextlib import closing

import dagster as dg
import pytest

from aura.events.event import new_event
from aura.events.opening import open_event_log
from aura.services.operations import OperationsPublisher
from aura.tiers.catalog import Catalog
from aura.tiers.records import Tier
from resources.events import Events
from sensors.memory_operations import MIN_ACCESSES, hear
from sensors.run_failures import run_failures


def look(graph, instance):
    definitions = graph.definitions()
    context = dg.build_sensor_context(
        instance=instance,
        repository_def=definitions.get_repository_def(),
        resources={"events": Events(graph.settings)},
    )
    return definitions.resolve_sensor_def("memory_operations").evaluate_tick(context)


def count(graph, gets):
    counts = [{"key": key, "tier": "L3", "gets": number} for key, number in gets.items()]
    now = "2026-01-05T10:00:00+00:00"
    event = new_event(
        "memory.operations.counted", {"started": now, "ended": now, "counts": counts}, source="test", key="test"
    )
    with Events(graph.settings).open() as log:
        log.publish("memory.operations", [event])


def place(graph, instance):
    """What a placement puts on record."""
    placement = dg.AssetKey("tier_placement")
    heard = hear(instance, placement, Events(graph.settings))
    instance.report_runless_asset_event(dg.AssetMaterialization(placement, metadata=heard.metadata()))
    return heard


def test_too_few_accesses_move_nothing(graph):
    count(graph, {"a": MIN_ACCESSES - 1})
    with graph.instance() as instance:
        evaluated = look(graph, instance)
    assert evaluated.run_requests == []
    assert "Lag of memory.operations: 1 events" in evaluated.skip_message


def test_the_same_accesses_as_before_move_nothing_and_others_do_once(graph):
    with graph.instance() as instance:
        count(graph, {"a": 800, "b": 200})
        assert len(look(graph, instance).run_requests) == 1
        place(graph, instance)
        count(graph, {"a": 780, "b": 220})
        evaluated = look(graph, instance)
        assert evaluated.run_requests == []
        assert "2% went to other objects" in evaluated.skip_message
        count(graph, {"b": 1000})
        (request,) = look(graph, instance).run_requests
        assert request.tags["aura/events"] == "memory.operations-0:1-3"
        heard = place(graph, instance)
        assert (heard.first, heard.end) == (1, 3)
        assert look(graph, instance).run_requests == []


def test_a_placement_after_which_nothing_was_read_does_not_forget_what_was_read_before(graph):
    with graph.instance() as instance:
        count(graph, {"a": 800, "b": 200})
        place(graph, instance)
        place(graph, instance)
        count(graph, {"a": 790, "b": 210})
        assert look(graph, instance).run_requests == []


def test_a_placement_that_succeeded_without_the_log_is_not_repeated(graph):
    with graph.instance() as instance:
        count(graph, {"a": 1000})
        (request,) = look(graph, instance).run_requests
        instance.create_run_for_job(
            job_def=graph.definitions().resolve_job_def("placement"),
            tags=dict(request.tags),
            status=dg.DagsterRunStatus.SUCCESS,
        )
        assert look(graph, instance).run_requests == []


def test_a_log_that_cannot_be_read_is_a_skipped_tick(graph):
    file = graph.settings.event_log_file
    file.parent.mkdir(parents=True)
    file.write_bytes(b"this is no database" * 100)
    with graph.instance() as instance:
        evaluated = look(graph, instance)
    assert str(file) in evaluated.skip_message


@pytest.mark.slow
def test_the_reads_of_a_store_are_published_and_a_real_placement_knows_them(graph):
    assert graph.run("corpus").success
    with graph.store() as store:
        publisher = OperationsPublisher(store, lambda: open_event_log(graph.settings))
        keys = Catalog(store).find("text_embeddings", graph.source).keys
        for _ in range(10):
            store.get_many(keys)
        store.move({keys[0]: Tier.L1})
        store.move({keys[0]: Tier.L3})
        assert publisher.publish() >= 10 * len(keys) + 2
        assert publisher.publish() == 0
        assert graph.run("tiers").success
    with graph.instance() as instance, closing(open_event_log(graph.settings)) as log:
        (end,) = log.end_offsets("memory.operations").values()
        (record,) = log.read("memory.operations", 0, 0).records
        rows = {(row["key"], row["tier"]): row for row in record.event.data["counts"]}
        assert rows[keys[0], "L1"]["promotions"] == 1
        assert rows[keys[0], "L3"]["demotions"] == 1
        gets = {key: row["gets"] for (key, tier), row in rows.items() if tier == "L3"}
        assert {key: gets[key] for key in keys} == dict.fromkeys(keys, 10)
        assert end == 1
        assert hear(instance, dg.AssetKey("tier_placement"), Events(graph.settings)).end == end


def test_a_failed_run_is_one_alert_however_often_the_tick_is_repeated(graph):
    with graph.instance() as instance:
        run = instance.create_run_for_job(
            job_def=graph.definitions().resolve_job_def("placement"), status=dg.DagsterRunStatus.STARTED
        )
        instance.report_run_failed(run, "the machine went down")
        (entry,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        context = dg.build_run_status_sensor_context(
            sensor_name="run_failures",
            dagster_event=entry.dagster_event,
            dagster_instance=instance,
            dagster_run=instance.get_run_by_id(run.run_id),
            resources={"events": Events(graph.settings)},
        ).for_run_failure()
        for _ in range(2):
            run_failures(context)
    with Events(graph.settings).open() as log:
        records = log.read("alerts", 0, 0).records
    (record,) = records
    assert record.event.data["alert"] == f"run/{run.run_id}"
    assert "placement" in record.event.data["failed"]
    assert "the machine went down" in record.event.data["error"]
