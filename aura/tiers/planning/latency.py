"""Latency as a line, `seconds = intercept + seconds_per_byte * bytes`, and what series of latencies come to.

Belongs here: the statistics of latencies (summaries, means without interruptions, the fit, bootstrap intervals), on
plain arrays. Does not: measuring anything (`rounds.py`, `prediction.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

INTERRUPTED = 4.0
"""A sample above this many medians was interrupted: a preemption or a flush, which hits whatever happens to run."""


@dataclass(frozen=True, slots=True)
class LatencyFit:
    """A line through latencies.

    Attributes:
        intercept_seconds: Latency of an empty object, >= 0.
        seconds_per_byte: Slope, >= 0.
        worst_relative_error: Largest |fit - measured| / measured over the points.
    """

    intercept_seconds: float
    seconds_per_byte: float
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

    Weighting by 1 / latency makes a microsecond count as much at 4 KiB as a millisecond at 4 MiB.

    Args:
        sizes: float[m], bytes, m >= 2, at least two different.
        seconds: float[m], positive latency at each size.

    Raises:
        ValueError: Fewer than two different sizes, or a latency that is not positive.
    """
    x = np.asarray(sizes, dtype=np.float64)
    y = np.asarray(seconds, dtype=np.float64)
    if x.shape != y.shape or len(np.unique(x)) < 2:
        raise ValueError(f"a line needs latencies at two different sizes at least, got sizes {x.tolist()}")
    if not np.all(y > 0):
        raise ValueError(f"latencies must be positive seconds, got {y.tolist()}")
    intercept, slope = (float(each[0]) for each in lines_through(x, y[None, :]))
    errors = np.abs(1 - (intercept + slope * x) / y)
    return LatencyFit(intercept, slope, float(errors.max()))


def lines_through(sizes: Floats, seconds: Floats) -> tuple[Floats, Floats]:
    """The lines of `fit_latency` for several series at once.

    With two coefficients the constrained optimum is the unconstrained one where that has no negative coefficient, and
    otherwise the better of the fits with one of them held at zero.

    Args:
        sizes: float64[m], bytes, at least two different.
        seconds: float64[b, m] > 0.

    Returns:
        Intercepts float64[b] in seconds and slopes float64[b] in seconds per byte, both >= 0.
    """
    unit = sizes.max()
    ones, xs = 1 / seconds, sizes / unit / seconds
    s11, s12, s22 = (ones * ones).sum(axis=1), (ones * xs).sum(axis=1), (xs * xs).sum(axis=1)
    t1, t2 = ones.sum(axis=1), xs.sum(axis=1)
    determinant = s11 * s22 - s12 * s12
    with np.errstate(divide="ignore", invalid="ignore"):
        intercept, slope = (t1 * s22 - t2 * s12) / determinant, (t2 * s11 - t1 * s12) / determinant
    flat, steep = t1 / s11, t2 / s22
    # The residual of a fit with one coefficient c is m - c * t.
    flat_is_better = flat * t1 >= steep * t2
    free = (intercept >= 0) & (slope >= 0)
    intercept = np.where(free, intercept, np.where(flat_is_better, flat, 0.0))
    slope = np.where(free, slope, np.where(flat_is_better, 0.0, steep))
    return intercept, slope / unit


def without_interruptions(seconds: Floats) -> Floats:
    """The samples float64[n], n >= 1, with each above `INTERRUPTED` medians replaced by the mean of the others."""
    interrupted = seconds > INTERRUPTED * np.median(seconds)
    return np.where(interrupted, seconds[~interrupted].mean(), seconds)


def resampled(rounds: int, resamples: int, seed: int) -> Floats:
    """How often each round is drawn in each bootstrap resample, float64[resamples, rounds] (Efron 1979).

    Whole rounds are drawn, since what disturbs one sample of a round disturbs the others too.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(rounds, np.full(rounds, 1 / rounds), size=resamples).astype(np.float64)


def interval(values: Floats) -> tuple[float, float]:
    """The 95 % percentile interval of bootstrapped values float64[resamples]; NaN among them are left out."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


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
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)])
    low, high = interval(means)
    p50, p99 = np.percentile(values, [50, 99])
    return LatencySummary(len(values), float(values.mean()), low, high, float(p50), float(p99))
