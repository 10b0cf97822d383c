"""The placement is made anew when the accesses have moved, and only then; a run that fails is an alert."""

from __future__ import annotations

from contextlib import closing

import dagster as dg
import pytest

from aura.events.event import new_event
from aura.events.opening import open_event_log
from aura.services.operations import OperationsPublisher
from aura.tiers.budgets import TierBudgets
from aura.tiers.catalog import Catalog
from aura.tiers.records import Tier
from aura.tiers.store import open_store
from resources.events import Events
from sensors.memory_operations import MIN_ACCESSES, hear
from sensors.run_failures import run_failures

PROFILE = dg.AssetKey("tier_profile")
BUDGETS = TierBudgets(process_bytes=1 << 20, arena_bytes=1 << 20)


def look(graph, instance, *, profiled=True):
    if profiled and instance.get_latest_materialization_event(PROFILE) is None:
        instance.report_runless_asset_event(dg.AssetMaterialization(PROFILE))
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


def test_nothing_is_placed_before_the_tiers_have_been_measured(graph):
    count(graph, {"a": 10 * MIN_ACCESSES})
    with graph.instance() as instance:
        evaluated = look(graph, instance, profiled=False)
        assert evaluated.run_requests == []
        assert "run the job tiers" in evaluated.skip_message
        assert len(look(graph, instance).run_requests) == 1


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


def published_rows(graph):
    """The rows of all events, in order."""
    with closing(open_event_log(graph.settings)) as log:
        return [row for record in log.read("memory.operations", 0, 0).records for row in record.event.data["counts"]]


@pytest.mark.parametrize("through", ["owner", "client"])
def test_deletes_are_published_with_the_key_that_is_gone(graph, tmp_path, through):
    with open_store(tmp_path / "s", budgets=BUDGETS) as owner, open_store(tmp_path / "s", budgets=BUDGETS) as client:
        owner.put("old", b"1")
        publisher = OperationsPublisher(owner if through == "owner" else client, lambda: open_event_log(graph.settings))
        owner.delete("old")
        owner.put("brief", b"2")
        owner.get("brief")
        owner.delete("brief")
        owner.delete("never there")
        for _ in range(2):
            owner.put("again", b"3")
            owner.delete("again")
        assert publisher.publish() == 8 - 1
        assert publisher.publish() == 0
        owner.delete("old")
        owner.put("again", b"4")
        assert publisher.publish() == 1
    assert published_rows(graph) == [
        {"key": "brief", "tier": "L3", "gets": 0, "puts": 1, "deletes": 1},
        {"key": "again", "tier": "L3", "gets": 0, "puts": 2, "deletes": 2},
        {"key": "old", "tier": "L3", "gets": 0, "deletes": 1},
        {"key": "again", "tier": "L3", "gets": 0, "puts": 1},
    ]


def test_where_nothing_happened_neither_keys_nor_entries_are_fetched(graph, tmp_path, monkeypatch):
    with open_store(tmp_path / "s", budgets=BUDGETS) as store:
        store.put("a", b"1")
        publisher = OperationsPublisher(store, lambda: open_event_log(graph.settings))
        fetched = []
        for name in ("access_log", "entries"):
            real = getattr(store, name)
            monkeypatch.setattr(store, name, lambda name=name, real=real: (fetched.append(name), real())[1])
        assert publisher.publish() == 0
        assert fetched == []
        store.get("a")
        assert publisher.publish() == 1
        assert sorted(fetched) == ["access_log", "entries"]
        assert publisher.publish() == 0
        assert sorted(fetched) == ["access_log", "entries"]


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
