"""What stops working when something else does.

Belongs here: the map between services, the order to start them in, and what follows from a failure. Does not: finding
out whether a service works.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from graphlib import TopologicalSorter


class Severity(StrEnum):
    """What the loss of a service does to one that uses it."""

    FAILS = "fails"
    DEGRADES = "degrades"


@dataclass(frozen=True)
class Dependency:
    """One service uses another.

    Attributes:
        service: Who uses.
        on: What is used.
        severity: Whether it can go on without.
        effect: What is seen when it has to.
    """

    service: str
    on: str
    severity: Severity
    effect: str


DEPENDENCIES = (
    Dependency("dagster", "postgres", Severity.FAILS, "runs, schedules and sensors have no storage"),
    Dependency("dagster", "store", Severity.FAILS, "materializations cannot be loaded or stored, runs fail"),
    Dependency("dagster", "kafka", Severity.DEGRADES, "sensors skip with a reason; events wait in the outbox"),
    Dependency("dagster", "event_log", Severity.DEGRADES, "sensors skip with a reason"),
    Dependency("dagster", "neo4j", Severity.DEGRADES, "lineage waits in the outbox"),
    Dependency("dagster", "graph", Severity.DEGRADES, "lineage is not written"),
    Dependency("dagster", "mlflow", Severity.DEGRADES, "costs are not recorded; runs go on"),
    Dependency("store", "redis", Severity.DEGRADES, "no remote warm copies; objects are read from the other tiers"),
    Dependency("grafana", "prometheus", Severity.DEGRADES, "the panels are empty"),
)


@dataclass(frozen=True)
class Consequence:
    """What becomes of one service when another is down."""

    service: str
    severity: Severity
    effect: str


def needs(service: str, present: Collection[str]) -> list[Dependency]:
    """What a service uses, of the services that are present."""
    return [d for d in DEPENDENCIES if d.service == service and d.on in present]


def start_order(present: Collection[str]) -> list[str]:
    """The services so that each comes after those that it uses; otherwise in the order given."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for service in present:
        sorter.add(service, *(d.on for d in needs(service, present)))
    return list(sorter.static_order())


def consequences(failed: str, present: Collection[str]) -> list[Consequence]:
    """What else fails or degrades when one service is down.

    A failure is passed on; a service that is only degraded still serves those that use it.
    """
    found: dict[str, Consequence] = {}
    down = [failed]
    while down:
        lost = down.pop()
        for d in DEPENDENCIES:
            known = found.get(d.service)
            if d.on != lost or d.service not in present or (known is not None and known.severity is Severity.FAILS):
                continue
            if known is None or d.severity is Severity.FAILS:
                found[d.service] = Consequence(d.service, d.severity, d.effect)
            if d.severity is Severity.FAILS:
                down.append(d.service)
    return list(found.values())
