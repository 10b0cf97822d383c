"""Does the bound hold that diagrams of landmarks are certified with? Over random clouds, against their full diagrams.

A trial is a cloud of one of five families with 60 to 200 points, a tenth to nine tenths of which are landmarks.
"""

from __future__ import annotations

import numpy as np
from gudhi.hera import bottleneck_distance
from numpy.typing import NDArray
from report import Figure, figure, tell
from scipy.spatial.distance import pdist, squareform

from aura.topology.engine import rips_bars
from aura.topology.landmarks import farthest_point_landmarks
from topology_figures.clouds import clustered, structureless, torus

TRIALS = 200
ROUNDING = 1e-9


def figures(runs: int) -> list[Figure]:  # noqa: ARG001 - one pass over all trials
    """Measure."""
    tell(f"certificates, {TRIALS} trials")
    shares = [_error_over_bound(trial) for trial in range(TRIALS)]
    held = sum(share <= 1 + ROUNDING for share in shares) / TRIALS
    return [
        figure("certified bound holds", [held], "share", against=f"{TRIALS} trials", goal=1.0, at_least=True),
        figure("error / certified bound", [float(np.median(shares))], "ratio", against="median trial"),
        figure("error / certified bound, largest", [max(shares)], "ratio", against=f"{TRIALS} trials"),
    ]


def _error_over_bound(trial: int) -> float:
    rng = np.random.default_rng(trial)
    items = int(rng.integers(60, 201))
    families = (
        lambda: torus(items, trial),
        lambda: clustered(items, trial),
        lambda: structureless(min(items, 120), trial),
        lambda: rng.normal(size=(items, int(rng.integers(1, 9)))),
        lambda: rng.uniform(size=(items, int(rng.integers(2, 5)))),
    )
    points = families[trial % len(families)]()
    marks = farthest_point_landmarks(points, max(2, int(rng.uniform(0.1, 0.9) * len(points))), seed=trial)
    full, some = rips_bars(squareform(pdist(points)), 1), rips_bars(squareform(pdist(points[marks.indices])), 1)
    errors = [bottleneck_distance(_finite(full, k), _finite(some, k), 0.0) for k in (0, 1)]
    return max(errors) / (2 * marks.covering_radius)


def _finite(bars: NDArray[np.float64], dimension: int) -> NDArray[np.float64]:
    return bars[(bars[:, 0] == dimension) & np.isfinite(bars[:, 2]), 1:]
