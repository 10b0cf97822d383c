"""What waits for Neo4j is sent once it is back, even if nothing new is written."""

from __future__ import annotations

import dagster as dg

from aura.graph.errors import GraphError
from aura.resilience.breaker import CircuitOpenError
from aura.resilience.outbox import OutboxError
from resources.lineage import Lineage

SECONDS = 20.0
"""Longest time that one look sends for; Dagster allows a tick a minute."""


@dg.sensor(
    name="waiting_lineage",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Lineage that was written while Neo4j was down is sent once it is back.",
)
def waiting_lineage(
    context: dg.SensorEvaluationContext,  # noqa: ARG001 - every sensor has it
    lineage: dg.ResourceParam[Lineage],
) -> dg.SkipReason:
    """Look every minute."""
    try:
        status = lineage.send_waiting(SECONDS)
    except (GraphError, OutboxError, CircuitOpenError) as error:
        return dg.SkipReason(f"{error} What waits stays on disk, in order.")
    if status.waiting:
        return dg.SkipReason(f"{status.waiting} batches wait for {status.place}; refused for good: {status.refused}.")
    return dg.SkipReason(f"Nothing waits for {status.place}; refused for good: {status.refused}.")
