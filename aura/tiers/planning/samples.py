"""From timed gets and puts to the tables of a profile.

Belongs here: the tables' columns, and the statistics that fill them. Does not: timing anything (`rounds.py`).

What predicts a mean latency is a mean, but a plain mean of a few samples is mostly the luck of who was interrupted. So
each mean is taken of the samples that were not, and all means of an operation are then raised by the one factor by
which interruptions lengthened all its samples together: they hit whatever runs, in proportion to the time that it
takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aura.measure.energy import Energy
from aura.tiers.planning.latency import Floats, fit_latency, interval, lines_through, resampled, without_interruptions

RESAMPLES = 400

COSTS = pa.schema(
    [
        ("tier", pa.string()),
        ("operation", pa.string()),
        ("kind", pa.string()),
        ("intercept_seconds", pa.float64()),
        ("intercept_low", pa.float64()),
        ("intercept_high", pa.float64()),
        ("seconds_per_byte", pa.float64()),
        ("seconds_per_byte_low", pa.float64()),
        ("seconds_per_byte_high", pa.float64()),
        ("worst_relative_error", pa.float64()),
        ("bandwidth_bytes_per_second", pa.float64()),
        ("joules_per_byte", pa.float64()),
        ("joules_source", pa.string()),
    ]
)
SAMPLES = pa.schema(
    [
        ("tier", pa.string()),
        ("operation", pa.string()),
        ("kind", pa.string()),
        ("bytes", pa.int64()),
        ("reuse_bytes", pa.int64()),
        ("n", pa.int64()),
        ("mean_seconds", pa.float64()),
        ("mean_stderr", pa.float64()),
        ("median_seconds", pa.float64()),
        ("p10_seconds", pa.float64()),
        ("p90_seconds", pa.float64()),
    ]
)
SKIPPED = pa.schema(
    [
        ("tier", pa.string()),
        ("operation", pa.string()),
        ("kind", pa.string()),
        ("bytes", pa.int64()),
        ("reason", pa.string()),
    ]
)

Row = dict[str, str | int | float | None]


class Line(NamedTuple):
    """What has a line of its own."""

    tier: str
    operation: str
    kind: str


class Cell(NamedTuple):
    """What has samples of its own: a line at a size and a reuse distance, both in bytes."""

    line: Line
    size: int
    reuse: int


@dataclass(frozen=True)
class Interruptions:
    """By how much interruptions lengthen an operation.

    Attributes:
        factor: Mean of all samples over their mean without interruptions, >= 1.
        stderr: Its standard error over the rounds.
    """

    factor: float
    stderr: float


@dataclass(frozen=True, eq=False)
class _Rounds:
    """One cell's samples, by round: how many, their sum and their sum without interruptions, each float64[rounds]."""

    counts: Floats
    sums: Floats
    calm_sums: Floats
    seconds: Floats


def tabulate(
    timed: Mapping[Cell, Sequence[tuple[int, NDArray[np.float64]]]],
    energies: Mapping[Line, tuple[Energy, int]],
    *,
    rounds: int,
    seed: int,
) -> tuple[pa.Table, pa.Table, dict[str, Interruptions]]:
    """Summarise samples and fit the lines.

    A line goes through the means at the largest reuse distance: reads of an object between reads of many others. Its
    intervals are 95 % bootstrap intervals over the rounds.

    Args:
        timed: (round, seconds float64[m]) of each cell, the rounds counted from 0.
        energies: What a window of a line's operation used, and how many bytes it read or wrote.
        rounds: Number of rounds.
        seed: Seed of the bootstrap.

    Returns:
        Tables with the schemas `COSTS` and `SAMPLES`, and the interruptions by operation. A line with fewer than two
        sizes has samples but no costs.
    """
    cells = {cell: _by_round(timed[cell], rounds) for cell in sorted(timed)}
    draws = resampled(rounds, RESAMPLES, seed)
    operations = sorted({cell.line.operation for cell in cells})
    interruptions = {
        name: _interruptions([each for cell, each in cells.items() if cell.line.operation == name], draws)
        for name in operations
    }
    samples = [_sample(cell, each, interruptions[cell.line.operation].factor, draws) for cell, each in cells.items()]
    costs = []
    for line in sorted({cell.line for cell in cells}):
        farthest = {cell.size: cell for cell in cells if cell.line == line}
        if len(farthest) >= 2:
            factor = interruptions[line.operation].factor
            costs.append(_cost(line, [(cell.size, cells[cell]) for cell in farthest.values()], factor, draws))
            costs[-1] |= _joules(energies.get(line))
    return (
        pa.Table.from_pylist(costs, schema=COSTS),
        pa.Table.from_pylist(samples, schema=SAMPLES),
        interruptions,
    )


def _by_round(timed: Sequence[tuple[int, NDArray[np.float64]]], rounds: int) -> _Rounds:
    seconds = np.concatenate([each for _, each in timed])
    place = np.concatenate([np.full(len(each), number) for number, each in timed])
    calm = without_interruptions(seconds)
    membership = np.equal.outer(np.arange(rounds), place).astype(np.float64)
    return _Rounds(membership.sum(axis=1), membership @ seconds, membership @ calm, seconds)


def _interruptions(cells: Sequence[_Rounds], draws: Floats) -> Interruptions:
    sums = np.sum([each.sums for each in cells], axis=0)
    calm_sums = np.sum([each.calm_sums for each in cells], axis=0)
    return Interruptions(float(sums.sum() / calm_sums.sum()), float(((draws @ sums) / (draws @ calm_sums)).std()))


def _means(each: _Rounds, draws: Floats) -> Floats:
    """Bootstrapped means without interruptions, float64[resamples]; where no round with samples was drawn, the mean."""
    counts = draws @ each.counts
    mean = each.calm_sums.sum() / each.counts.sum()
    return np.where(counts > 0, (draws @ each.calm_sums) / np.maximum(counts, 1), mean)


def _sample(cell: Cell, each: _Rounds, factor: float, draws: Floats) -> Row:
    p10, median, p90 = (float(value) for value in np.percentile(each.seconds, [10, 50, 90]))
    return {
        "tier": cell.line.tier,
        "operation": cell.line.operation,
        "kind": cell.line.kind,
        "bytes": cell.size,
        "reuse_bytes": cell.reuse,
        "n": len(each.seconds),
        "mean_seconds": factor * float(each.calm_sums.sum() / each.counts.sum()),
        "mean_stderr": factor * float(_means(each, draws).std()),
        "median_seconds": median,
        "p10_seconds": p10,
        "p90_seconds": p90,
    }


def _cost(line: Line, points: Sequence[tuple[int, _Rounds]], factor: float, draws: Floats) -> Row:
    sizes = np.array([size for size, _ in points], dtype=np.float64)
    fit = fit_latency(sizes, [factor * each.calm_sums.sum() / each.counts.sum() for _, each in points])
    redrawn = np.stack([factor * _means(each, draws) for _, each in points], axis=1)
    intercepts, slopes = lines_through(sizes, redrawn)
    intercept_low, intercept_high = interval(intercepts)
    slope_low, slope_high = interval(slopes)
    return {
        "tier": line.tier,
        "operation": line.operation,
        "kind": line.kind,
        "intercept_seconds": fit.intercept_seconds,
        "intercept_low": intercept_low,
        "intercept_high": intercept_high,
        "seconds_per_byte": fit.seconds_per_byte,
        "seconds_per_byte_low": slope_low,
        "seconds_per_byte_high": slope_high,
        "worst_relative_error": fit.worst_relative_error,
        "bandwidth_bytes_per_second": 1 / fit.seconds_per_byte if fit.seconds_per_byte > 0 else None,
    }


def _joules(window: tuple[Energy, int] | None) -> Row:
    if window is None or window[0].joules is None:
        return {"joules_per_byte": None, "joules_source": "unavailable"}
    energy, size = window
    return {"joules_per_byte": (energy.joules or 0.0) / size, "joules_source": energy.source}
