"""What was written while a server was down is sent once it is back, even if nothing new is written."""

from __future__ import annotations

import dagster as dg

from aura.events.errors import EventError
from aura.graph.errors import GraphError
from aura.resilience.breaker import CircuitOpenError
from aura.resilience.outbox import OutboxError
from resources.events import Events
from resources.lineage import Lineage

SECONDS = 20.0
"""Longest time that one look sends for, to each server; Dagster allows a tick a minute."""


def _sent(what: str, waiting: int) -> str:
    return f"No {what} wait." if not waiting else f"{waiting} {what} still wait."


@dg.sensor(
    name="waiting_writes",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Events and lineage that were written while Kafka or Neo4j was down are sent once it is back.",
)
def waiting_writes(
    context: dg.SensorEvaluationContext,  # noqa: ARG001 - every sensor has it
    lineage: dg.ResourceParam[Lineage],
    events: dg.ResourceParam[Events],
) -> dg.SkipReason:
    """Look every minute."""
    said = []
    for what, send in (("events", events.send_waiting), ("batches of lineage", lineage.send_waiting)):
        try:
            said.append(_sent(what, send(SECONDS)))
        except (EventError, GraphError, OutboxError, CircuitOpenError) as error:
            said.append(f"The {what} that wait stay on disk, in order: {error}")
    return dg.SkipReason(" ".join(said))
