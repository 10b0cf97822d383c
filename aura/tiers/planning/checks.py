"""Statements that a tier profile and a placement have to fulfil."""

from __future__ import annotations

import pyarrow.compute as pc

from aura.measure.checks import CheckResult
from aura.tiers.planning.placement import TierPlacement
from aura.tiers.planning.profile import TierProfile
from aura.tiers.records import Tier

WORST_FIT = 1.0
"""A fitted line that is off by more than the latency itself at a measured size describes no tier."""


WORST_PREDICTION = 1.0
"""A predicted mean further from the measured one than this, beyond the intervals of both, is that of another machine or
of one that was busy with something else."""


def costs_are_sound(profile: TierProfile) -> CheckResult:
    """Whether the durable tier was measured and every fitted line is near the medians that it was fitted to."""
    worst = pc.max(profile.costs["worst_relative_error"]).as_py()
    error = float("inf") if worst is None else float(worst)
    measured = Tier.L3 in profile.tiers
    return CheckResult(
        passed=measured and error <= WORST_FIT,
        figures={"tiers": float(len(profile.tiers))} | ({} if worst is None else {"worst_relative_error": error}),
        description=f"tiers measured: {', '.join(profile.tiers) or 'none'}; the fitted lines are at most "
        f"{error:.0%} off the measured medians (at most {WORST_FIT:.0%} is allowed)",
    )


def within_capacity(placement: TierPlacement) -> CheckResult:
    """Whether no tier holds more than its capacity, and the plan does not claim to cost less than its lower bound."""
    over = placement.over_capacity
    honest = placement.planned_cost_seconds >= placement.lower_bound_seconds * (1 - 1e-9)
    return CheckResult(
        passed=not over and honest,
        figures={"tiers_over_capacity": float(len(over)), "gap_to_bound": placement.gap},
        description=f"tiers over their capacity: {', '.join(over) or 'none'}; planned cost "
        f"{placement.planned_cost_seconds:.6f} s against the lower bound {placement.lower_bound_seconds:.6f} s",
    )


def not_slower(placement: TierPlacement) -> CheckResult:
    """Whether the replayed accesses are, within the bootstrap interval, no slower after the moves than before."""
    before, after = placement.measured_before, placement.measured_after
    if before is None or after is None:
        return CheckResult(passed=True, figures={}, description="there were no accesses to replay")
    return CheckResult(
        passed=after.mean_low <= before.mean_high,
        figures={"mean_us_before": 1e6 * before.mean_seconds, "mean_us_after": 1e6 * after.mean_seconds},
        description=f"mean get {1e6 * before.mean_seconds:.1f} us before the placement and "
        f"{1e6 * after.mean_seconds:.1f} us after it, over {after.n} replayed accesses",
    )


def as_predicted(placement: TierPlacement) -> CheckResult:
    """Whether reading costs after the moves what the profile said that it would."""
    replay = placement.replay_after
    if replay is None:
        return CheckResult(passed=True, figures={}, description="there were no accesses to replay")
    predicted, measured = replay.predicted, replay.measured
    low, high = predicted.mean_low / (1 + WORST_PREDICTION), predicted.mean_high * (1 + WORST_PREDICTION)
    return CheckResult(
        passed=measured.mean_high >= low and measured.mean_low <= high,
        figures={"relative_error": replay.relative_error},
        description=f"predicted mean get {1e6 * predicted.mean_seconds:.1f} us, measured "
        f"{1e6 * measured.mean_seconds:.1f} us, {replay.relative_error:+.0%}, over {measured.n} replayed accesses",
    )
