"""The cycle of layer-cyclic access: the layers of a model are read in the same order for every token.

When an object of such a pattern is read again, it is a whole number of cycles later. The expected wait is the rest of
the present cycle and one more cycle for each that is expected to pass without a read; the chance of a read in a cycle
is the mean of a short and a long moving average. That the access to experts is cyclic rather than recent is from SpecMD
(arXiv 2602.03921); the two averages are from ARMS (arXiv 2508.04417).
"""

from __future__ import annotations

import numpy as np

from aura.tiers.gaps import CYCLE_GAPS, LONG, LONGEST, SHORT, SHORT_WEIGHT, SHORTEST, SLACK, find_cycle
from aura.tiers.online.costs import Floats, Rows
from aura.tiers.online.history import History


class Cycle:
    """Finds the cycle, and says what it promises.

    Attributes:
        length: In reads; None as long as there is none.
    """

    def __init__(self) -> None:
        self.length: float | None = None
        self._gaps: list[Rows] = []
        self._count = 0

    def note(self, gaps: Rows) -> None:
        """Take note of gaps between two reads of an object, in order."""
        fitting = gaps[(gaps >= SHORTEST) & (gaps <= LONGEST)]
        self._gaps.append(fitting)
        self._count += len(fitting)
        if self._count >= CYCLE_GAPS:
            self.length = find_cycle(np.concatenate(self._gaps)[-CYCLE_GAPS:].astype(np.float64))
            self._gaps, self._count = [], 0

    def wait(self, history: History, rows: Rows) -> Floats:
        """float64[n], expected reads until each object is read; there has to be a cycle."""
        rest, chance = self._rest(history, rows)
        found: Floats = rest + self._cycle * (1 / chance - 1)
        return found

    def advantages(self, history: History, rows: Rows, rents: Floats) -> Floats:
        """float64[k - 1, n], reads saved by holding each object for as many cycles as its chance is known for.

        Args:
            history: The rows.
            rows: int64[n], which ones; there has to be a cycle.
            rents: float64[k - 1], of each fast tier, in reads for each read of anything.
        """
        _, chance = self._rest(history, rows)
        found: Floats = (chance - rents[:, None] * self._cycle) / LONG
        return found

    @property
    def _cycle(self) -> float:
        if self.length is None:
            raise ValueError("there is no cycle; look at `length` first")
        return self.length

    def _rest(self, history: History, rows: Rows) -> tuple[Floats, Floats]:
        """What is left of the cycle that each object may be read at the end of, and the chance that it is."""
        cycle = self._cycle
        ages = (history.now - history.last[rows]).astype(np.float64)
        slack = cycle / SLACK
        missed = np.floor(np.maximum(ages - slack, 0) / cycle)
        short = history.short[rows].astype(np.float64) * (1 - SHORT) ** missed
        long = history.long[rows].astype(np.float64) * (1 - LONG) ** missed
        chance = np.maximum(SHORT_WEIGHT * short + (1 - SHORT_WEIGHT) * long, 1e-9)
        return np.maximum(cycle * (missed + 1) + slack - ages, 1), chance
