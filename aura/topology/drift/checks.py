"""What has to hold for a partition to be used without a second look: no drift was found, and it could be looked for."""

from __future__ import annotations

import numpy as np

from aura.measure.checks import CheckResult
from aura.topology.drift.embeddings import DriftReference
from aura.topology.drift.permutation import smallest_p_value
from aura.topology.drift.report import Decided, DriftReport, Unavailable
from aura.topology.drift.settings import DriftSettings


def no_drift(report: DriftReport) -> CheckResult:
    """Check that neither test raised an alarm; without drift it fails with a probability of at most the budget."""
    figures = {"false_alarms": report.settings.false_alarms}
    for name, test in (("topology", report.topology), ("plain", report.plain)):
        if isinstance(test, Decided):
            figures |= {
                f"{name}_statistic": test.statistic,
                f"{name}_threshold": test.threshold,
                f"{name}_p_value": test.p_value,
            }
    return CheckResult(passed=not report.drifted, figures=figures, description=report.sentence)


def drift_was_tested(report: DriftReport) -> CheckResult:
    """Check that both tests could be made."""
    missing = {
        name: test.reason
        for name, test in (("topology", report.topology), ("plain", report.plain))
        if isinstance(test, Unavailable)
    }
    told = "; ".join(f"{name}: {reason}" for name, reason in missing.items()) or "both were"
    return CheckResult(
        passed=not missing,
        figures={
            "tests_made": 2.0 - len(missing),
            "reference": report.reference.items,
            "current": report.current.items,
        },
        description=f"Both tests for drift can be made; {told}.",
    )


def items_needed(settings: DriftSettings, unit: int) -> int:
    """Fewest items with which an unchanged source, dealt out in halves, could raise an alarm were it to drift.

    Args:
        settings: How drift is decided; the level is that of one of its two tests.
        unit: Items of a block or window.
    """
    each = next(count for count in range(2, 1000) if smallest_p_value(count, count) <= settings.level)
    return 2 * each * unit


def reference_is_sound(reference: DriftReference) -> CheckResult:
    """Check that every item of a reference is there once, with a vector that distances can be computed of."""
    repeated = len(reference.ids) - len(set(reference.ids))
    unusable = int((~np.isfinite(reference.vectors).all(axis=1)).sum())
    return CheckResult(
        passed=repeated == 0 and unusable == 0,
        figures={"items": float(len(reference.ids)), "repeated": float(repeated), "not_finite": float(unusable)},
        description=f"Of {len(reference.ids)} items {repeated} are there again and {unusable} are not finite.",
    )


def windows_are_exchangeable(report: DriftReport) -> CheckResult:
    """Check that neighbouring windows are no more alike than others; where they are, drift is found too often.

    Without such dependence it fails with the probability `settings.level`.
    """
    level, found = report.settings.level, report.neighbours_alike
    if found is None:
        return CheckResult(passed=True, figures={"level": level}, description="There is no order in time to look at.")
    told = (
        "no more alike than others" if report.exchangeable else "more alike than others: take longer windows, or gaps"
    )
    return CheckResult(
        passed=report.exchangeable,
        figures={"p_value": found, "level": level},
        description=f"Neighbouring windows are {told} (p = {found:.2g} at level {level:.2g}).",
    )
