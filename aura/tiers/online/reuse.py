"""What it is worth to have an object in a fast tier, by its class and its age, learned from all reads.

The reuse is estimated by hazard rates per class and age, with reads that are still awaited as censored (E. L. Kaplan,
P. Meier, "Nonparametric estimation from incomplete observations", JASA 53, 1958). The classes are those of `History`;
that age and class tell the chance of a hit is from N. Beckmann, H. Chen, A. Cidon, "LHD: improving cache hit rate by
maximizing hit density", NSDI 2018.

Room in a tier has a rent. The advantage of an object that is there over one that is not is, in reads that are saved,
the chance of a read less the rent, and then the advantage that it has after that. It never falls below 0, since to drop
a copy is free; after a read it counts no more than the price of a move, for which the object could come back then. That
is a game of stopping with two obstacles (E. B. Dynkin, "Game variant of a problem on optimal stopping", Soviet Math.
Dokl. 10, 1969), solved here by going back in age, class by class. A move pays for itself when the advantage reaches the
price. The rent is where those that are worth the room just fill it, and falls as long as there is free room: the price
of the capacity in the sense of P. Whittle, "Restless bandits", Journal of Applied Probability 25, 1988.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aura.tiers.gaps import AGES, AGES_PER_OCTAVE, CLASSES, FADING, MEMORY, OCTAVES, hazards
from aura.tiers.online.costs import Floats, Rows
from aura.tiers.online.history import HASHES, History

LEARN_FIRST, LEARN_EVERY = 1024, 8192
"""Reads until the first time of learning, and between two later; in between the pause doubles."""
STEPS, MOST_STEP = 8, 2.0
"""Steps towards the solution each time, and the most by which one changes the rent."""
LEAST_RENT = 1e-9
FULL = 0.9
"""Share of a tier that is taken from which on its room is scarce."""
REMEMBERED = 5
"""An object that was not read while so many times the objects of fast memory were is no longer awaited."""


class Reuse:
    """Learns from what `History.fold` returns.

    Attributes:
        advantage: float32[k - 1, CLASSES, AGES], of having an object in each fast tier in place of L3, in reads
            that are saved; below 0 where it is better dropped, and above the price where it pays to bring it there.
        prices: float64[k - 1], of a move from L3 to each fast tier, in reads.
        span: Latest reads of which as many objects are the target as fast memory holds; what LRU would hold.
        rents: float64[k - 1], of an object's room in each fast tier, in reads for each read of anything.
    """

    def __init__(self, prices: Floats) -> None:
        self.prices = prices
        self.span = np.inf
        self.rents = np.full(len(prices), LEAST_RENT)
        self.advantage = np.zeros((len(prices), CLASSES, AGES), dtype=np.float32)
        self._reads = np.zeros(CLASSES * AGES, dtype=np.float32)
        self._lost = np.zeros(CLASSES * AGES, dtype=np.float32)
        self._learned_at = 0

    def cells(self, history: History, rows: Rows) -> Rows:
        """int64[n], where each object is in a raveled table, by class and present age; below 0 if it was never read."""
        found: Rows = history.kind[rows] * np.int64(AGES) + age_bins(history.now - history.last[rows])
        return found

    def advantages(self, history: History, rows: Rows) -> Floats:
        """float64[k - 1, n], the advantage of each object now; 0 for one that was never read."""
        cells = self.cells(history, rows)
        found: Floats = np.where(cells >= 0, self.advantage.reshape(len(self.prices), CLASSES * AGES)[:, cells], 0.0)
        return found

    def note(self, kinds: Rows, gaps: Rows) -> None:
        """Take note of gaps that ended, and of the class that the object was in."""
        np.add.at(self._reads, kinds * AGES + age_bins(gaps), np.float32(1))

    def due(self, now: int) -> bool:
        """Whether it is time to learn."""
        return now - self._learned_at >= min(max(LEARN_FIRST, self._learned_at), LEARN_EVERY)

    def learn(
        self,
        history: History,
        sample: Rows,
        share: float,
        *,
        capacities: NDArray[np.int64],
        used: NDArray[np.int64],
    ) -> None:
        """Make the tables anew.

        Args:
            history: The rows.
            sample: int64[m], rows of a sample of the objects.
            share: Chance of an object to be in the sample.
            capacities: int64[k - 1], bytes of the fast tiers.
            used: int64[k - 1], bytes that they hold; room that is free has to become cheaper.
        """
        last = history.last[sample]
        rows, last = sample[last >= 0], last[last >= 0]
        sizes = history.size[rows]
        held = float(capacities.sum()) / max(float(sizes.mean()), 1) if len(rows) else 1
        oldest = _latest(last, REMEMBERED * held * share)
        self.span = float(history.now - _latest(last, held * share))
        elapsed = history.now - self._learned_at
        cells = self.cells(history, rows)
        awaited = np.bincount(cells[last >= oldest], minlength=CLASSES * AGES) / share
        gone = cells[(last < oldest) & (last >= oldest - elapsed)]
        self._lost += (np.bincount(gone, minlength=CLASSES * AGES) / share).astype(np.float32)
        reads, lost = (each.reshape(CLASSES, AGES) for each in (self._reads, self._lost + awaited.astype(np.float32)))
        known = np.flatnonzero((reads + lost).any(axis=1))
        chances = np.clip(hazards(reads, lost), 0, 1)[known]
        room = np.cumsum(capacities) * share
        for _ in range(STEPS):
            self.advantage[:, known] = _advantage(chances, self.advantage[:, :, 0], known, self.prices, self.rents)
            worthy = self.advantage.reshape(len(self.prices), CLASSES * AGES)[:, cells] > self.prices[:, None] / 2
            step = np.where(used < FULL * capacities, 0, np.sqrt(np.maximum(worthy @ sizes, 1) / room))
            self.rents = np.maximum(LEAST_RENT, self.rents * np.clip(step, 1 / MOST_STEP, MOST_STEP))
        self._reads *= np.float32(FADING)
        self._lost *= np.float32(FADING)
        self._learned_at = history.now


def _latest(last: Rows, count: float) -> int:
    """When the object was read that so many others were read after; 0 if there are not so many."""
    place = max(1, round(count))
    return int(np.partition(last, -place)[-place]) if place < len(last) else 0


EDGES = np.concatenate([[0.0], 2.0 ** (np.arange(1, AGES + 1) / AGES_PER_OCTAVE)])
"""float64[AGES + 1], between which ages a bin lies."""


def age_bins(ages: Rows) -> Rows:
    """int64[n], the bin of each age in reads."""
    found: Rows = np.minimum(AGES_PER_OCTAVE * np.log2(np.maximum(ages, 1)), AGES - 1).astype(np.int64)
    return found


def _after_read() -> Rows:
    """int64[CLASSES, AGES], the class after a read of an object of each class at each age."""
    logarithms = (np.arange(AGES) + 0.5) / AGES_PER_OCTAVE
    last_gap = np.minimum(logarithms, OCTAVES - 1).astype(np.int64)
    earlier, typical = np.divmod(np.arange(CLASSES - 1), OCTAVES + 1)
    average = np.where(typical == OCTAVES, earlier, typical)[:, None] + 0.5
    now_typical = np.minimum(MEMORY * average + (1 - MEMORY) * logarithms, OCTAVES - 1).astype(np.int64)
    first = 1 + last_gap * (OCTAVES + 1) + OCTAVES
    return np.concatenate([first[None], 1 + last_gap * (OCTAVES + 1) + now_typical])


AFTER_READ = _after_read()


def _advantage(
    hazards: NDArray[np.floating], fresh: NDArray[np.float32], classes: Rows, prices: Floats, rents: Floats
) -> NDArray[np.float32]:
    """One step towards the solution: back in age, and after a read as it was before.

    Args:
        hazards: [n, AGES], of the classes that are known.
        fresh: float32[k - 1, CLASSES], the advantage at age 0, before the step.
        classes: int64[n], which classes are known.
        prices: float64[k - 1], of a move to each tier.
        rents: float64[k - 1], of each tier.

    Returns:
        float32[k - 1, n, AGES].
    """
    # Ages lead here, so that each step of the recursion works on what lies side by side: [AGES, k - 1, n].
    hazard, price = np.ascontiguousarray(hazards.T, dtype=np.float32)[:, None], prices[:, None].astype(np.float32)
    missed = 1 - hazard
    paid = np.diff(EDGES).astype(np.float32)[:, None, None] * (1 + missed) / 2
    read = 1 + np.clip(fresh, 0, price)[:, AFTER_READ[classes].T].transpose(1, 0, 2)
    found = hazard * read - rents[:, None].astype(np.float32) * paid
    later = np.zeros(found.shape[1:], dtype=np.float32)
    for age in range(AGES - 1, -1, -1):
        found[age] += missed[age] * later
        later = np.maximum(found[age], 0)
    solved: NDArray[np.float32] = found.transpose(1, 2, 0).astype(np.float32, copy=False)
    return solved


def sampled_below(share: float) -> int:
    """The hash below which an object is in a sample of such a share."""
    return round(min(1.0, share) * HASHES)
