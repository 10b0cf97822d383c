"""The report of `aura status`: every service with what was asked of it, what it answered, and what hangs on it.

Belongs here: which services there are, the report and its JSON form (`status.schema.json` beside this file; a change
that removes or renames something raises `SCHEMA_VERSION`). Does not: the probes, the layout on a terminal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from aura.services.dependencies import Consequence, Dependency, consequences, needs, start_order
from aura.services.file_probes import event_log_probe, graph_probe, owner_probe, store_probe
from aura.services.http_probes import dagster_probe, grafana_probe, mlflow_probe, prometheus_probe, temporal_probe
from aura.services.network_probes import kafka_probe, neo4j_probe, postgres_probe, redis_probe
from aura.services.probe import Finding, Probe, State, run_all
from aura.settings import Settings

SCHEMA_VERSION = 1
SCHEMA_FILE = Path(__file__).with_name("status.schema.json")
CALL_SECONDS = 3.0
"""Time-out of one remote call."""
TOTAL_SECONDS = 6.0
"""A probe makes several calls; after this it is given up whatever it waits for."""

_PROBES: tuple[Callable[[Settings], Probe], ...] = (
    kafka_probe,
    event_log_probe,
    neo4j_probe,
    graph_probe,
    redis_probe,
    postgres_probe,
    store_probe,
    mlflow_probe,
    dagster_probe,
    temporal_probe,
    prometheus_probe,
    grafana_probe,
)


@dataclass(frozen=True)
class Service:
    """One service in the report.

    Attributes:
        finding: What was found.
        needs: What it uses of the configured services.
        when_down: What follows when it is down.
    """

    finding: Finding
    needs: list[Dependency]
    when_down: list[Consequence]

    @property
    def name(self) -> str:
        """Its name."""
        return self.finding.probe.service


@dataclass(frozen=True)
class Report:
    """The state of all services.

    Attributes:
        checked_at: When.
        seconds: How long all of it took.
        services: One entry per service that AURA knows.
        start_order: The configured services, each after those that it uses.
    """

    checked_at: datetime
    seconds: float
    services: list[Service]
    start_order: list[str]

    @property
    def healthy(self) -> bool:
        """Whether nothing failed; what is not configured does not count."""
        return all(service.finding.state is not State.FAILED for service in self.services)

    def to_json(self) -> dict[str, Any]:
        """The report as `status.schema.json` describes it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "checked_at": self.checked_at.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 4),
            "healthy": self.healthy,
            "start_order": self.start_order,
            "services": [_service_json(service) for service in self.services],
        }


def check_services(
    settings: Settings,
    *,
    now: datetime,
    call_seconds: float = CALL_SECONDS,
    total_seconds: float = TOTAL_SECONDS,
    looking_on: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """Do a real operation on every configured service, all at once.

    Args:
        settings: What is configured.
        now: The time for the report.
        call_seconds: Time-out of one remote call.
        total_seconds: Deadline of all probes together.
        looking_on: Ask the tiered store's owner only, and never write to the store or own it.
        clock: Seconds.
    """
    chosen = [owner_probe if looking_on and make is store_probe else make for make in _PROBES]
    probes = [make(settings) for make in chosen]  # imports the clients, which is not the servers' time
    begin = clock()
    findings = run_all(probes, call_seconds=call_seconds, total_seconds=total_seconds, clock=clock)
    present = [f.probe.service for f in findings if f.state is not State.NOT_CONFIGURED]
    services = [
        Service(f, needs(f.probe.service, present), consequences(f.probe.service, present))
        if f.probe.service in present
        else Service(f, [], [])
        for f in findings
    ]
    return Report(now, clock() - begin, services, start_order(present))


def _service_json(service: Service) -> dict[str, Any]:
    finding = service.finding
    asked = finding.state is not State.NOT_CONFIGURED
    return {
        "service": service.name,
        "state": finding.state.value,
        "operation": finding.probe.operation if asked else None,
        "address": finding.probe.address,
        "seconds": None if finding.seconds is None else round(finding.seconds, 4),
        "version": finding.version,
        "error": finding.error,
        "remedy": finding.probe.remedy if finding.state is State.FAILED else None,
        "note": finding.probe.absent,
        "needs": [{"service": d.on, "severity": d.severity.value} for d in service.needs],
        "when_down": [
            {"service": c.service, "severity": c.severity.value, "effect": c.effect} for c in service.when_down
        ],
    }
