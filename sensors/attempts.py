"""Runs that a sensor launched for ranges of events: how they are marked, and how they are found again.

Belongs here: the tags and the reading of Dagster's run storage. Does not: the decision (`aura.events.batches`).
"""

from __future__ import annotations

import dagster as dg

from aura.events.batches import Attempt, Launch, OffsetRange, Outcome

EVENTS_TAG = "aura/events"
"""On a run: the range of offsets that it was launched for."""

TOPIC_TAG = "aura/topic"
"""On a run: the topic of the range."""

LOG_TAG = "aura/event_log"
"""On a run: the log that the offsets belong to."""

ATTEMPT_TAG = "aura/attempt"
"""On a run: which attempt at the range it is."""

PARTITION_TAG = "dagster/partition"

RECENT = 50
"""Runs that are looked at; more attempts than this at what is pending are not made."""

OUTCOMES = {
    dg.DagsterRunStatus.SUCCESS: Outcome.SUCCEEDED,
    dg.DagsterRunStatus.FAILURE: Outcome.FAILED,
    dg.DagsterRunStatus.CANCELED: Outcome.FAILED,
}


def attempts_at(instance: dg.DagsterInstance, topic: str, place: str, partition: str | None) -> list[Attempt]:
    """The latest runs for events of a topic, whoever launched them; one that was re-executed by hand counts too.

    Args:
        instance: Dagster's instance.
        topic: The topic.
        place: The log that the offsets belong to.
        partition: The partition of the assets that were to be recomputed; None for assets without.
    """
    tags = {TOPIC_TAG: topic, LOG_TAG: place} | ({} if partition is None else {PARTITION_TAG: partition})
    records = instance.get_run_records(dg.RunsFilter(tags=tags), limit=RECENT)
    return [
        Attempt(
            OffsetRange.parse(record.dagster_run.tags[EVENTS_TAG]),
            int(record.dagster_run.tags[ATTEMPT_TAG]),
            OUTCOMES.get(record.dagster_run.status, Outcome.RUNNING),
            ended_at=record.end_time or record.update_timestamp.timestamp(),
        )
        for record in records
    ]


def run_request(
    launch: Launch, *, place: str, partition: str | None = None, run_config: dict[str, object] | None = None
) -> dg.RunRequest:
    """The run of an attempt. Its key is the range, the partition and the attempt, so that Dagster launches it once."""
    return dg.RunRequest(
        run_key=f"{place} {launch.events} {partition or ''} attempt {launch.number}",
        partition_key=partition,
        run_config=run_config or {},
        tags={
            TOPIC_TAG: launch.events.topic,
            EVENTS_TAG: str(launch.events),
            LOG_TAG: place,
            ATTEMPT_TAG: str(launch.number),
            # The sensor counts the attempts and waits between them: two who retry would run a batch twice.
            "dagster/max_retries": "0",
        },
    )
