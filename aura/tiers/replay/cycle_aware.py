"""A score for layer-cyclic access: the layers of a model are read in the same order for every token.

When a key of such a trace is read again, it is a whole number of cycles later. The expected wait is the rest of the
present cycle and one more cycle for each that is expected to pass without a read; the chance of a read in a cycle is
the mean of a short and a long moving average. LRU has the opposite order within a cycle: it evicts what comes next. The
finding that the access to experts is cyclic rather than recent is from SpecMD (arXiv 2602.03921); the two averages are
from ARMS (arXiv 2508.04417). Without a cycle the score is that of LRU.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aura.tiers.gaps import (
    CYCLE_GAPS,
    FIRST_CHANCE,
    LONG,
    LONGEST,
    SHORT,
    SHORT_WEIGHT,
    SHORTEST,
    SLACK,
    find_cycle,
)
from aura.tiers.replay.ranked import LEAST_RECORDS, Ranking


class CycleAware(Ranking):
    """The inverse of the expected wait.

    Attributes:
        cycle: Length of the cycle that was found, in reads; None as long as there is none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cycle: float | None = None
        self._gaps: list[int] = []
        self._short = np.zeros(LEAST_RECORDS)
        self._long = np.zeros(LEAST_RECORDS)

    def scores(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """As `Ranking.scores`."""
        ages = (self.now - self.last[rows]).astype(np.float64)
        if self.cycle is None:
            return 1 / (1 + ages)
        slack = self.cycle / SLACK
        missed = np.floor(np.maximum(ages - slack, 0) / self.cycle)
        short = self._short[rows] * (1 - SHORT) ** missed
        long = self._long[rows] * (1 - LONG) ** missed
        chance = np.maximum(SHORT_WEIGHT * short + (1 - SHORT_WEIGHT) * long, 1e-9)
        wait = np.maximum(self.cycle * (missed + 1) + slack - ages, 1)
        found: NDArray[np.float64] = 1 / (wait + self.cycle * (1 / chance - 1))
        return found

    def newest_score(self, row: int) -> float:
        """As `Ranking.newest_score`."""
        if self.cycle is None:
            return 1.0
        chance = float(SHORT_WEIGHT * self._short[row] + (1 - SHORT_WEIGHT) * self._long[row])
        return 1 / (self.cycle / SLACK + self.cycle / chance)

    def _read(self, row: int, gap: int | None) -> None:
        if gap is None:
            self._short[row] = self._long[row] = FIRST_CHANCE
            return
        if SHORTEST <= gap <= LONGEST:
            self._gaps.append(gap)
            if len(self._gaps) == CYCLE_GAPS:
                self.cycle = find_cycle(np.array(self._gaps, dtype=np.float64))
                self._gaps.clear()
        cycles = 1 if self.cycle is None else max(1, round(gap / self.cycle))
        self._short[row] = self._short[row] * (1 - SHORT) ** cycles + SHORT
        self._long[row] = self._long[row] * (1 - LONG) ** cycles + LONG

    def _leave(self, row: int) -> None:
        """Nothing is learned from what is forgotten."""

    def _grow(self, rows: int) -> None:
        self._short = np.resize(self._short, rows)
        self._long = np.resize(self._long, rows)
