"""Events on `corpus.items` recompute the sources that they name.

What was done last is read off the topic's own asset, which is materialized for a source when a run for its events has
succeeded. The cursor only saves reading the log again from there: without it the sensor comes to the same result. An
event that a producer put into the log twice, in different batches, is acted on twice, which recomputes nothing new.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import dagster as dg

from aura.events.batches import Done, Launch, OffsetRange, Outcome, RetryPolicy, Wait, decide
from aura.events.errors import EventError
from aura.events.event import Record
from aura.events.groups import CORPUS_SENSOR
from aura.events.log import EventLog
from aura.events.scan import Scan
from resources.events import Events
from sensors.attempts import attempts_at, run_request
from sensors.cursors import cursor_at, read_on, tell_the_log

TOPIC = "corpus.items"
POLICY = RetryPolicy()
"""Attempts at a batch and the waits between them."""


def source_of(record: Record) -> str:
    """The source that an event of the topic is about."""
    return str(record.event.data["source"])


def offsets_done(instance: dg.DagsterInstance, topic_asset: dg.AssetKey, place: str, source: str) -> dict[int, int]:
    """Of each partition of the topic the offset up to which the events of a source have been acted on with success.

    Read off the latest materialization of the topic's asset; empty if there is none, or if it was of another log.
    """
    wanted = dg.AssetRecordsFilter(topic_asset, asset_partitions=[source])
    for record in instance.fetch_materializations(wanted, limit=1).records:
        metadata = record.asset_materialization.metadata if record.asset_materialization else {}
        if metadata.get("log") == dg.MetadataValue.text(place):
            return {int(partition): int(end) for partition, end in metadata["offsets"].value.items()}
    return {}


class Look:
    """One look at the topic: what it found done, what it launches, and what a person is told."""

    def __init__(self, instance: dg.DagsterInstance, topic_asset: dg.AssetKey, log: EventLog) -> None:
        self.instance = instance
        self.topic_asset = topic_asset
        self.log = log
        # Offsets mean nothing on another log, be it at the same address.
        self.place = log.identity(TOPIC)
        self.ends = log.end_offsets(TOPIC)
        self.launches: dict[str, Launch] = {}
        self.recorded: list[dg.AssetMaterialization] = []
        self.said: list[str] = []
        self._done: dict[str, dict[int, int]] = {}

    def scan(self, cursor: str | None) -> Scan:
        """Read on; what cannot be decoded is buried."""
        scan, buried = read_on(self.log, TOPIC, cursor, source_of, group=CORPUS_SENSOR)
        if buried:
            self.said.append(f"{buried} records could not be decoded and went to {TOPIC}.dead")
        return scan

    def decide(self, source: str, pending: OffsetRange, policy: RetryPolicy, now: float) -> int:
        """Decide about the events of a source in one partition.

        Returns:
            The offset up to which they are done.
        """
        partition = pending.partition
        at = self._done_up_to(source).get(partition, 0)
        attempts = attempts_at(self.instance, TOPIC, self.place, source)
        elsewhere = [each for each in attempts if each.events.partition != partition]
        while at < pending.end:
            left = OffsetRange(TOPIC, partition, max(pending.first, at), pending.end)
            decision = decide(left, attempts, now=now, policy=policy)
            if isinstance(decision, Done):
                at = decision.events.end
                self._record(source, decision.events)
                continue
            if isinstance(decision, Launch):
                # Two runs of one source would list it at the same time.
                if source in self.launches or any(each.outcome is Outcome.RUNNING for each in elsewhere):
                    decision = Wait(f"{left} waits for the run of events in another partition")
                else:
                    self.launches[source] = decision
            self.said.append(f"{source}: {_told(decision)}")
            break
        return at

    def _done_up_to(self, source: str) -> dict[int, int]:
        if source not in self._done:
            found = offsets_done(self.instance, self.topic_asset, self.place, source)
            # A log that is shorter than what was done on it has lost its end.
            self._done[source] = {partition: end for partition, end in found.items() if end <= self.ends[partition]}
        return self._done[source]

    def _record(self, source: str, events: OffsetRange) -> None:
        done = self._done_up_to(source)
        done[events.partition] = events.end
        metadata = {"log": self.place, "events": str(events), "offsets": {str(p): end for p, end in done.items()}}
        self.recorded.append(dg.AssetMaterialization(self.topic_asset, partition=source, metadata=metadata))
        self.said.append(f"{source}: {events} is done")


def _told(decision: Launch | Wait) -> str:
    return f"attempt {decision.number} at {decision.events}" if isinstance(decision, Launch) else decision.reason


def corpus_items(
    target: dg.UnresolvedAssetJobDefinition,
    topic_asset: dg.AssetKey,
    partitions: dg.DynamicPartitionsDefinition,
    config_of: Callable[[OffsetRange], dict[str, object]],
    *,
    policy: RetryPolicy = POLICY,
    clock: Callable[[], float] = time.time,
) -> dg.SensorDefinition:
    """A sensor that recomputes the sources that events name, each batch of events by exactly one successful run.

    Args:
        target: The job that recomputes one source.
        topic_asset: The asset that stands for the topic, partitioned by source.
        partitions: The sources.
        config_of: Run configuration that tells the job which range of events to read.
        policy: How often a batch is tried, and how long it waits in between.
        clock: Seconds since 1970.
    """

    @dg.sensor(
        name="corpus_items",
        job=target,
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Events on {TOPIC} recompute the sources that they name; a batch that fails is tried "
        f"{policy.attempts} times in all.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, events: dg.ResourceParam[Events]
    ) -> dg.SensorResult | dg.SkipReason:
        known = set(partitions.get_partition_keys(dynamic_partitions_store=context.instance))
        try:
            with events.open() as log:
                tick = Look(context.instance, topic_asset, log)
                scan = tick.scan(context.cursor)
                for source, pending in scan.pending(TOPIC):
                    if source in known:
                        done = tick.decide(source, pending, policy, clock())
                        scan = scan.without(source, pending.partition, done)
                    else:
                        tick.said.append(f"{source} is no registered source: its events wait")
                if untold := tell_the_log(log, TOPIC, scan.of(known), group=CORPUS_SENSOR):
                    tick.said.append(untold)
        except EventError as error:
            return dg.SkipReason(f"{error} No event is lost: the next look goes on from the same place.")
        dealt_with = scan.of(known).dealt_with()
        lag = sum(max(0, end - dealt_with.get(partition, 0)) for partition, end in tick.ends.items())
        said = f"Lag of {TOPIC}: {lag} events. " + ("; ".join(tick.said) or "Nothing to do.")
        context.log.info(said)
        return dg.SensorResult(
            run_requests=[
                run_request(launch, place=tick.place, partition=source, run_config=config_of(launch.events))
                for source, launch in tick.launches.items()
            ],
            skip_reason=None if tick.launches else said,
            asset_events=tick.recorded,
            cursor=cursor_at(tick.place, scan),
        )

    return sensor
