"""Events on `memory.operations` recompute the placement once the accesses have moved to other objects.

The accesses that the present placement knew are compared with those since. Both are read from the log, between offsets
that the placement put on record when it was made.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from aura.events.batches import Attempt, Launch, OffsetRange, Outcome, RetryPolicy, decide
from aura.events.errors import EventError
from aura.events.log import EventLog
from aura.events.scan import read_range
from aura.tiers.planning.shift import AccessShift, access_shift
from resources.events import Events
from sensors.attempts import attempts_at, run_request

TOPIC = "memory.operations"
PARTITION = 0

POLICY = RetryPolicy()
"""Attempts at a placement and the waits between them."""

THRESHOLD = 0.2
"""Share of the accesses that have to go to other objects, beyond the noise of counting, before objects are moved."""

MIN_ACCESSES = 200
"""Accesses since the placement below which nothing is compared."""

MOST_EVENTS = 2_000
"""Events on either side that are read; of more, the latest."""


@dataclass(frozen=True)
class Heard:
    """The operations that a placement knew.

    Attributes:
        log: The log that the offsets belong to.
        first: The first event that was new to it.
        end: The offset after the last one.
    """

    log: str
    first: int
    end: int

    def metadata(self) -> Mapping[str, object]:
        """As metadata of the materialization."""
        return {TOPIC: {"log": self.log, "first": self.first, "end": self.end}}


def heard_last(instance: dg.DagsterInstance, placement: dg.AssetKey, place: str) -> Heard:
    """What the latest placement knew; nothing if there is none, or if it listened to another log."""
    for record in instance.fetch_materializations(placement, limit=10).records:
        value = record.asset_materialization.metadata.get(TOPIC) if record.asset_materialization else None
        if value is not None and value.value["log"] == place:
            return Heard(place, int(value.value["first"]), int(value.value["end"]))
    return Heard(place, 0, 0)


def hear(instance: dg.DagsterInstance, placement: dg.AssetKey, events: Events) -> Heard:
    """What a placement that is made now knows: everything since the one before, or more if that is too little.

    Raises:
        EventError: The log cannot be read.
    """
    with events.open() as log:
        place, end = log.identity(TOPIC), log.end_offsets(TOPIC)[PARTITION]
        before = heard_last(instance, placement, place)
        if before.end > end:
            return Heard(place, 0, end)
        fresh = sum(counted(log, before.end, end).values())
        return Heard(place, before.end if fresh >= MIN_ACCESSES else before.first, end)


def counted(log: EventLog, first: int, end: int) -> Mapping[str, int]:
    """Gets by key in a range of events, of which the latest are read."""
    first = max(first, end - MOST_EVENTS, log.begin_offsets(TOPIC)[PARTITION])
    gets: Counter[str] = Counter()
    if first < end:
        for record in read_range(log, OffsetRange(TOPIC, PARTITION, first, end)):
            for row in record.event.data["counts"]:
                gets[row["key"]] += row["gets"]
    return gets


def memory_operations(
    target: dg.UnresolvedAssetJobDefinition,
    placement: dg.AssetKey,
    profile: dg.AssetKey,
    *,
    policy: RetryPolicy = POLICY,
    clock: Callable[[], float] = time.time,
) -> dg.SensorDefinition:
    """A sensor that recomputes the placement when the total variation distance of the accesses passes `THRESHOLD`.

    Args:
        target: The job that makes the placement.
        placement: Its asset.
        profile: The asset that it needs; nothing is asked for before it has been made.
        policy: How often it is tried, and how long it waits in between.
        clock: Seconds since 1970.
    """

    @dg.sensor(
        name="memory_operations",
        job=target,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Places the objects anew when {THRESHOLD:.0%} of the accesses, beyond noise, go to other objects "
        "than the present placement knew.",
    )
    def sensor(context: dg.SensorEvaluationContext, events: dg.ResourceParam[Events]) -> dg.RunRequest | dg.SkipReason:
        if context.instance.get_latest_materialization_event(profile) is None:
            return dg.SkipReason(f"{profile.to_user_string()} is not there yet: run the job tiers.")
        try:
            with events.open() as log:
                place = log.identity(TOPIC)
                heard = heard_last(context.instance, placement, place)
                attempts = attempts_at(context.instance, TOPIC, place, None)
                end = log.end_offsets(TOPIC)[PARTITION]
                at = max(known for known in (0, heard.end, *_placed(attempts)) if known <= end)
                shift = access_shift(counted(log, heard.first, at), counted(log, at, end))
        except EventError as error:
            return dg.SkipReason(f"{error} No event is lost: the next look goes on from the same place.")
        said = _told(shift, end - at)
        if shift.after < MIN_ACCESSES or shift.excess < THRESHOLD:
            return dg.SkipReason(said)
        decision = decide(OffsetRange(TOPIC, PARTITION, at, end), attempts, now=clock(), policy=policy)
        if isinstance(decision, Launch):
            context.log.info(said)
            return run_request(decision, place=place)
        return dg.SkipReason(f"{said} {decision}")

    return sensor


def _placed(attempts: Sequence[Attempt]) -> list[int]:
    """Where the ranges end for which a placement was made, even if it could not put on record what it knew."""
    return [attempt.events.end for attempt in attempts if attempt.outcome is Outcome.SUCCEEDED]


def _told(shift: AccessShift, events: int) -> str:
    return (
        f"Lag of {TOPIC}: {events} events. Of {shift.after} accesses since the placement {shift.distance:.0%} went to "
        f"other objects than its {shift.before}; {shift.noise:.0%} would be noise. It is made anew at {THRESHOLD:.0%} "
        f"beyond noise and {MIN_ACCESSES} accesses."
    )
