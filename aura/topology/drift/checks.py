"""What has to hold for a partition to be used without a second look: no drift was found, and it could be looked for."""

from __future__ import annotations

from aura.measure.checks import CheckResult
from aura.topology.drift.report import Decided, DriftReport, Unavailable


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
