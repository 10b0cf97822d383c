"""Latency as a line: `seconds = intercept + seconds_per_byte * bytes`, fitted to measured medians.

Belongs here: the statistics of latencies (summaries, the fit, bootstrap intervals), on plain arrays.
Does not: measuring anything (`profile.py`, `placement.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True)
class LatencyFit:
    """A line through latencies.

    Attributes:
        intercept_seconds: Latency of an empty object, >= 0.
        seconds_per_byte: Slope, >= 0.
        intercept_stderr: Standard error in seconds; None with two points, where nothing is left to estimate it from.
        seconds_per_byte_stderr: Standard error of the slope; None likewise.
        worst_relative_error: Largest |fit - measured| / measured over the points.
    """

    intercept_seconds: float
    seconds_per_byte: float
    intercept_stderr: float | None
    seconds_per_byte_stderr: float | None
    worst_relative_error: float


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Latencies of one series of accesses.

    Attributes:
        n: Number of accesses.
        mean_seconds: Arithmetic mean.
        mean_low: Lower end of the 95 % percentile bootstrap interval of the mean.
        mean_high: Upper end.
        p50_seconds: Median.
        p99_seconds: 99th percentile.
    """

    n: int
    mean_seconds: float
    mean_low: float
    mean_high: float
    p50_seconds: float
    p99_seconds: float


def fit_latency(sizes: ArrayLike, seconds: ArrayLike) -> LatencyFit:
    """Fit a line by least squares of the relative error, with neither coefficient below zero.

    Weighting by 1 / latency makes a microsecond count as much at 4 KiB as a millisecond at 4 MiB. Medians go in, so a
    page fault or a preemption in single samples does not bend the line. The standard errors are those of weighted
    least squares without the sign constraint.

    Args:
        sizes: float[m], bytes, m >= 2, at least two different.
        seconds: float[m], positive median latency at each size.

    Raises:
        ValueError: Fewer than two different sizes, or a latency that is not positive.
    """
    from scipy.optimize import nnls  # 0.8 s of CPU that reading a profile need not pay

    x = np.asarray(sizes, dtype=np.float64)
    y = np.asarray(seconds, dtype=np.float64)
    if x.shape != y.shape or len(np.unique(x)) < 2:
        raise ValueError(f"a line needs latencies at two different sizes at least, got sizes {x.tolist()}")
    if not np.all(y > 0):
        raise ValueError(f"latencies must be positive seconds, got {y.tolist()}")
    unit = x.max()
    design = np.column_stack([1 / y, x / unit / y])
    coefficients, _ = nnls(design, np.ones_like(y))
    residuals = 1 - design @ coefficients
    errors: tuple[float | None, float | None] = (None, None)
    if len(x) > 2:
        variance = residuals @ residuals / (len(x) - 2)
        deviations = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
        errors = (float(deviations[0]), float(deviations[1] / unit))
    return LatencyFit(
        intercept_seconds=float(coefficients[0]),
        seconds_per_byte=float(coefficients[1] / unit),
        intercept_stderr=errors[0],
        seconds_per_byte_stderr=errors[1],
        worst_relative_error=float(np.abs(residuals).max()),
    )


def summarize_latencies(seconds: ArrayLike, *, resamples: int, seed: int) -> LatencySummary:
    """Summarise latencies, with a percentile bootstrap of the mean (Efron 1979).

    Args:
        seconds: float[n], n >= 1.
        resamples: Bootstrap resamples.
        seed: Seed of the resampling.

    Raises:
        ValueError: No latency was given.
    """
    values = np.asarray(seconds, dtype=np.float64)
    if len(values) == 0:
        raise ValueError("no latencies to summarise")
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)]
    low, high = np.percentile(means, [2.5, 97.5])
    p50, p99 = np.percentile(values, [50, 99])
    return LatencySummary(len(values), float(values.mean()), float(low), float(high), float(p50), float(p99))
