"""What is computed without being asked: the conditions of the real definitions, tick by tick, on a real instance."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from shell_graph import changed

from aura.corpus.registry import SourceRegistry
from aura.corpus.sources import SourceSpec
from aura.settings import Settings
from aura_assets import jobs
from aura_assets.build import ASSETS, build_defs
from aura_assets.partitions import sources
from resources.sources import SourcesResource
from sensors.dead_runs import dead_runs
from sensors.sources import source_partitions

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)

FIRST = {"text_embeddings", "image_embeddings", "audio_embeddings", "joint_model"}
"""What reads the manifest."""

CHAIN = (
    "corpus_manifest",
    "text_embeddings",
    "text_index",
    "expert_model",
    "embedding_diagrams",
    "averaged_landscapes",
    "drift_reference",
    "diagram_vectors",
    "embedding_loops",
    "expert_routing_table",
    "embedding_drift",
    "network_reference",
    "network_drift",
)
AFTER_TEXTS = {
    name: {"a"}
    for name in ("text_index", "embedding_diagrams", "averaged_landscapes", "drift_reference", "expert_model")
}
"""What reads the text embeddings alone."""

AFTER_TEXTS_AND_MORE = {
    name: {"a"} for name in ("expert_routing_table", "embedding_loops", "embedding_drift", "network_reference")
}
"""What reads something else too, and is requested once that is not going to be made in the same tick."""


class Timeline:
    """Ticks of the automation, every 30 seconds, with what other runs report in between."""

    def __init__(self, defs: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self.defs = defs
        self.instance = instance
        self.now = NOON
        self.cursor = None

    def tick(self, after: timedelta = timedelta(seconds=30)) -> dict[str, set[str | None]]:
        """Evaluate once; the requested partitions by asset."""
        self.now += after
        result = dg.evaluate_automation_conditions(
            self.defs, self.instance, cursor=self.cursor, evaluation_time=self.now
        )
        self.cursor = result.cursor
        keys = (key for asset in ASSETS for key in asset.keys)
        requested = {key.to_user_string(): set(result.get_requested_partitions(key)) for key in keys}
        return {name: partitions for name, partitions in requested.items() if partitions}

    def ticks(self, number: int) -> list[dict[str, set[str | None]]]:
        """What was requested in several ticks in which nothing happens."""
        return [requested for requested in (self.tick() for _ in range(number)) if requested]

    def until(self, hour: int) -> timedelta:
        """The time to the next such hour."""
        past = timedelta(minutes=self.now.minute, seconds=self.now.second)
        return timedelta(hours=(hour - self.now.hour - 1) % 24 + 1) - past

    def add(self, partition: str) -> None:
        """Add a partition, as the sensor does."""
        self.instance.add_dynamic_partitions(sources.name or "", [partition])

    def made(self, name: str, version: str, partition: str | None = "a") -> None:
        """Report a materialization with this data version, as a run's event does."""
        tags = {"dagster/data_version": version, "dagster/code_version": "1"}
        self.instance.report_runless_asset_event(dg.AssetMaterialization(name, partition=partition, tags=tags))

    def start(self, name: str, partition: str) -> dg.DagsterRun:
        """A run of one asset that has started and not ended."""
        job = self.defs.resolve_implicit_global_asset_job_def()
        run = self.instance.create_run_for_job(
            job.get_subset(asset_selection={dg.AssetKey(name)}),
            asset_selection={dg.AssetKey(name)},
            tags={"dagster/partition": partition},
        )
        self.instance.handle_run_event(
            run.run_id,
            dg.DagsterEvent(event_type_value=dg.DagsterEventType.PIPELINE_START.value, job_name=job.name),
        )
        return run

    def end(self, run: dg.DagsterRun) -> None:
        """The run has ended."""
        self.instance.handle_run_event(
            run.run_id,
            dg.DagsterEvent(event_type_value=dg.DagsterEventType.PIPELINE_SUCCESS.value, job_name=run.job_name),
        )


@pytest.fixture(scope="module")
def defs(tmp_path_factory) -> dg.Definitions:
    return build_defs(Settings(home=tmp_path_factory.mktemp("home")))


@pytest.fixture
def timeline(defs):
    """A partition `a` that was there before the automation was switched on."""
    with dg.DagsterInstance.ephemeral() as instance:
        timeline = Timeline(defs, instance)
        timeline.add("a")
        assert timeline.tick() == {}
        yield timeline


@pytest.fixture
def settled(defs):
    """All that follows from the text of `a` had been made before."""
    with dg.DagsterInstance.ephemeral() as instance:
        timeline = Timeline(defs, instance)
        timeline.add("a")
        for name in CHAIN:
            timeline.made(name, "1")
        assert timeline.tick() == {}
        yield timeline


def test_nothing_is_requested_when_the_automation_is_switched_on(defs):
    with dg.DagsterInstance.ephemeral() as instance:
        timeline = Timeline(defs, instance)
        timeline.add("a")
        timeline.made("corpus_manifest", "1")
        timeline.made("text_embeddings", "1")
        assert timeline.ticks(4) == []


def test_new_content_is_followed_through_the_graph_in_exactly_that_partition(settled):
    settled.add("b")
    settled.made("corpus_manifest", "2")
    assert settled.tick() == {name: {"a"} for name in FIRST}
    assert settled.ticks(2) == [{"embedding_loops": {"a"}}], "it lists texts, and no run of its other inputs has begun"
    settled.made("text_embeddings", "2")
    assert settled.tick() == AFTER_TEXTS
    settled.made("embedding_diagrams", "2")
    assert settled.tick() == AFTER_TEXTS_AND_MORE | {"diagram_vectors": {"a"}}, "one input changed, no other is awaited"
    settled.made("expert_model", "2")
    assert settled.tick() == {"expert_routing_table": {"a"}, "network_reference": {"a"}}
    for name in ("expert_routing_table", "diagram_vectors", "embedding_loops", "embedding_drift"):
        settled.made(name, "2")
    settled.made("network_reference", "1")
    assert settled.tick() == {"network_drift": {"a"}}
    settled.made("network_drift", "2")
    assert settled.ticks(4) == []


def test_what_reads_two_recomputed_inputs_waits_for_both_and_runs_once(settled):
    settled.made("text_embeddings", "2")
    assert settled.tick() == AFTER_TEXTS
    run = settled.start("expert_model", "a")
    assert "expert_routing_table" not in {name for requested in settled.ticks(3) for name in requested}
    settled.made("expert_model", "2")
    settled.end(run)
    after = [requested for requested in settled.ticks(4) if "expert_routing_table" in requested]
    assert after == [{"expert_routing_table": {"a"}, "network_reference": {"a"}}]


def test_a_manifest_that_is_listed_again_with_the_same_content_requests_nothing(settled):
    for _ in range(3):
        settled.made("corpus_manifest", "1")
        assert settled.ticks(2) == []


def test_another_setting_recomputes_what_depends_on_it_and_nothing_else(settled, tmp_path):
    assert settled.ticks(2) == []
    settled.defs = build_defs(changed(Settings(home=tmp_path), topology={"landmarks": 7}))
    assert settled.tick() == {name: {"a"} for name in ("embedding_diagrams", "averaged_landscapes")}
    assert settled.ticks(2) == [{"embedding_loops": {"a"}}]


def test_a_new_partition_is_followed_once_its_manifest_exists_and_never_before(timeline):
    timeline.add("b")
    assert timeline.ticks(4) == []
    timeline.made("corpus_manifest", "1", "b")
    assert timeline.tick() == {name: {"b"} for name in FIRST}
    assert timeline.ticks(4) == []


def test_nothing_runs_while_an_input_is_missing(timeline):
    timeline.made("expert_model", "1")
    assert timeline.ticks(3) == [], "the routing table also reads the text embeddings"


def test_what_is_being_computed_is_not_requested_again(settled):
    settled.made("corpus_manifest", "2")
    assert settled.tick()["text_embeddings"] == {"a"}
    run = settled.start("text_embeddings", "a")
    assert settled.ticks(3) == []
    settled.made("text_embeddings", "2")
    settled.end(run)
    assert "text_embeddings" not in {name for requested in settled.ticks(3) for name in requested}


def test_a_change_in_the_tick_after_a_request_is_not_lost(settled):
    settled.made("corpus_manifest", "2")
    assert settled.tick()["text_embeddings"] == {"a"}
    run = settled.start("text_embeddings", "a")
    settled.made("corpus_manifest", "3")
    assert "text_embeddings" not in settled.tick(), "the run of the first request is going on"
    settled.made("text_embeddings", "2")
    settled.end(run)
    assert settled.tick()["text_embeddings"] == {"a"}
    assert not any("text_embeddings" in requested for requested in settled.ticks(4))


def test_a_change_in_the_middle_of_a_run_is_not_lost(settled):
    settled.made("corpus_manifest", "2")
    settled.tick()
    run = settled.start("text_embeddings", "a")
    settled.ticks(2)
    settled.made("corpus_manifest", "3")
    settled.ticks(2)
    settled.made("text_embeddings", "2")
    settled.end(run)
    assert settled.tick()["text_embeddings"] == {"a"}


def test_a_change_in_the_same_tick_as_the_asset_s_own_completion_is_not_lost(settled):
    settled.made("corpus_manifest", "2")
    settled.tick()
    run = settled.start("text_embeddings", "a")
    settled.tick()
    settled.made("corpus_manifest", "3")
    settled.made("text_embeddings", "2")
    settled.end(run)
    assert settled.tick()["text_embeddings"] == {"a"}


@pytest.mark.slow
def test_a_partition_that_is_always_skipped_is_requested_once_per_change(timeline):
    """Nothing is ever reported for `image_embeddings`, as when no weights are configured."""
    requests = []
    for version in ("1", "2"):
        timeline.made("corpus_manifest", version)
        requests += timeline.ticks(10)
    assert [requested["image_embeddings"] for requested in requests] == [{"a"}, {"a"}]
    assert not any("image_embedding_diagrams" in requested for requested in requests)


def test_the_tiers_are_measured_daily_although_partitions_are_missing(timeline):
    timeline.made("corpus_manifest", "1")
    timeline.ticks(2)
    for _ in range(2):
        assert timeline.tick(timeline.until(4)) == {"tier_profile": {None}}
        assert timeline.ticks(2) == []
        assert timeline.tick(timeline.until(5)) == {"tier_placement": {None}}
        assert timeline.ticks(2) == []


SCHEDULED = {"corpus_manifest", "tier_profile", "tier_placement"}

ASKED_FOR = {
    "corpus_manifest",
    "language_text",
    "language_models",
    "moe_versus_dense",
    "request_activations",
    *(f"{name}_notebook" for name in ("tour", "topology", "routing", "placement", "costs")),
}
"""What a schedule, a sensor or a person asks for."""


def test_what_a_schedule_makes_has_a_freshness_policy_and_what_nobody_asks_for_a_condition():
    for asset in ASSETS:
        (spec,) = asset.specs
        # What follows changes of its input is as old as the last change, and not late for that.
        assert (spec.freshness_policy is not None) == (spec.key.to_user_string() in SCHEDULED), spec.key
        assert (spec.automation_condition is None) == (spec.key.to_user_string() in ASKED_FOR), spec.key


@pytest.fixture
def registry(tmp_path) -> SourceRegistry:
    """A register with the source `a` alone."""
    registry = SourceRegistry(tmp_path / "sources.json")
    for spec in registry.specs():
        registry.remove(spec.name)
    registry.add(SourceSpec("a", "directory", tmp_path))
    return registry


def evaluate(instance: dg.DagsterInstance, registry: SourceRegistry) -> dg.SensorResult | dg.SkipReason:
    sensor = source_partitions(jobs.listing, sources)
    resources = {"registry": SourcesResource(file=str(registry.path))}
    with dg.build_sensor_context(instance=instance, resources=resources) as context:
        return sensor(context)


def test_a_new_source_becomes_a_partition_and_is_listed_once(registry, tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(sources.name or "", ["a"])
        registry.add(SourceSpec("b", "directory", tmp_path))
        result = evaluate(instance, registry)
        assert [request.partition_key for request in result.run_requests] == ["b"]
        (added,) = result.dynamic_partitions_requests
        assert (type(added), list(added.partition_keys)) == (dg.AddDynamicPartitionsRequest, ["b"])
        instance.add_dynamic_partitions(sources.name or "", added.partition_keys)
        assert isinstance(evaluate(instance, registry), dg.SkipReason)


def test_a_removed_source_is_no_partition_any_more(registry):
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(sources.name or "", ["a", "old"])
        result = evaluate(instance, registry)
        assert not result.run_requests
        (deleted,) = result.dynamic_partitions_requests
        assert (type(deleted), list(deleted.partition_keys)) == (dg.DeleteDynamicPartitionsRequest, ["old"])


def test_with_nothing_to_do_the_sensor_says_so(registry):
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(sources.name or "", ["a"])
        skipped = evaluate(instance, registry)
        assert skipped == dg.SkipReason("All 1 registered sources are partitions.")


def test_a_damaged_register_is_an_error_of_the_sensor_and_deletes_no_partition(registry):
    registry.path.write_text("{", encoding="utf-8")
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(sources.name or "", ["a"])
        with pytest.raises(Exception, match="damaged"):
            evaluate(instance, registry)


def test_each_hour_each_source_is_listed_in_a_run_of_its_own(tmp_path):
    def requests(moment: datetime) -> dict[str, str]:
        context = dg.build_schedule_context(instance=instance, scheduled_execution_time=moment)
        return {request.partition_key: request.run_key for request in jobs.hourly_listing(context)}

    with dg.DagsterInstance.from_config(str(empty_dagster_home(tmp_path))) as instance:
        instance.add_dynamic_partitions(sources.name or "", ["a", "b"])
        noon = requests(NOON)
        assert set(noon) == {"a", "b"}
        assert len(set(noon.values())) == 2
        assert requests(NOON) == noon, "a tick that is evaluated again asks for the same runs"
        assert not set(requests(NOON + timedelta(hours=1)).values()) & set(noon.values())


def empty_dagster_home(directory: Path) -> Path:
    """A Dagster home whose instance other processes can open, as a schedule's evaluation does."""
    (directory / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    return directory


def started_run(instance: dg.DagsterInstance, defs: dg.Definitions, pid: int) -> dg.DagsterRun:
    """A run that says it is executed by the process of this number."""
    job = defs.resolve_job_def("listing")
    run = instance.create_run_for_job(job)
    instance.report_engine_event("Executing steps in process", run, EngineEventData.in_process(pid))
    started = dg.DagsterEvent(event_type_value=dg.DagsterEventType.PIPELINE_START.value, job_name=job.name)
    instance.handle_run_event(run.run_id, started)
    return run


def test_the_run_of_a_dead_process_is_failed_with_the_reason_and_that_of_a_living_one_goes_on(defs, tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with dg.DagsterInstance.from_config(str(empty_dagster_home(tmp_path))) as instance:
        living, dead = started_run(instance, defs, os.getpid()), started_run(instance, defs, process.pid)
        with dg.build_sensor_context(instance=instance) as context:
            assert dead.run_id in dead_runs(context).skip_message
            assert dead_runs(context).skip_message == "All are alive."
        assert instance.get_run_by_id(living.run_id).status == dg.DagsterRunStatus.STARTED
        assert instance.get_run_by_id(dead.run_id).status == dg.DagsterRunStatus.FAILURE
        (failure,) = instance.all_logs(dead.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        assert "was killed" in failure.dagster_event.message
