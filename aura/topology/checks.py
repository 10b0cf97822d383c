"""What has to hold for any Rips diagram; a diagram that breaks it was computed or stored wrongly."""

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
    """Check that every H1 bar ends: at the enclosing radius the Rips complex is a cone, so no loop survives it."""
    death = diagrams.table["death"].to_numpy()[diagrams.table["dimension"].to_numpy() == 1]
    endless = int((~np.isfinite(death)).sum())
    return CheckResult(
        passed=endless == 0,
        figures={"h1_bars": float(len(death)), "without_end": float(endless)},
        description=f"Every H1 bar ends by the enclosing radius: {endless} of {len(death)} do not.",
    )
