"""Policies as orders of rows: whom to keep, whom to admit, and what there is to be gained by it.

Belongs here: each policy in the form that a batch of reads can be answered with. Does not: the policies access by
access, which these follow (`aura.tiers.replay`); room and costs (`placing`).

A policy orders; whether a move pays for itself is decided with the advantage, which every policy takes from `Reuse`,
but for the cycle-aware one, which knows better as long as there is a cycle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aura.tiers.gaps import OCTAVES
from aura.tiers.online.costs import Floats, Rows
from aura.tiers.online.cycle import Cycle
from aura.tiers.online.history import History, lengthened
from aura.tiers.online.reuse import Reuse

Mask = NDArray[np.bool_]

TURNS = (1 << 15) - 1
"""Batches after which they are counted anew; those from before the last time are all alike."""
MOST_READS = 3
"""Two bits count the reads since an object entered."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What all policies share."""

    history: History
    reuse: Reuse
    cycle: Cycle


class Recency:
    """LRU: whoever was read is admitted, in place of what was not read for the longest time."""

    name = "lru"

    def __init__(self, knowledge: Knowledge) -> None:
        self._known = knowledge

    def keep(self, rows: Rows) -> Floats:
        """float64[n], the benefit of keeping each; the lowest goes first."""
        return self._known.history.last[rows].astype(np.float64)

    def admits(self, rows: Rows, victims: Rows, /) -> Mask:
        """bool[n], whether each may take the place of the victim beside it."""
        return self.keep(rows) > self.keep(victims)

    @property
    def idle(self) -> bool:
        """Whether it has nothing to say of its own for the time being, and is LRU."""
        return False

    @property
    def shares(self) -> bool:
        """Whether its `advantages` are those of `Reuse`, as those of most policies are."""
        return True

    def advantages(self, rows: Rows) -> Floats:
        """float64[k - 1, n], reads saved by having each in a fast tier in place of L3, less its rent; see `Reuse`."""
        known = self._known
        found: Floats = known.reuse.advantages(known.history, rows)
        return found

    def read(self, rows: Rows, counts: Rows) -> None:
        """Objects that are held were read so many times."""

    def entered(self, rows: Rows) -> None:
        """Objects are held from now on."""

    def spared(self, rows: Rows) -> Mask:
        """bool[n], which victims get a second chance; that may change what `keep` says of them."""
        return np.zeros(len(rows), dtype=np.bool_)


class TinyLfu(Recency):
    """LRU behind an admission by frequency: who enters was read more often than who leaves.

    G. Einziger, R. Friedman, B. Manes, "TinyLFU: a highly efficient cache admission policy", ACM Transactions on
    Storage 13(4), 2017. The window of W-TinyLFU is the batch: nobody is admitted before it ends.
    """

    name = "tiny-lfu"

    def admits(self, rows: Rows, victims: Rows, /) -> Mask:
        """As `Recency.admits`."""
        count = self._known.history.count
        return count[rows] > count[victims]


class S3Fifo(Recency):
    """Newcomers wait outside until they are read again; who is held leaves in turn, unless it was read meanwhile.

    J. Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023. The small queue and its ghosts are one
    list here, as long as what fast memory holds, since nothing is moved for an object in the small queue.
    """

    name = "s3-fifo"

    def __init__(self, knowledge: Knowledge) -> None:
        super().__init__(knowledge)
        self._turn = 0
        self._entered = np.zeros(0, dtype=np.int16)
        self._reads = np.zeros(0, dtype=np.uint8)

    def keep(self, rows: Rows) -> Floats:
        """As `Recency.keep`."""
        self._lengthen()
        return self._entered[rows].astype(np.float64)

    def admits(self, rows: Rows, _victims: Rows, /) -> Mask:
        """As `Recency.admits`."""
        octave = (self._known.history.kind[rows].astype(np.int64) - 1) // (OCTAVES + 1)
        return 2.0**octave <= self._known.reuse.span

    def read(self, rows: Rows, counts: Rows) -> None:
        """As `Recency.read`."""
        self._lengthen()
        if self._turn == TURNS:
            self._turn = 0
            self._entered = (np.maximum(self._entered, 0) - TURNS).astype(np.int16)
        self._turn += 1
        self._reads[rows] = np.minimum(self._reads[rows] + counts, MOST_READS)

    def entered(self, rows: Rows) -> None:
        """As `Recency.entered`."""
        self._lengthen()
        self._entered[rows], self._reads[rows] = self._turn, 0

    def spared(self, rows: Rows) -> Mask:
        """As `Recency.spared`."""
        spared = self._reads[rows] > 0
        self._reads[rows[spared]] -= 1
        self._entered[rows[spared]] = self._turn
        return spared

    def _lengthen(self) -> None:
        rows = self._known.history.rows
        if len(self._entered) < rows:
            self._entered, self._reads = lengthened(self._entered, rows, 0), lengthened(self._reads, rows, 0)


class CycleAware(Recency):
    """The inverse of the expected wait where access is cyclic, and LRU where it is not; see `cycle`."""

    name = "cycle-aware"

    def keep(self, rows: Rows) -> Floats:
        """As `Recency.keep`."""
        known = self._known
        if self.idle:
            return super().keep(rows)
        return 1 / (known.cycle.wait(known.history, rows) * known.history.size[rows])

    @property
    def idle(self) -> bool:
        """As `Recency.idle`."""
        return self._known.cycle.length is None

    @property
    def shares(self) -> bool:
        """As `Recency.shares`."""
        return self.idle

    def advantages(self, rows: Rows) -> Floats:
        """As `Recency.advantages`."""
        known = self._known
        if self.idle:
            return super().advantages(rows)
        return known.cycle.advantages(known.history, rows, known.reuse.rents)


POLICIES = (Recency, S3Fifo, TinyLfu, CycleAware)
NAMES = tuple(each.name for each in POLICIES)
