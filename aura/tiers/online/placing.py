"""Where objects are, and which moves pay for themselves under a policy: the same for the store and for its shadows.

A move to a faster tier gains what `Reuse` calls its advantage; it costs the read of the copy, the write, and what the
objects that make room would have gained. Per tier, from the fastest: those that were just read are sorted by gain per
byte, those that are held by the policy's order, and as many of the first displace as many of the last as make the most
of gains less losses. What was displaced may go to the next slower tier on the same terms; otherwise its copy is
dropped, which costs nothing, since L3 holds every object. That a move has to be weighed against its cost is from ARMS
(arXiv 2508.04417). An object that was read once is never moved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aura.tiers.online.costs import CostTable, Floats, Rows
from aura.tiers.online.history import ONCE, History, lengthened
from aura.tiers.online.policies import Mask, Recency, S3Fifo

POOL = 1024
"""Objects of a tier that are ranked for each plan; in a larger tier those that ranked lowest some time ago."""
CHANCES = 4
"""Times that second chances are given before victims are taken as they come."""


@dataclass(frozen=True, eq=False, slots=True)
class Planned:
    """Moves of rows, in the order in which they have to be made.

    Attributes:
        rows: int64[m], each row once.
        targets: int8[m], the position of the tier in the cost table.
        bytes: int64[m], copied by each; none for a copy that is only dropped.
        seconds: Cost of all of them.
    """

    rows: Rows
    targets: NDArray[np.int8]
    bytes: NDArray[np.int64]
    seconds: float


@dataclass(frozen=True, eq=False, slots=True)
class Offers:
    """Objects, and what each tier offers them.

    Attributes:
        rows: int64[n], each once.
        sizes: int64[n], bytes.
        saved: float64[k - 1, n], seconds to be saved by having each in a fast tier in place of L3, its rent paid.
    """

    rows: Rows
    sizes: Rows
    saved: Floats

    def taken(self, chosen: Mask | Rows | slice) -> Offers:
        """Some of them."""
        return Offers(self.rows[chosen], self.sizes[chosen], self.saved[:, chosen])


def offers(policy: Recency, history: History, costs: CostTable, rows: Rows) -> Offers:
    """What the tiers offer to objects, by what a policy expects of them."""
    sizes = history.size[rows]
    return Offers(rows, sizes, policy.advantages(rows) * costs.worth(sizes))


def movable(history: History, touched: Rows) -> Rows:
    """Those of the rows that may be moved: not pinned, and not read only once."""
    return touched[(history.kind[touched] > ONCE) & ~history.pinned[touched]]


@dataclass(eq=False, slots=True)
class _Arrivals:
    """Objects that may enter a tier: where their copy is, and where they are if they do not."""

    offers: Offers
    source: NDArray[np.int8]
    here: NDArray[np.int8]

    def taken(self, chosen: Mask | Rows | slice) -> _Arrivals:
        return _Arrivals(self.offers.taken(chosen), self.source[chosen], self.here[chosen])

    def beside(self, other: _Arrivals) -> _Arrivals:
        if not len(other.source):
            return self
        mine, theirs = self.offers, other.offers
        both = Offers(
            np.concatenate([mine.rows, theirs.rows]),
            np.concatenate([mine.sizes, theirs.sizes]),
            np.concatenate([mine.saved, theirs.saved], axis=1),
        )
        source = np.concatenate([self.source, other.source])
        return _Arrivals(both, source, np.concatenate([self.here, other.here]))


class Placement:
    """The tier of every object under one policy, within capacities.

    Attributes:
        policy: Whose order is followed; may be exchanged.
        tier: int8[rows], position in the cost table; the last one is L3.
        used: int64[k - 1], bytes in each fast tier.
    """

    def __init__(self, policy: Recency, history: History, costs: CostTable, capacities: NDArray[np.int64]) -> None:
        self.policy = policy
        self.capacities = capacities
        self.tier = np.full(history.rows, len(capacities), dtype=np.int8)
        self.used = np.zeros(len(capacities), dtype=np.int64)
        self._history = history
        self._costs = costs
        self._durable = len(capacities)
        self._held = [np.zeros(0, dtype=np.int64) for _ in capacities]
        self._pools = [np.zeros(0, dtype=np.int64) for _ in capacities]
        self._pooled_at = [0] * len(capacities)

    @property
    def objects(self) -> int:
        """Number of objects in fast tiers."""
        return sum(len(held) for held in self._held)

    def lengthen(self) -> None:
        """Follow the history's growth."""
        if len(self.tier) < self._history.rows:
            self.tier = lengthened(self.tier, self._history.rows, self._durable)

    def put(self, rows: Rows, targets: NDArray[np.int8]) -> None:
        """Take note that objects are on these tiers, by no plan of this object's; each row once."""
        self.lengthen()
        sizes = self._history.size[rows]
        before = self.tier[rows]
        changed = before != targets
        for tier in range(self._durable):
            self.used[tier] += sizes[changed & (targets == tier)].sum() - sizes[changed & (before == tier)].sum()
            entering = rows[changed & (targets == tier)]
            self._held[tier] = np.concatenate([self._held[tier], entering])
            self.policy.entered(entering)
        self.tier[rows] = targets
        for tier in np.unique(before[changed]).tolist():
            if tier < self._durable:
                self._held[tier] = self._held[tier][self.tier[self._held[tier]] == tier]

    def drop(self, rows: Rows) -> None:
        """Take note that objects have no copy in a fast tier; each row once, with the size that it had."""
        self.put(rows, np.full(len(rows), self._durable, dtype=np.int8))

    def follow(self, policy: Recency) -> None:
        """Exchange the policy; what is placed stays."""
        self.policy = policy
        for tier, held in enumerate(self._held):
            policy.entered(held)
            self._pools[tier] = np.zeros(0, dtype=np.int64)

    def plan(self, offered: Offers, most_bytes: float = np.inf) -> Planned:
        """Plan moves after a batch of reads, and take them as made.

        Args:
            offered: What the tiers offer to those that were read, as far as they are `movable`, by this policy.
            most_bytes: Bytes that may be copied.
        """
        durable = self._durable
        before = self.tier[offered.rows]
        displaced = _Arrivals(offered.taken(slice(0, 0)), before[:0], before[:0])
        moved: list[_Arrivals] = []
        for tier in range(durable):
            here = self.tier[offered.rows]
            rising = np.flatnonzero((before > tier) & (here > tier))
            arrivals = _Arrivals(offered.taken(rising), here[rising], here[rising]).beside(displaced)
            entering, leaving = self._exchange(tier, arrivals, most_bytes)
            moved.append(entering)
            if len(entering.source):
                most_bytes -= float(entering.offers.sizes.sum())
                self.tier[entering.offers.rows] = tier
                if len(displaced.source):
                    displaced = displaced.taken(self.tier[displaced.offers.rows] == durable)
            if len(leaving.rows):
                # An object that rises leaves its room only after those that descend have come: it is not free yet.
                self.used[tier] -= leaving.sizes.sum()
                self.tier[leaving.rows] = durable
                source = np.full(len(leaving.rows), tier, dtype=np.int8)
                displaced = _Arrivals(leaving, source, np.full_like(source, durable)).beside(displaced)
        if not any(len(each.source) for each in (displaced, *moved)):
            return Planned(offered.rows[:0], before[:0], offered.rows[:0], 0.0)
        return self._made(moved, displaced)

    def _exchange(self, tier: int, arrivals: _Arrivals, most_bytes: float) -> tuple[_Arrivals, Offers]:
        """Who enters a tier, and who leaves it for that."""
        gain = self._gain(tier, arrivals)
        sizes = arrivals.offers.sizes
        paying = np.flatnonzero((gain > 0) & (sizes <= self.capacities[tier]))
        nobody = arrivals.offers.taken(paying[:0])
        if not len(paying):
            return arrivals.taken(paying), nobody
        paying = paying[np.argsort(-gain[paying] / sizes[paying], kind="stable")]
        paying = paying[np.cumsum(sizes[paying]) <= most_bytes]
        free = int(self.capacities[tier] - self.used[tier])
        need = np.cumsum(sizes[paying]) - free
        if not len(need) or need[-1] <= 0:
            return arrivals.taken(paying), nobody
        pool = self._victims(tier, int(need[-1]))
        room = np.cumsum(self._history.size[pool])
        if len(pool):
            beside = pool[np.minimum(np.searchsorted(room, need), len(pool) - 1)]
            paying = paying[(need <= 0) | self.policy.admits(arrivals.offers.rows[paying], beside)]
            need = np.cumsum(sizes[paying]) - free
        count = np.where(need > 0, np.searchsorted(room, need) + 1, 0)
        paying, count = paying[count <= len(pool)], count[count <= len(pool)]
        if not len(paying):
            return arrivals.taken(paying), nobody
        victims = offers(self.policy, self._history, self._costs, pool[: int(count[-1])])
        lost = np.concatenate([[0.0], np.cumsum(np.maximum(victims.saved[tier], 0))])
        net = np.cumsum(gain[paying]) - lost[count]
        best = int(net.argmax())
        if net[best] <= 0:
            return arrivals.taken(paying[:0]), nobody
        return arrivals.taken(paying[: best + 1]), victims.taken(slice(0, int(count[best])))

    def _gain(self, tier: int, arrivals: _Arrivals) -> Floats:
        """float64[n], seconds that are gained when objects enter a tier, less those of the move."""
        gain = arrivals.offers.saved[tier].copy()
        for slower in range(tier + 1, self._durable):
            here = np.flatnonzero(arrivals.here == slower)
            gain[here] -= np.maximum(arrivals.offers.saved[slower, here], 0)
        found: Floats = gain - self._costs.move(arrivals.source, tier, arrivals.offers.sizes)
        return found

    def _victims(self, tier: int, wanted: int) -> Rows:
        """Objects of a tier in the order in which they go, enough for so many bytes if the pool has them."""
        pool = self._pool(tier)
        for _ in range(CHANCES):
            pool = pool[np.argsort(self.policy.keep(pool), kind="stable")]
            if not isinstance(self.policy, S3Fifo):
                break
            head = int(np.searchsorted(np.cumsum(self._history.size[pool]), wanted)) + 1
            if not self.policy.spared(pool[:head]).any():
                break
        return pool

    def _pool(self, tier: int) -> Rows:
        held, history = self._held[tier], self._history
        if len(held) <= POOL:
            return held[~history.pinned[held]]
        pool = self._pools[tier]
        pool = pool[(self.tier[pool] == tier) & ~history.pinned[pool]]
        if len(pool) < POOL // 2 or history.now - self._pooled_at[tier] > 4 * len(held):
            movable = held[~history.pinned[held]]
            keep = self.policy.keep(movable)
            pool = movable[np.argpartition(keep, POOL)[:POOL]] if len(movable) > POOL else movable
            self._pooled_at[tier] = history.now
        self._pools[tier] = pool
        return pool

    def _made(self, moved: list[_Arrivals], displaced: _Arrivals) -> Planned:
        """Bring the books up to date, and the moves into order."""
        durable = self._durable
        parts = [displaced, *moved]
        rows = np.concatenate([each.offers.rows for each in parts])
        source = np.concatenate([each.source for each in parts])
        targets = np.arange(-1, durable, dtype=np.int8)
        targets[0] = durable
        target = np.repeat(targets, [len(each.source) for each in parts])
        sizes = np.concatenate([each.offers.sizes for each in parts])
        seconds = 0.0
        for tier, entering in enumerate(moved):
            rose = sizes[(source == tier) & (target < tier)].sum()
            into = entering.offers
            self.used[tier] += into.sizes.sum() - rose
            held = self._held[tier]
            if rose or (source == tier).any():
                held = held[self.tier[held] == tier]
            self._held[tier] = np.concatenate([held, into.rows])
            self.policy.entered(into.rows)
            seconds += float(self._costs.move(entering.source, tier, into.sizes).sum())
        # Drops, then descents from the slowest tier up, then what rises.
        order = np.lexsort((np.where(target > source, -source, 0), target <= source, target != durable))
        return Planned(rows[order], target[order], np.where(target == durable, 0, sizes)[order], seconds)
