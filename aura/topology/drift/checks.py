"""What has to hold for a partition to be used without a second look: no drift was found, and it could be looked for."""

from __future__ import annotations

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


def reference_is_large_enough(reference: DriftReference) -> CheckResult:
    """Check that an unchanged source of this many items could raise an alarm, were it to drift.

    An unchanged source deals its items out in halves; each half has to give so many blocks that some p-value is as
    small as the level.
    """
    settings = DriftSettings()
    blocks = next(count for count in range(2, 100) if smallest_p_value(count, count) <= settings.level)
    needed = 2 * blocks * settings.smallest_block
    return CheckResult(
        passed=len(reference.ids) >= needed,
        figures={"items": float(len(reference.ids)), "needed": float(needed)},
        description=f"{len(reference.ids)} items are kept; two halves of at least {needed} can tell drift by shape.",
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
