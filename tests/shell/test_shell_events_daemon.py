"""From an event in a real Kafka to the materialized partition, through a real Dagster daemon that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorTick, TickStatus
from shell_graph import PROJECT

from aura.corpus.registry import SourceRegistry
from aura.events.event import new_event
from aura.settings import load_settings
from aura_assets.events import corpus_items
from aura_assets.partitions import sources
from resources.events import Events
from sensors.attempts import TOPIC_TAG
from sensors.corpus_items import TOPIC, offsets_done, source_of

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(600)]

DAEMON = Path(sys.executable).parent / "dagster-daemon"
PATIENCE_SECONDS = 240


@pytest.fixture
def events(graph, kafka, monkeypatch) -> Events:
    """The log of the home, which is a real Kafka; the small corpus is the only source."""
    for name, value in kafka.variables.items():
        monkeypatch.setenv(name, value)
    registry = SourceRegistry(graph.settings.sources_file)
    for name in ("digits", "python-docs"):
        registry.remove(name)
    return Events(load_settings())


@contextmanager
def daemon(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Dagster's daemon with the whole graph; whatever it has started dies at the end of the block."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [DAEMON, "run", "-w", PROJECT / "workspace.yaml"], stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(found: Callable[[], object], what: str, log: Path, every_seconds: float = 0.5) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not found():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_SECONDS} s\n{log.read_text()[-3000:]}"
        time.sleep(every_seconds)


def batch_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    return instance.get_runs(dg.RunsFilter(tags={TOPIC_TAG: TOPIC}))


def last_tick(instance: dg.DagsterInstance) -> InstigatorTick | None:
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        if state.instigator_name == "corpus_items":
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
            return ticks[0] if ticks else None
    return None


def place_of(events: Events) -> str:
    with events.open() as log:
        return log.identity(TOPIC)


def publish(events: Events, source: str, *changed: str) -> dict[int, int]:
    """Publish a change; the offsets up to which it has then to be acted on."""
    with events.open() as log:
        data = {"source": source, "changed": list(changed), "removed": []}
        (ack,) = log.publish(TOPIC, [new_event("corpus.items.changed", data, source="test", key=source)])
    return {ack.partition: ack.offset + 1}


def test_an_event_in_kafka_becomes_a_materialized_partition(graph, events, corpus_directory, tmp_path):
    log = tmp_path / "daemon.log"
    (corpus_directory / "turtle" / "new.txt").write_text("Turn the turtle left and draw.", encoding="utf-8")
    with graph.instance() as instance:
        instance.add_dynamic_partitions(sources.name, [graph.source])
        offsets = publish(events, graph.source, "turtle/new.txt")
        with daemon(log):
            wait_until(
                lambda: offsets_done(instance, corpus_items.key, place_of(events), graph.source) == offsets,
                "the record",
                log,
            )
        (run,) = batch_runs(instance)
        assert run.status is dg.DagsterRunStatus.SUCCESS
        (manifest,) = instance.fetch_materializations(dg.AssetKey("corpus_manifest"), limit=10).records
        metadata = manifest.asset_materialization.metadata
        # The broker is shared with other tests, and this home has acted on nothing yet.
        ((partition, end),) = offsets.items()
        with events.open() as log:
            records = log.read(TOPIC, partition, 0, end).records
        assert metadata["events"].value == sum(source_of(record) == graph.source for record in records)
        assert metadata["items_named_but_not_there"].value == 0
    assert "turtle/new.txt" in graph.load("corpus_manifest").table["uri"].to_pylist()
    assert graph.published().keys() >= {"text_embeddings", "embedding_diagrams", "expert_model", "expert_routing_table"}


def test_a_batch_has_one_successful_run_although_the_daemon_is_killed_between_consuming_and_launching(
    graph, events, tmp_path
):
    log = tmp_path / "daemon.log"
    moments = {
        "a tick has begun": lambda tick: tick is not None and tick.status is TickStatus.STARTED,
        "runs are reserved": lambda tick: (
            tick is not None and tick.status is TickStatus.STARTED and bool(tick.tick_data.reserved_run_ids)
        ),
        "a run is launched": lambda _: bool(batch_runs(instance)),
    }
    with graph.instance() as instance:
        instance.add_dynamic_partitions(sources.name, [graph.source])
        offsets = publish(events, graph.source)
        for moment, reached in moments.items():
            with daemon(log):
                wait_until(lambda r=reached: r(last_tick(instance)), moment, log, 0.002)
        with daemon(log):
            wait_until(
                lambda: offsets_done(instance, corpus_items.key, place_of(events), graph.source) == offsets,
                "the record",
                log,
            )
        statuses = [run.status for run in batch_runs(instance)]
        assert statuses.count(dg.DagsterRunStatus.SUCCESS) == 1
