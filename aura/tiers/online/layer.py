"""The online layer of a store: it is told what was read and what became of its moves, and answers with moves.

Belongs here: the public face, and who is told what in which order. Does not: any computation; see the other modules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aura.tiers.online.costs import CostTable, Moves, TierCosts
from aura.tiers.online.cycle import Cycle
from aura.tiers.online.history import History
from aura.tiers.online.placing import Placement, movable, offers
from aura.tiers.online.policies import NAMES, Knowledge, Recency
from aura.tiers.online.reuse import Reuse
from aura.tiers.online.shadows import SHADOW_OBJECTS, Shadows
from aura.tiers.records import Tier

Sizes = Callable[[NDArray[np.int32]], ArrayLike] | ArrayLike

HALVED_AFTER = 10
"""Reads, for each object that fast memory holds, after which the counts of all objects are halved."""


class OnlineLayer:
    """Decides which objects live on which tier while they are read. Not thread-safe; it starts nothing by itself.

    Attributes:
        switches: (reads so far, policy) of each change of the policy that is followed.
    """

    def __init__(self, tiers: Sequence[TierCosts], *, object_bytes: float = 65536.0) -> None:
        """Begin with every object in L3 and no experience.

        Args:
            tiers: Capacities and measured costs; L3 among them, the rest as the store has them.
            object_bytes: Roughly the bytes of one object. Tiers are ordered by the cost of a get of so many, and the
                sample of keys is as large as it has to be for objects of that size.

        Raises:
            ValueError: A tier is named twice, L3 is missing, or the bytes are not above zero.
        """
        if not object_bytes > 0:
            raise ValueError(f"object_bytes is {object_bytes}; objects have more than zero bytes")
        self._costs = CostTable(tiers, object_bytes)
        self._named = {each.tier for each in tiers}
        self._known = Knowledge(History(), Reuse(self._costs.prices(object_bytes)), Cycle())
        budget = int(self._costs.capacities.sum())
        self._common = Recency(self._known)
        self._objects = max(1, round(budget / object_bytes))
        share = min(1.0, SHADOW_OBJECTS / self._objects)
        self._shadows = Shadows(self._known, self._costs, share)
        history = self._known.history
        self._placement = Placement(self._shadows.policy(self._known), history, self._costs, self._costs.capacities)
        self._touched = np.zeros(0, dtype=np.int64)
        self._bytes_read = 0.0
        self._halve_at = HALVED_AFTER * self._objects
        self.switches: list[tuple[int, str]] = []

    @property
    def following(self) -> str:
        """Name of the policy that is followed."""
        return NAMES[self._shadows.following]

    @property
    def objects(self) -> int:
        """Number of objects that are known."""
        return int(self._known.history.known.sum())

    @property
    def used(self) -> dict[Tier, int]:
        """Bytes that each fast tier holds, once all moves are made."""
        fast = self._costs.tiers[:-1]
        return dict(zip(fast, self._placement.used.tolist(), strict=True))

    @property
    def short_of_cycle(self) -> tuple[int, int] | None:
        """(bytes of fast memory, bytes of one cycle) when access is cyclic and the former are fewer; else None.

        A cache that evicts what was read least recently then evicts everything just before it is read.
        """
        length, now = self._known.cycle.length, self._known.history.now
        if length is None:
            return None
        budget, cycle = int(self._costs.capacities.sum()), round(length * self._bytes_read / now)
        return (budget, cycle) if budget < cycle else None

    def observe(self, ids: NDArray[np.int32], sizes: Sizes) -> None:
        """Take note of a batch of reads.

        Args:
            ids: int32[n], what was read, oldest first.
            sizes: Bytes of the objects: n of them, or a function that is called with the ids that are not known yet,
                each once, and returns as many. An object with a size below zero is gone, and its reads are left out.
        """
        history = self._known.history
        rows = history.find(ids)
        fresh = np.flatnonzero(rows < 0)
        if len(fresh):
            new, first = np.unique(ids[fresh], return_index=True)
            found = np.asarray(sizes(new) if callable(sizes) else np.asarray(sizes)[fresh[first]], dtype=np.int64)
            self._shadows.add(history.add(new[found >= 0], found[found >= 0]))
            rows = history.find(ids)
            rows = rows[rows >= 0]
        if not len(rows):
            return
        self._placement.lengthen()
        self._bytes_read += float(history.size[rows].sum())
        self._shadows.before(rows)
        folded = history.fold(rows, self._known.cycle.length)
        self._known.reuse.note(folded.kinds, folded.gaps)
        self._known.cycle.note(folded.gaps)
        if history.now >= self._halve_at:
            history.count >>= 1
            self._halve_at = history.now + HALVED_AFTER * self._objects
        if self._known.reuse.due(history.now):
            self._learn()
        self._placement.policy.read(folded.rows, folded.counts)
        offered = offers(self._common, history, self._costs, movable(history, folded.rows))
        self._shadows.after(folded.rows, folded.counts, offered)
        self._touched = np.union1d(self._touched, folded.rows) if len(self._touched) else folded.rows
        if self._shadows.choose():
            self._placement.follow(self._shadows.policy(self._known))
            self.switches.append((history.now, self.following))

    def plan(self, most_bytes: float = np.inf) -> Moves:
        """The moves that pay for themselves, after what was observed since the last plan.

        They count as made from now on. What was not made, or not so, has to be told by `placed`.

        Args:
            most_bytes: Bytes that may be copied; what a mover can do until the next plan.

        Returns:
            Moves, in an order in which no tier ever holds more than its capacity.
        """
        history = self._known.history
        rows = movable(history, self._touched)
        offered = offers(self._placement.policy, history, self._costs, rows)
        planned = self._placement.plan(offered, most_bytes)
        self._touched = self._touched[:0]
        names = self._costs.tiers
        ids = history.ids(planned.rows)
        return Moves(ids, tuple(names[target] for target in planned.targets.tolist()), planned.bytes)

    def placed(self, ids: NDArray[np.int32], tiers: Sequence[Tier], sizes: ArrayLike) -> None:
        """Take note of where objects are: after a write, a move by others, a move that was refused or left out.

        Args:
            ids: int32[n]; the last one counts where one comes twice.
            tiers: Where each is, n of them. A tier that is of no use, since it is as slow as L3, counts as L3.
            sizes: int[n], bytes.

        Raises:
            ValueError: A tier is not one of this layer's.
        """
        numbers = self._numbers(tiers)
        ids, latest = np.unique(np.asarray(ids)[::-1], return_index=True)
        numbers, sizes = numbers[::-1][latest], np.asarray(sizes, dtype=np.int64)[::-1][latest]
        history = self._known.history
        before = history.find(ids)
        known = before[before >= 0]
        self._placement.drop(known)
        self._shadows.drop(known[history.size[known] != np.maximum(sizes[before >= 0], 1)])
        rows = history.add(ids, sizes)
        self._shadows.add(rows[before < 0])
        self._placement.put(rows, numbers)

    def pin(self, ids: NDArray[np.int32]) -> None:
        """Leave objects where they are from now on.

        Raises:
            ValueError: An id is not known; where it is has to be told by `placed` first.
        """
        rows = self._known.history.find(ids)
        if (rows < 0).any():
            raise ValueError(f"id {ids[rows < 0][0]} is not known; tell by `placed` where it is before it is pinned")
        self._known.history.pinned[rows] = True

    def unpin(self, ids: NDArray[np.int32]) -> None:
        """Let objects be moved again; ids that are not known are passed over."""
        rows = self._known.history.find(ids)
        self._known.history.pinned[rows[rows >= 0]] = False

    def forget(self, ids: NDArray[np.int32]) -> None:
        """Objects were deleted; ids that are not known are passed over."""
        rows = self._known.history.find(ids)
        rows = np.unique(rows[rows >= 0])
        self._placement.drop(rows)
        self._shadows.remove(rows)
        self._known.history.remove(rows)
        self._touched = np.setdiff1d(self._touched, rows)

    def _numbers(self, tiers: Sequence[Tier]) -> NDArray[np.int8]:
        unknown = set(tiers) - self._named
        if unknown:
            raise ValueError(f"there is no {min(unknown)} here; there are {', '.join(sorted(self._named))}")
        durable = len(self._costs.capacities)
        numbers = {tier: number for number, tier in enumerate(self._costs.tiers)}
        return np.array([numbers.get(tier, durable) for tier in tiers], dtype=np.int8)

    def _learn(self) -> None:
        self._known.reuse.learn(
            self._known.history,
            self._shadows.rows,
            self._shadows.share,
            capacities=self._costs.capacities,
            used=self._placement.used,
        )
