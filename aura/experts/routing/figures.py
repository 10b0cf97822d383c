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

DEALT_TOKENS = 1 << 18
"""Tokens that a shuffle deals at once."""


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


@dataclass(frozen=True)
class Specialisation:
    """How far token ids decide where their tokens go.

    Attributes:
        ids: Ids that occur often enough to count.
        tokens: Their tokens.
        figure: The figure beside chance.
    """

    ids: int
    tokens: int
    figure: AgainstChance


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
    counts: np.ndarray,
    codes: np.ndarray,
    choices: np.ndarray,
    *,
    least: int,
    seed: int,
    shuffles: int = SHUFFLES,
) -> Specialisation | None:
    """The share of a token id's assignments that go to its most frequent expert, mean over ids.

    After OLMoE, arXiv 2409.02060, section 5. At most 1/k, since the k choices of a token are different experts. The
    shuffles deal the tokens anew among the ids, of which each keeps its number; the choices of a token stay together.

    Args:
        counts: Assignments of each id to each expert [ids, E].
        codes: The row in `counts` of each of some tokens [n], where possible all of them; -1 for one without a row.
        choices: The experts that those tokens chose [n, k].
        least: Ids with fewer tokens are left out: rare ones have a favourite by chance.
        seed: Seed of the shuffles.
        shuffles: Number of them.

    Returns:
        None if no id counts.
    """
    occurrences = counts.sum(axis=1) // choices.shape[1]
    enough = occurrences >= least
    dealt = choices[(codes >= 0) & enough[codes]] if len(enough) else choices[:0]
    if len(dealt) == 0:
        return None
    tables = _dealt(occurrences[enough], dealt, counts.shape[1], seed, shuffles)
    figure = AgainstChance.of(_favourite_share(counts[enough]), [_favourite_share(each) for each in tables])
    return Specialisation(int(enough.sum()), int(occurrences[enough].sum()), figure)


def _favourite_share(counts: np.ndarray) -> float:
    return float((counts.max(axis=1) / counts.sum(axis=1)).mean())


def _dealt(
    occurrences: np.ndarray, choices: np.ndarray, experts: int, seed: int, shuffles: int
) -> Iterator[np.ndarray]:
    """Tables [ids, E] in which each id has its number of tokens, taken from these choices [n, k] in random order.

    Where there are fewer choices than tokens they are taken again from the first on. Memory does not grow with the
    number of tokens.
    """
    rng = np.random.default_rng(seed)
    ends = np.cumsum(occurrences)
    for _ in range(shuffles):
        order = rng.permutation(len(choices))
        table = np.zeros(len(ends) * experts, np.int64)
        for start in range(0, int(ends[-1]), DEALT_TOKENS):
            tokens = np.arange(start, min(start + DEALT_TOKENS, int(ends[-1])))
            ids = np.searchsorted(ends, tokens, side="right")
            where = ids[:, None] * experts + choices[order[tokens % len(order)]]
            table += np.bincount(where.ravel(), minlength=len(table))
        yield table.reshape(len(ends), experts)


def overlap(first: np.ndarray, second: np.ndarray) -> int:
    """How many of the choices of each token [T, k] are in both, over all tokens; each row names an expert once."""
    return int((first[:, :, None] == second[:, None, :]).sum())
