"""Events recompute what they name, once, whatever dies in between: the real sensors on the real log and instance."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from aura.events.event import new_event
from aura.events.scan import Scan
from aura_assets.events import corpus_items
from aura_assets.partitions import sources
from resources.events import Events
from sensors.corpus_items import TOPIC, offsets_done


@dataclass
class Daemon:
    """What Dagster's daemon does with a sensor, one tick at a time, so that a test can let it die anywhere."""

    graph: object
    instance: dg.DagsterInstance
    sensor: str
    cursor: str | None = None
    keys: set = field(default_factory=set)

    def look(self):
        """Evaluate the sensor; nothing is launched or kept yet."""
        definitions = self.graph.definitions()
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=definitions.get_repository_def(),
            resources={"events": Events(self.graph.settings)},
        )
        with dg.partition_loading_context(dynamic_partitions_store=self.instance):
            return definitions.resolve_sensor_def(self.sensor).evaluate_tick(context)

    def keep(self, evaluated):
        """Report the events and keep the cursor of a tick."""
        for event in evaluated.asset_events:
            self.instance.report_runless_asset_event(event)
        self.cursor = evaluated.cursor

    def launch(self, request):
        """Run a request in this process, unless its key was used."""
        if request.run_key in self.keys:
            return None
        self.keys.add(request.run_key)
        job = self.graph.definitions().resolve_job_def("corpus")
        return job.execute_in_process(
            instance=self.instance,
            partition_key=request.partition_key,
            tags=dict(request.tags),
            run_config={**request.run_config, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )

    def tick(self):
        """A tick of a daemon that lives: what was evaluated, and the runs."""
        evaluated = self.look()
        self.keep(evaluated)
        return evaluated, [self.launch(request) for request in evaluated.run_requests]


def publish(graph, *changed, source="library"):
    with Events(graph.settings).open() as log:
        event = new_event(
            "corpus.items.changed",
            {"source": source, "changed": list(changed), "removed": []},
            source="test",
            key=source,
        )
        return log.publish("corpus.items", [event])


def damage(graph):
    """Make what is in the log undecodable."""
    with closing(sqlite3.connect(graph.settings.event_log_file)) as connection, connection:
        connection.execute("UPDATE record SET value = X'00'")


@pytest.fixture
def daemon(graph):
    with graph.instance() as instance:
        instance.add_dynamic_partitions(sources.name, [graph.source])
        yield Daemon(graph, instance, "corpus_items")


def done(daemon):
    with Events(daemon.graph.settings).open() as log:
        place = log.identity(TOPIC)
    return offsets_done(daemon.instance, corpus_items.key, place, daemon.graph.source)


def test_without_events_the_tick_says_so(daemon):
    evaluated, runs = daemon.tick()
    assert runs == []
    assert evaluated.skip_message == "Lag of corpus.items: 0 events. Nothing to do."


@pytest.mark.slow
def test_an_event_recomputes_its_source_and_then_its_offsets_are_on_record(daemon, graph, corpus_directory):
    (corpus_directory / "turtle" / "new.txt").write_text("Turn the turtle left and draw.", encoding="utf-8")
    (ack,) = publish(graph, "turtle/new.txt", "turtle/none.txt")
    evaluated, (run,) = daemon.tick()
    assert evaluated.skip_message is None
    assert run.success
    (manifest,) = run.asset_materializations_for_node("corpus_manifest")
    figures = {name: value.value for name, value in manifest.metadata.items()}
    assert (figures["events"], figures["items_named"], figures["items_named_but_not_there"]) == (1, 2, 1)
    assert done(daemon) == {}
    evaluated, runs = daemon.tick()
    assert runs == []
    assert "is done" in evaluated.skip_message
    assert done(daemon) == {ack.partition: ack.offset + 1}
    assert daemon.tick()[0].skip_message == "Lag of corpus.items: 0 events. Nothing to do."


@pytest.mark.slow
def test_a_batch_gets_one_successful_run_wherever_the_daemon_dies(daemon, graph):
    publish(graph, "a")
    first = daemon.look()
    again = daemon.look()
    assert [request.run_key for request in again.run_requests] == [request.run_key for request in first.run_requests]
    # It dies after the launch and before it keeps the cursor.
    runs = [daemon.launch(first.run_requests[0])]
    evaluated = daemon.look()
    assert evaluated.run_requests == []
    # It dies after the report and before it keeps the cursor; then the cursor is lost altogether.
    for event in evaluated.asset_events:
        daemon.instance.report_runless_asset_event(event)
    daemon.cursor = None
    runs += daemon.tick()[1] + daemon.tick()[1]
    assert [run.success for run in runs] == [True]
    publish(graph, "b")
    assert [run.success for run in daemon.tick()[1]] == [True]
    assert len(daemon.instance.get_runs()) == 2


def test_while_a_run_goes_on_nothing_else_is_launched_for_its_source(daemon, graph):
    publish(graph, "a")
    (request,) = daemon.look().run_requests
    daemon.instance.create_run_for_job(
        job_def=daemon.graph.definitions().resolve_job_def("corpus"),
        tags={**request.tags, "dagster/partition": graph.source},
        status=dg.DagsterRunStatus.STARTED,
    )
    publish(graph, "b")
    evaluated = daemon.look()
    assert evaluated.run_requests == []
    assert "attempt 1" in evaluated.skip_message
    assert "is going on" in evaluated.skip_message
    assert "Lag of corpus.items: 2 events" in evaluated.skip_message


def test_a_failed_batch_waits_and_is_tried_again_with_the_same_range(daemon, graph):
    publish(graph, "a")
    (request,) = daemon.look().run_requests
    run = daemon.instance.create_run_for_job(
        job_def=daemon.graph.definitions().resolve_job_def("corpus"),
        tags={**request.tags, "dagster/partition": graph.source},
        status=dg.DagsterRunStatus.STARTED,
    )
    daemon.instance.report_run_failed(run)
    publish(graph, "b")
    assert "failed 1 times; the next attempt is due in" in daemon.look().skip_message


def test_an_event_for_a_source_that_is_not_registered_waits_until_it_is(daemon, graph):
    publish(graph, "a", source="atlas")
    evaluated, _ = daemon.tick()
    assert "atlas is no registered source: its events wait" in evaluated.skip_message
    daemon.instance.add_dynamic_partitions(sources.name, ["atlas"])
    (request,) = daemon.look().run_requests
    assert request.partition_key == "atlas"


def test_the_offsets_of_another_log_mean_nothing(daemon, graph):
    publish(graph, "a")
    evaluated = daemon.look()
    daemon.cursor = "another:9092\n" + Scan(dict.fromkeys(range(6), 99)).to_json()
    assert [r.run_key for r in daemon.look().run_requests] == [r.run_key for r in evaluated.run_requests]


def test_a_log_that_cannot_be_read_is_a_skipped_tick_with_the_reason(daemon, graph):
    file = graph.settings.event_log_file
    file.parent.mkdir(parents=True)
    file.write_bytes(b"this is no database" * 100)
    evaluated = daemon.look()
    assert evaluated.run_requests == []
    assert str(file) in evaluated.skip_message
    assert "No event is lost" in evaluated.skip_message


def test_what_cannot_be_decoded_is_buried_once_and_holds_nothing_up(daemon, graph):
    publish(graph, "a")
    damage(graph)
    publish(graph, "b")
    for _ in range(2):
        evaluated = daemon.look()
        assert len(evaluated.run_requests) == 1
    with Events(graph.settings).open() as log:
        assert sum(log.end_offsets("corpus.items.dead").values()) == 1


def test_a_log_that_was_made_anew_at_the_same_place_is_another_log(daemon, graph):
    publish(graph, "a")
    _, (run,) = daemon.tick()
    assert run.success
    daemon.tick()
    assert done(daemon)
    for file in graph.settings.event_log_file.parent.glob(f"{graph.settings.event_log_file.name}*"):
        file.unlink()
    publish(graph, "b")
    assert done(daemon) == {}
    assert len(daemon.look().run_requests) == 1


def test_two_partitions_of_the_topic_never_run_one_source_at_the_same_time_and_both_are_put_on_record(daemon, graph):
    with Events(graph.settings).open() as log:
        topic = log.registry.get(TOPIC)
        keys = {topic.partition_of(str(number)): str(number) for number in range(50)}
        (first, one), (second, other) = list(keys.items())[:2]
        data = {"source": graph.source, "changed": [], "removed": []}
        log.publish(TOPIC, [new_event("corpus.items.changed", data, source="test", key=key) for key in (one, other)])
    evaluated = daemon.look()
    assert len(evaluated.run_requests) == 1
    daemon.keep(evaluated)
    assert daemon.launch(evaluated.run_requests[0]).success
    _, (run,) = daemon.tick()
    assert run.success
    daemon.tick()
    assert done(daemon) == {first: 1, second: 1}


def test_a_cursor_that_cannot_be_read_is_made_anew(daemon, graph):
    publish(graph, "a")
    expected = [request.run_key for request in daemon.look().run_requests]
    with Events(graph.settings).open() as log:
        daemon.cursor = f"{log.identity(TOPIC)}\nnot a scan"
    assert [request.run_key for request in daemon.look().run_requests] == expected


def test_events_that_retention_deleted_before_anybody_acted_still_recompute_their_source(daemon, graph):
    publish(graph, "a")
    daemon.keep(daemon.look())
    with Events(graph.settings).open() as log:
        log.expire(TOPIC, datetime.now(UTC) + timedelta(days=365))
    _, (run,) = daemon.tick()
    assert run.success
    (manifest,) = run.asset_materializations_for_node("corpus_manifest")
    assert manifest.metadata["events"].value == 0


def test_one_run_of_a_source_goes_on_at_a_time(graph):
    with graph.instance() as instance:
        (limit,) = instance.get_concurrency_config().run_queue_config.tag_concurrency_limits
    assert limit == {"key": "dagster/partition", "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
