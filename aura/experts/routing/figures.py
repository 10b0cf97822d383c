"""The figures of a routing, as formulas on counts.

Belongs here: pure functions of small arrays. Does not: gathering the counts (`tally`), tables (`table`).

E experts, `load` the assignments to each of them [E] before any were dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

DEAD_UTILISATION = 0.1
"""An expert is dead below a tenth of its fair share 1/E of the assignments."""

SHUFFLES = 20


@dataclass(frozen=True)
class AgainstChance:
    """A figure beside what chance gives it.

    Attributes:
        value: The figure.
        shuffled_mean: Its mean over shuffles.
        shuffled_max: Its maximum over shuffles.
    """

    value: float
    shuffled_mean: float
    shuffled_max: float

    @classmethod
    def of(cls, value: float, shuffled: list[float]) -> AgainstChance:
        """A value with those of its shuffles, of which there is at least one."""
        return cls(value, math.fsum(shuffled) / len(shuffled), max(shuffled))


def entropy_bits(share: np.ndarray) -> float:
    """Shannon entropy in bits of shares of any shape that sum to one."""
    positive = share[share > 0]
    return float(-(positive * np.log2(positive)).sum())


def normalised_entropy(load: np.ndarray) -> float:
    """Entropy of the shares over log E: 1 is even, 0 is one expert for all. E is at least 2."""
    return entropy_bits(load / load.sum()) / math.log2(len(load))


def max_over_mean(load: np.ndarray) -> float:
    """Load of the busiest expert over the mean load."""
    return float(load.max() / load.mean())


def coefficient_of_variation(load: np.ndarray) -> float:
    """Standard deviation of the load over its mean (Shazeer et al., arXiv 1701.06538, section 4)."""
    return float(load.std() / load.mean())


def jain(load: np.ndarray) -> float:
    """Jain's fairness index (sum x)^2 / (E sum x^2): 1 is even, 1/E is one expert for all."""
    wide = load.astype(np.float64)
    return float(wide.sum() ** 2 / (len(wide) * np.square(wide).sum()))


def dead_experts(load: np.ndarray) -> int:
    """Experts below `DEAD_UTILISATION` of their fair share."""
    return int((load * len(load) < DEAD_UTILISATION * load.sum()).sum())


def mutual_information(counts: np.ndarray) -> float:
    """Mutual information in bits of the rows and columns of a table of counts: H(row) + H(column) - H(row, column).

    0 for an empty table. The plug-in estimate, biased upwards by about (rows - 1)(columns - 1) / (2 n ln 2): compare it
    with shuffled rows.
    """
    total = counts.sum()
    if total == 0:
        return 0.0
    joint = counts / total
    information = entropy_bits(joint.sum(axis=1)) + entropy_bits(joint.sum(axis=0)) - entropy_bits(joint)
    return max(0.0, information)


def contingency(groups: np.ndarray, counts: np.ndarray, size: int) -> np.ndarray:
    """Sum the rows of counts [n, m] by group [n] in 0..size-1.

    Returns:
        [size, m] int64.
    """
    from scipy.sparse import csr_array

    rows = np.arange(len(groups))
    members = csr_array((np.ones(len(groups), np.int64), (groups, rows)), shape=(size, len(groups)))
    summed: np.ndarray = members @ counts.astype(np.int64, copy=False)
    return summed


def shared_information(
    groups: np.ndarray, counts: np.ndarray, layers: list[slice], *, seed: int, shuffles: int = SHUFFLES
) -> list[AgainstChance]:
    """What the group of an item tells of the experts that its tokens are sent to, in bits, layer by layer.

    The shuffles deal the groups anew among the items. The tokens of one item stay together: they are alike for many
    reasons, and dealing them one by one would make any grouping look meaningful.

    Args:
        groups: Group of each item [n], int64, from 0; negative for items without one, which are left out.
        counts: Assignments of each item to the experts of all layers, side by side [n, m].
        layers: The columns of each layer.
        seed: Seed of the shuffles.
        shuffles: Number of them.
    """
    grouped = groups >= 0
    known, chosen = groups[grouped], counts[grouped]
    size = int(known.max(initial=-1)) + 1
    rng = np.random.default_rng(seed)
    told = _information_by_layer(known, chosen, layers, size)
    shuffled = [_information_by_layer(rng.permutation(known), chosen, layers, size) for _ in range(shuffles)]
    return [AgainstChance.of(value, [each[at] for each in shuffled]) for at, value in enumerate(told)]


def _information_by_layer(groups: np.ndarray, counts: np.ndarray, layers: list[slice], size: int) -> list[float]:
    table = contingency(groups, counts, size)
    return [mutual_information(table[:, columns]) for columns in layers]


def vocabulary_specialisation(
    counts: np.ndarray, *, least: int, seed: int, shuffles: int = SHUFFLES
) -> tuple[int, AgainstChance] | None:
    """The share of a token id's assignments that go to its most frequent expert, mean over ids.

    After OLMoE, arXiv 2409.02060, section 5. At most 1/k for a router of k choices, whose choices are different
    experts. The shuffles deal all assignments anew among the ids, of which each keeps its number.

    Args:
        counts: Assignments of each id to each expert [ids, E].
        least: Ids with fewer assignments are left out: rare ones have a favourite by chance.
        seed: Seed of the shuffles.
        shuffles: Number of them.

    Returns:
        The number of ids that counted and the figure; None if there are none.
    """
    counted = counts[counts.sum(axis=1) >= least]
    if len(counted) == 0:
        return None
    value = _favourite_share(counted)
    return len(counted), AgainstChance.of(value, [_favourite_share(each) for each in _dealt(counted, seed, shuffles)])


def _favourite_share(counts: np.ndarray) -> float:
    return float((counts.max(axis=1) / counts.sum(axis=1)).mean())


def _dealt(counts: np.ndarray, seed: int, shuffles: int) -> Iterator[np.ndarray]:
    """Tables with the same sums of rows and columns, as shuffling gives them."""
    from scipy.stats import random_table

    dealer = random_table(counts.sum(axis=1), counts.sum(axis=0), seed=np.random.default_rng(seed))
    return (dealer.rvs() for _ in range(shuffles))


def overlap(first: np.ndarray, second: np.ndarray) -> int:
    """How many of the choices of each token [T, k] are in both, over all tokens; each row names an expert once."""
    return int((first[:, :, None] == second[:, None, :]).sum())
