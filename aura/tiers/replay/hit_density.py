"""Hit density: hold what promises the most hits for the time it takes up, as learned from how reuse depends on age.

N. Beckmann, H. Chen, A. Cidon, "LHD: improving cache hit rate by maximizing hit density", NSDI 2018, has the idea to
learn the chance of a hit from age and class. Here the class is the last gap between two reads and a moving average of
them, the reuse is estimated by hazard rates with reads that are still awaited as censored (E. L. Kaplan, P. Meier,
"Nonparametric estimation from incomplete observations", JASA 53, 1958), and the score is the Gittins index: the best
ratio, over all times to hold on, of the chance of a read to the time spent (J. Gittins, "Bandit processes and dynamic
allocation indices", JRSS B 41, 1979). Reads of what was refused or evicted teach as much as hits.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from aura.tiers.gaps import AGES, AGES_PER_OCTAVE, CLASSES, FADING, MEMORY, OCTAVES, hazards
from aura.tiers.replay.ranked import LEAST_RECORDS, Ranking

LEARN_EVERY = 2048
"""Reads between two times of learning, at least; more where more keys are recorded."""

Floats = NDArray[np.float64]


class HitDensity(Ranking):
    """The Gittins index of each class at each age. Before anything is learned the score is that of LRU."""

    def __init__(self) -> None:
        super().__init__()
        self._classes = np.zeros(LEAST_RECORDS, dtype=np.int64)
        self._averages = np.zeros(LEAST_RECORDS)
        self._edges = np.concatenate([[0.0], 2.0 ** (np.arange(1, AGES + 1) / AGES_PER_OCTAVE)])
        self._reads = np.zeros((CLASSES, AGES))
        self._lost = np.zeros((CLASSES, AGES))
        self._index = np.tile(1 / (1 + self._edges[:-1]), (CLASSES, 1))
        self._learn_at = LEARN_EVERY

    def record(self, key: int) -> None:
        """Record one read, and learn from time to time."""
        super().record(key)
        if self.now >= self._learn_at:
            self._learn()

    def scores(self, rows: NDArray[np.int64]) -> Floats:
        """As `Ranking.scores`."""
        found: Floats = self._index[self._classes[rows], _age_bins(self.now - self.last[rows])]
        return found

    def newest_score(self, row: int) -> float:
        """As `Ranking.newest_score`."""
        return float(self._index[self._classes[row], 0])

    def _read(self, row: int, gap: int | None) -> None:
        if gap is None:
            self._classes[row] = 0
            return
        logarithm = math.log2(gap)
        before = self._classes[row]
        self._reads[before, min(int(AGES_PER_OCTAVE * logarithm), AGES - 1)] += 1
        average = MEMORY * self._averages[row] + (1 - MEMORY) * logarithm if before else logarithm
        self._averages[row] = average
        last_gap, typical = (min(int(each), OCTAVES - 1) for each in (logarithm, average))
        self._classes[row] = 1 + last_gap * (OCTAVES + 1) + (typical if before else OCTAVES)

    def _leave(self, row: int) -> None:
        age = self.now - int(self.last[row])
        self._lost[self._classes[row], min(int(AGES_PER_OCTAVE * math.log2(max(age, 1))), AGES - 1)] += 1

    def _grow(self, rows: int) -> None:
        self._classes = np.resize(self._classes, rows)
        self._averages = np.resize(self._averages, rows)

    def _learn(self) -> None:
        rows = np.fromiter(self._rows.values(), dtype=np.int64, count=len(self._rows))
        cells = self._classes[rows] * AGES + _age_bins(self.now - self.last[rows])
        awaited = np.bincount(cells, minlength=CLASSES * AGES).reshape(CLASSES, AGES)
        chances = np.clip(hazards(self._reads, self._lost + awaited), 0, 1 - 1e-6)
        known = (self._reads.sum(axis=1) + awaited.sum(axis=1)) > 0
        self._index[known] = _gittins(chances[known], self._edges)
        self._reads *= FADING
        self._lost *= FADING
        self._learn_at = self.now + max(LEARN_EVERY, self.limit // 4)


def _age_bins(ages: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.minimum((AGES_PER_OCTAVE * np.log2(np.maximum(ages, 1))).astype(np.int64), AGES - 1)


def _gittins(hazards: Floats, edges: Floats) -> Floats:
    """float64[n, AGES], the best ratio of the chance of a read to the time until it or until giving up."""
    survival = np.concatenate([np.ones((len(hazards), 1)), np.cumprod(1 - hazards, axis=1)], axis=1)
    time = np.concatenate(
        [np.zeros((len(hazards), 1)), np.cumsum((survival[:, 1:] + survival[:, :-1]) / 2 * np.diff(edges), axis=1)],
        axis=1,
    )
    index = np.zeros_like(hazards)
    for age in range(hazards.shape[1]):
        chance = survival[:, age : age + 1] - survival[:, age + 1 :]
        index[:, age] = (chance / np.maximum(time[:, age + 1 :] - time[:, age : age + 1], 1e-300)).max(axis=1)
    return index
