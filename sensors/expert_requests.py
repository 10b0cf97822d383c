"""Requests that were answered by a mixture of experts become partitions, and their activations are kept.

The events on `expert.requests` are read on from the cursor, which only saves reading: a request whose run has succeeded
is left alone, and one whose run has failed is tried again, as `aura.events.batches` decides. One that has failed too
often is let go: another event of it is another range.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import dagster as dg

from aura.events.batches import Done, Launch, OffsetRange, RetryPolicy, decide
from aura.events.errors import EventError
from aura.events.groups import REQUESTS_SENSOR
from aura.events.scan import Scan
from aura.experts.routing.requests import TOPIC, request_of
from resources.events import Events
from sensors.attempts import attempts_at, run_request
from sensors.cursors import cursor_at, read_on, tell_the_log

POLICY = RetryPolicy()
"""Attempts at a request and the waits between them."""

MOST = 20
"""Runs that one look asks for; further requests wait for the next."""


def expert_requests(
    target: dg.UnresolvedAssetJobDefinition,
    partitions: dg.DynamicPartitionsDefinition,
    config_of: Callable[[OffsetRange], dict[str, object]],
    *,
    policy: RetryPolicy = POLICY,
    clock: Callable[[], float] = time.time,
) -> dg.SensorDefinition:
    """A sensor that makes a partition of each request and asks for the run that keeps its activations.

    Args:
        target: The job that keeps the activations of one request.
        partitions: The requests.
        config_of: Run configuration that tells the job which events to read.
        policy: How often a request is tried, and how long it waits in between.
        clock: Seconds since 1970.
    """

    @dg.sensor(
        name="expert_requests",
        job=target,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Requests on {TOPIC} become partitions; at most {MOST} runs are asked for at a time.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, events: dg.ResourceParam[Events]
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            with events.open() as log:
                place = log.identity(TOPIC)
                scan, buried = read_on(log, TOPIC, context.cursor, request_of, group=REQUESTS_SENSOR)
                scan, launches, given_up = _decided(context.instance, scan, place, policy, clock())
                untold = tell_the_log(log, TOPIC, scan, group=REQUESTS_SENSOR)
        except EventError as error:
            return dg.SkipReason(f"{error} No event is lost: the next look goes on from the same place.")
        said = f"{len(launches)} of {len(scan.found)} requests are kept now."
        if given_up:
            said += f" {given_up} failed {policy.attempts} times and are let go."
        if buried:
            said += f" {buried} records could not be decoded and went to {TOPIC}.dead."
        if untold:
            said += f" {untold}."
        context.log.info(said)
        there = partitions.get_partition_keys(dynamic_partitions_store=context.instance)
        new = sorted(launches.keys() - set(there))
        return dg.SensorResult(
            run_requests=[
                run_request(launch, place=place, partition=request, run_config=config_of(launch.events))
                for request, launch in launches.items()
            ],
            skip_reason=None if launches else said,
            dynamic_partitions_requests=[partitions.build_add_request(new)] if new else [],
            cursor=cursor_at(place, scan),
        )

    return sensor


def _decided(
    instance: dg.DagsterInstance, scan: Scan, place: str, policy: RetryPolicy, now: float
) -> tuple[Scan, dict[str, Launch], int]:
    """The scan without what is done or let go, at most `MOST` requests that are tried now, and how many are let go."""
    launches: dict[str, Launch] = {}
    given_up = 0
    for request, pending in scan.pending(TOPIC):
        if len(launches) == MOST:
            break
        decision = decide(pending, attempts_at(instance, TOPIC, place, request), now=now, policy=policy)
        if isinstance(decision, Done):
            scan = scan.without(request, pending.partition, decision.events.end)
        elif isinstance(decision, Launch):
            launches[request] = decision
        elif decision.given_up:
            scan = scan.without(request, pending.partition, pending.end)
            given_up += 1
    return scan, launches, given_up
