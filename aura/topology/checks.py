"""What has to hold for any diagram; a diagram that breaks it was computed or stored wrongly."""

from __future__ import annotations

import numpy as np

from aura.measure.checks import CheckResult
from aura.topology.diagrams import PersistenceDiagrams


def births_before_deaths(diagrams: PersistenceDiagrams) -> CheckResult:
    """Check that every bar is born, at a finite scale, no later than it dies."""
    birth, death = diagrams.table["birth"].to_numpy(), diagrams.table["death"].to_numpy()
    violations = int((~(np.isfinite(birth) & (birth <= death))).sum())
    return CheckResult(
        passed=violations == 0,
        figures={"bars": float(len(birth)), "violations": float(violations)},
        description=f"Every bar is born no later than it dies: {violations} of {len(birth)} bars are not.",
    )


def finite_h1(diagrams: PersistenceDiagrams) -> CheckResult:
    """Check that every H1 bar ends where the complex ends as a cone or a disc.

    A graph may hold loops that nothing fills, and a threshold leaves bars without an end: there is nothing to check.
    """
    death = diagrams.table["death"].to_numpy()[diagrams.table["dimension"].to_numpy() == 1]
    endless = int((~np.isfinite(death)).sum())
    may_be_endless = diagrams.provenance.source == "graph" or diagrams.provenance.threshold is not None
    return CheckResult(
        passed=endless == 0 or may_be_endless,
        figures={"h1_bars": float(len(death)), "without_end": float(endless)},
        description=f"H1 bars that do not end: {endless} of {len(death)};"
        + (" loops may stay open here." if may_be_endless else " where the filtration ends, every loop is filled."),
    )
