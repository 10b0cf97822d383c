"""What the gaps between two reads of an object say: the chance of a further read by class and age, and cycles.

Belongs here: what the online layer and the simulated policies learn from alike. Does not: their books, or what they
decide with it (`online`, `replay`).

A class is the octave of the last gap with that of a moving average of all. The chance of a read at an age is a hazard
rate with reads that are still awaited as censored (E. L. Kaplan, P. Meier, "Nonparametric estimation from incomplete
observations", JASA 53, 1958). In a cycle an object is read a whole number of cycles after its last read, with a chance
that is the mean of a short and a long moving average (ARMS, arXiv 2508.04417).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OCTAVES = 24
CLASSES = 1 + OCTAVES * (OCTAVES + 1)
"""Class 0 was read once; then the octave of the last gap times that of their average, or none after two reads."""
MEMORY = 0.5
"""Weight of what was in the average of the logarithms of the gaps."""
AGES_PER_OCTAVE = 2
AGES = OCTAVES * AGES_PER_OCTAVE
PRIOR = 16.0
"""Reads that the experience of the wider class counts for."""
FADING = 0.9
"""Weight of past experience when it is learned anew."""

SHORT, LONG = 0.3, 0.03
"""Weights of the latest cycle in the two averages."""
SHORT_WEIGHT = 0.3
"""Of the short average in their mean."""
FIRST_CHANCE = 0.05
"""Chance of a read in a cycle for an object that was read once."""
CYCLE_GAPS = 1024
"""Latest gaps in which a cycle is looked for, each time that so many have come."""
SHORTEST, LONGEST = 32, 1 << 16
"""Cycles that are looked for, in reads."""
SLACK = 64
"""A read may come this part of a cycle too early or too late: within a layer the order changes."""
BINS_PER_OCTAVE = 16
LEAST_AGREEMENT = 0.5
"""Share of the gaps that have to be whole cycles; 2 / SLACK of them are by chance."""


def hazards(reads: NDArray[np.floating], censored: NDArray[np.floating]) -> NDArray[np.floating]:
    """[CLASSES, AGES], the chance of a read in each bin of age for what came to it.

    A class with little experience leans on all classes with its average gap, and these on all objects.

    Args:
        reads: [CLASSES, AGES], gaps that ended.
        censored: [CLASSES, AGES], those that are awaited, or were given up.
    """
    shape = (OCTAVES, OCTAVES + 1, AGES)
    all_reads, all_censored = reads.sum(axis=0), censored.sum(axis=0)
    overall = all_reads / np.maximum(_at_risk(all_reads, all_censored), 1)
    typical_reads, typical_censored = (each[1:].reshape(shape).sum(axis=0) for each in (reads, censored))
    typical = (typical_reads + PRIOR * overall) / (_at_risk(typical_reads, typical_censored) + PRIOR)
    wider = np.concatenate([overall[None], np.tile(typical, (OCTAVES, 1))])
    found: NDArray[np.floating] = (reads + PRIOR * wider) / (_at_risk(reads, censored) + PRIOR)
    return found


def _at_risk(reads: NDArray[np.floating], censored: NDArray[np.floating]) -> NDArray[np.floating]:
    """[..., AGES], how many came to each age; those that left within it count half."""
    came: NDArray[np.floating] = np.flip(np.cumsum(np.flip(reads + censored, axis=-1), axis=-1), axis=-1) - censored / 2
    return came


def find_cycle(gaps: NDArray[np.float64]) -> float | None:
    """The length that enough gaps are a multiple of, give or take a part in `SLACK`; None when there is none.

    Args:
        gaps: float64[n], gaps between two reads of the same object, each `SHORTEST` or more.
    """
    bins = (BINS_PER_OCTAVE * np.log2(gaps)).astype(np.int64)
    counts = np.bincount(bins)
    pairs = counts + np.append(counts[1:], 0)
    best = int(pairs.argmax())
    cycle = float(np.median(gaps[(bins == best) | (bins == best + 1)]))
    agreement = np.mean(np.abs(gaps - cycle * np.maximum(np.round(gaps / cycle), 1)) <= cycle / SLACK)
    return cycle if agreement >= LEAST_AGREEMENT else None
