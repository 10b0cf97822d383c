"""Alarms counted over many trials, as rates with exact binomial intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from report import Figure, figure
from scipy.stats import binomtest

from aura.topology.drift.report import Decided, DriftReport
from aura.topology.drift.settings import DriftSettings

SETTINGS = DriftSettings(false_alarms=0.1)
"""199 permutations: p-values are multiples of 1/200, so that the levels below are exact."""
NOMINAL = (0.1, 0.05, 0.01)
POWER_LEVEL = 0.05

PValues = tuple[float, float]


def p_values(reports: Iterable[DriftReport]) -> list[PValues]:
    """Of topology and of the plain test; 1 where a test could not be made, which raises no alarm."""
    return [(_p(report.topology), _p(report.plain)) for report in reports]


def calibration(name: str, found: list[PValues]) -> list[Figure]:
    """False alarms without drift at each nominal rate: each test, and the decision that gives half to either."""
    rows = []
    for nominal in NOMINAL:
        for test, alarms in _alarms(found, nominal).items():
            low, high = interval(alarms, len(found))
            row = figure(
                f"no drift, {name}, {test}: false alarms (and 95 % interval) at {nominal:g}",
                [low, high],
                "share",
                value=alarms / len(found),
                against=f"{len(found)} trials",
                goal=nominal,
            )
            rows.append({**row, "holds": low <= nominal <= high})
    return rows


def power(name: str, found: list[PValues]) -> list[Figure]:
    """Alarms of each test and of the decision at `POWER_LEVEL`."""
    return rates(
        f"{name}, {{}}: alarms (and 95 % interval) at {POWER_LEVEL:g}", _alarms(found, POWER_LEVEL), len(found)
    )


def rates(name: str, counts: Mapping[str, int], trials: int) -> list[Figure]:
    """Shares of trials without a goal; `name` has a place for what is counted."""
    return [
        figure(
            name.format(what), list(interval(count, trials)), "share", value=count / trials, against=f"{trials} trials"
        )
        for what, count in counts.items()
    ]


def interval(successes: int, trials: int) -> tuple[float, float]:
    """Clopper-Pearson interval of 95 %."""
    found = binomtest(successes, trials).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def _alarms(found: list[PValues], nominal: float) -> dict[str, int]:
    return {
        "topology": sum(topology <= nominal for topology, _ in found),
        "plain": sum(plain <= nominal for _, plain in found),
        "decision": sum(min(both) <= nominal / 2 for both in found),
    }


def _p(outcome: object) -> float:
    return outcome.p_value if isinstance(outcome, Decided) else 1.0
