"""The energy test: two samples of anything that has distances, decided by permutation.

Szekely and Rizzo, "Energy statistics: A class of statistics based on distances" (2013): 2 E d(X, Y) - E d(X, X') -
E d(Y, Y'), here without bias. On diagrams it is the test of Robinson and Turner, "Hypothesis testing for topological
data analysis" (2017): the total of all distances does not change under permutation, so for samples of one size their
joint loss orders the permutations as the energy does; for others the energy stays centred at 0. On Euclidean vectors it
is the maximum mean discrepancy of the kernel -|x - y| (Sejdinovic et al., 2013): no bandwidth to choose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-9
"""Scores this close are the same one, added up in another order; energies, in shares of the mean distance."""
CHUNK = 256
"""Permutations that are computed in one go."""


@dataclass(frozen=True)
class EnergyTest:
    """What the test found.

    Attributes:
        energies: float64 [c], the energy in each of the c distances, in their units; 0 on average without drift.
        scores: float64 [c], the energies in standard deviations of their null distributions.
        statistic: The largest score.
        null: float64 [p], the statistic of each permutation.
        p_value: (1 + permutations at least as large) / (1 + permutations).
        threshold: The statistic has to exceed it for p_value <= level.
    """

    energies: NDArray[np.float64]
    scores: NDArray[np.float64]
    statistic: float
    null: NDArray[np.float64]
    p_value: float
    threshold: float


def permutations_for(level: float, *, above: int = 10) -> int:
    """Fewest permutations with which a test at this level has `above` permutations beyond its threshold, less one.

    Then (1 + permutations) * level is a whole number wherever 1 / level is one, and the test's level is exact.
    """
    return math.ceil(above / level) - 1


def smallest_p_value(first: int, second: int) -> float:
    """Smallest p-value that samples of these sizes can have: one over the number of ways to tell two groups apart."""
    ways = math.comb(first + second, first)
    return 1.0 / min(ways // 2 if first == second else ways, 10**300)


def energy_test(
    distances: NDArray[np.float64], first: int, *, level: float, permutations: int, seed: int
) -> EnergyTest:
    """Test whether the first items and the others come from one distribution.

    Several distances (such as those of H0 and of H1) are one test: every permutation is applied to all of them, each
    energy is divided by the standard deviation of its own null distribution, and the largest counts. What is observed
    takes part in these standard deviations like any permutation, so the p-value stays exact however the distances
    depend on each other.

    Args:
        distances: float64 [c, n, n], symmetric, finite, with zero diagonals.
        first: Items of the first sample, at least 2; the other sample has the n - first others, at least 2.
        level: Probability of a false alarm, in (0, 1).
        permutations: Random permutations p, with (1 + p) * level >= 1.
        seed: Seed of the permutations.

    Raises:
        ValueError: A sample has fewer than 2 items, the permutations cannot reach the level, or a distance is not
            finite.
    """
    count = distances.shape[1]
    if not 2 <= first <= count - 2:
        raise ValueError(f"samples of {first} and {count - first} items: a test needs at least 2 items on each side")
    if not np.isfinite(distances).all():
        raise ValueError("a distance is not finite: cut off bars that never end before comparing diagrams")
    exceeding = math.floor((1 + permutations) * level + ROUNDING)
    if exceeding < 1:
        raise ValueError(f"{permutations} permutations cannot reach the level {level}: take {math.ceil(1 / level)}")
    energies = np.stack([_energies(each, first, permutations, seed) for each in distances])
    tolerance = ROUNDING * distances.mean(axis=(1, 2))
    scores = _standardised(energies, tolerance)
    statistic, null = float(scores[:, 0].max()), scores[:, 1:].max(axis=0)
    return EnergyTest(
        energies=energies[:, 0],
        scores=scores[:, 0],
        statistic=statistic,
        null=null,
        p_value=float(1 + (null >= statistic - ROUNDING).sum()) / (1 + permutations),
        threshold=float(np.sort(null)[-exceeding]),
    )


def neighbours_alike(distances: NDArray[np.float64], first: int, *, permutations: int, seed: int) -> float:
    """P-value of the hypothesis that neighbours in time are no more alike than any two of their sample.

    The energy test takes units to be exchangeable. Where this p-value is small they are not, and that test finds drift
    too often. The statistic is the sum of the distances between neighbours, those of each kind divided by their mean;
    the permutations change the order within either sample, so drift between the two has no say in it.

    Args:
        distances: float64 [c, n, n], symmetric, finite, either sample in order of time.
        first: Units of the first sample.
        permutations: Random permutations.
        seed: Seed of the permutations.
    """
    means = distances.mean(axis=(1, 2))
    varies = means > 0
    together = (distances[varies] / means[varies, None, None]).sum(axis=0)
    rng = np.random.default_rng(seed)
    units = np.arange(distances.shape[1])
    observed = _between_neighbours(together, units[None], first)[0]
    as_alike = 0
    for start in range(0, permutations, CHUNK):
        order = np.tile(units, (min(CHUNK, permutations - start), 1))
        order[:, :first] = rng.permuted(order[:, :first], axis=1)
        order[:, first:] = rng.permuted(order[:, first:], axis=1)
        as_alike += int((_between_neighbours(together, order, first) <= observed + ROUNDING).sum())
    return (1 + as_alike) / (1 + permutations)


def _between_neighbours(distances: NDArray[np.float64], order: NDArray[np.int64], first: int) -> NDArray[np.float64]:
    """Sums [p] of the distances [n, n] between neighbours of one sample, in p orders [p, n]."""
    steps = distances[order[:, :-1], order[:, 1:]]
    sums: NDArray[np.float64] = steps.sum(axis=1) - steps[:, first - 1]
    return sums


def _energies(distances: NDArray[np.float64], first: int, permutations: int, seed: int) -> NDArray[np.float64]:
    """Energies [1 + p] of the observed grouping and of the permuted ones."""
    count = len(distances)
    second = count - first
    rng = np.random.default_rng(seed)
    sums, total = distances.sum(axis=1), distances.sum()
    observed = np.zeros(count)
    observed[:first] = 1.0
    energies = np.empty(1 + permutations)
    for start in range(0, len(energies), CHUNK):
        members = np.tile(observed, (min(CHUNK, len(energies) - start), 1))
        rng.permuted(members, axis=1, out=members)
        if start == 0:
            members[0] = observed
        within_first = np.einsum("pi,pi->p", members @ distances, members)
        from_first = members @ sums
        between = from_first - within_first
        within_second = total - 2.0 * from_first + within_first
        energies[start : start + len(members)] = (
            2.0 * between / (first * second)
            - within_first / (first * (first - 1))
            - within_second / (second * (second - 1))
        )
    return energies


def _standardised(energies: NDArray[np.float64], tolerance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Energies [c, 1 + p] in standard deviations; 0 where nothing varies but by rounding."""
    spread = energies.std(axis=1)
    varies = spread > tolerance
    scores = np.zeros_like(energies)
    scores[varies] = energies[varies] / spread[varies, None]
    return scores
