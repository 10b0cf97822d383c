"""What has to hold for what summarises diagrams: vectors, averaged landscapes, loops."""

from __future__ import annotations

from aura.measure.checks import CheckResult
from aura.topology.cycles import RepresentativeCycles
from aura.topology.subsamples import AveragedLandscapes
from aura.topology.vectors import TopologyVectors

MOST_OUTSIDE = 0.1
"""Share of the bars outside of the grid beyond which vectors tell little of the diagrams."""

FEWEST_SUBSAMPLES = 30
"""With fewer, the bootstrap's band is too narrow."""


def within_the_grid(vectors: TopologyVectors) -> CheckResult:
    """Check that the grid, which may have been fitted on another partition, holds nearly all finite bars."""
    counts = vectors.provenance.counts
    shares = [each.outside / max(each.bars - each.endless, 1) for each in counts]
    return CheckResult(
        passed=max(shares) <= MOST_OUTSIDE,
        figures={f"outside_h{dimension}": share for dimension, share in enumerate(shares)},
        description=f"Of the bars, {max(shares):.1%} are outside of the grid that was fitted on "
        f"{vectors.provenance.parameters.fitted_on} (at most {MOST_OUTSIDE:.0%}).",
    )


def a_band_to_trust(averaged: AveragedLandscapes) -> CheckResult:
    """Check that there are enough subsamples for the band, and that no range cuts off what they hold."""
    provenance = averaged.provenance
    cut = sum(provenance.outside)
    return CheckResult(
        passed=provenance.count >= FEWEST_SUBSAMPLES and cut == 0,
        figures={"subsamples": float(provenance.count), "bars_cut": float(cut)},
        description=f"{provenance.count} subsamples (at least {FEWEST_SUBSAMPLES}), {cut} of their bars cut off.",
    )


def loops_are_exact(cycles: RepresentativeCycles) -> CheckResult:
    """Check that each cycle surely represents its bar."""
    exact = sum(cycle.exact is True for cycle in cycles.cycles)
    return CheckResult(
        passed=exact == len(cycles.cycles),
        figures={"cycles": float(len(cycles.cycles)), "exact": float(exact)},
        description=f"{exact} of {len(cycles.cycles)} cycles surely represent their bar; of the others that is open.",
    )
