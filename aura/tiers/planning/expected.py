"""How often each object will be read: a short and a long moving average of the access log, weighed by its own past.

An average with a short half-life follows what has just become hot; one with a long half-life knows what is read again
and again (HybridTier, ASPLOS'25; ARMS, arXiv 2508.04417). Neither is right everywhere, and how much each is worth is
not set but found: at several points of the log both are asked for the accesses that came next, and their shares are
those under which these accesses are most likely. A third, uniform distribution takes what neither has seen.

Belongs here: the expectation, on plain arrays. Does not: what an access costs (`plan.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aura.tiers.records import Access, Entry

QUESTIONS = 16
"""Points of the log's later half at which the averages are asked for what came next."""

PRIOR = 8.0
"""Accesses that each average counts as having foretold before it is asked: with a short log both weigh the same."""

STEPS = 50
"""Steps of the expectation maximisation, at most."""

CLOSE = 1e-4
"""It ends when no share changes by more than this."""


@dataclass(frozen=True, eq=False)
class Expectation:
    """Expected accesses of n objects.

    Attributes:
        weights: float64[n], expected accesses over the horizon; with none in the log every object is expected once.
        accesses: Accesses of the log that concern these objects: the horizon.
        short_share: Share of the average with the short half-life in the expectation.
        long_share: That of the one with the long half-life.
        uniform_share: That of all objects alike.
    """

    weights: np.ndarray
    accesses: int
    short_share: float
    long_share: float
    uniform_share: float


def expected_accesses(
    entries: Sequence[Entry], log: Access, *, short_half_life: int, long_half_life: int
) -> Expectation:
    """Expect as many accesses as the log has, in the proportions of its moving averages.

    Args:
        entries: The objects.
        log: The access log; accesses of other objects do not count.
        short_half_life: Accesses after which an access counts half in the short average.
        long_half_life: The same in the long one.
    """
    ids = np.array([entry.id for entry in entries], dtype=np.int64)
    row_of = np.full(int(max(ids.max(initial=-1), log.ids.max(initial=-1))) + 1, -1, dtype=np.int64)
    row_of[ids] = np.arange(len(ids))
    rows = row_of[log.ids]
    rows = rows[rows >= 0]
    if not len(rows):
        return Expectation(np.ones(len(entries)), 0, 0.0, 0.0, 1.0)
    half_lives = (short_half_life, long_half_life)
    shares = _shares(rows, len(ids), half_lives)
    averages = [_Average(len(ids), half_life) for half_life in half_lives]
    for average in averages:
        average.add(rows)
    mixed = shares[0] * averages[0].chances() + shares[1] * averages[1].chances() + shares[2] / len(ids)
    return Expectation(len(rows) * mixed, len(rows), *(float(share) for share in shares))


class _Average:
    """Exponentially decayed counts of n objects."""

    def __init__(self, n: int, half_life: int) -> None:
        self._counts = np.zeros(n)
        self._half_life = half_life

    def add(self, rows: np.ndarray) -> None:
        """Count further accesses int64[m], in order."""
        age = np.arange(len(rows) - 1, -1, -1, dtype=np.float64)
        added = np.bincount(rows, weights=np.exp2(-age / self._half_life), minlength=len(self._counts))
        self._counts = self._counts * np.exp2(-len(rows) / self._half_life) + added

    def chances(self) -> np.ndarray:
        """float64[n], the share of each object in what is expected next."""
        return np.asarray(self._counts / self._counts.sum())


def _shares(rows: np.ndarray, n: int, half_lives: Sequence[int]) -> np.ndarray:
    """Shares float64[3] of the short average, the long one and the uniform distribution.

    Each question is answered from everything before it. The shares are the maximum of the likelihood of a mixture with
    known components, found by expectation maximisation, with `PRIOR` on the averages.
    """
    averages = [_Average(n, half_life) for half_life in half_lives]
    pieces = np.array_split(rows[len(rows) // 2 :], QUESTIONS)
    before = rows[: len(rows) // 2]
    foretold: list[np.ndarray] = []
    for piece in pieces:
        for average in averages:
            average.add(before)
        before = piece
        if len(piece) and len(rows) > 1:
            chances = [average.chances()[piece] for average in averages]
            foretold.append(np.stack([*chances, np.full(len(piece), 1 / n)]))
    likelihood = np.concatenate(foretold, axis=1) if foretold else np.ones((3, 0))
    prior = np.array([PRIOR, PRIOR, 0.0])
    shares = np.full(3, 1 / 3)
    for _ in range(STEPS):
        joint = shares[:, None] * likelihood
        improved = (joint / joint.sum(axis=0)).sum(axis=1) + prior
        improved /= improved.sum()
        settled = np.abs(improved - shares).max() <= CLOSE
        shares = improved
        if settled:
            break
    return shares
