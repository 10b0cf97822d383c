"""The replay of a trace through the online layer and through an LRU cascade, in seconds of measured costs.

Belongs here: what an access and a move cost in both, and how long the layer's decisions take to come. Does not: real
bytes (`aura.tiers.replay.through_store`), or hit ratios of a single cache (`aura.tiers.replay.policy`).
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aura.tiers.online.costs import CostTable, TierCosts
from aura.tiers.online.layer import OnlineLayer
from aura.tiers.records import Tier
from aura.tiers.replay.trace import Trace

FOLD_EVERY = 1024
"""Reads after which the owner of a store folds its log, at the latest."""
FOLD_SECONDS = 0.1
"""Seconds after which it does."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a replay cost.

    Attributes:
        accesses: Number of gets.
        get_seconds: Seconds in them.
        move_seconds: Seconds in moves.
        moved_bytes: Bytes that moves copied.
        gets: Gets from each tier, from the cheapest to L3.
    """

    accesses: int
    get_seconds: float
    move_seconds: float
    moved_bytes: int
    gets: tuple[tuple[Tier, int], ...]

    @property
    def mean_seconds(self) -> float:
        """Mean cost of an access, moves included."""
        return (self.get_seconds + self.move_seconds) / self.accesses

    @property
    def miss_ratio(self) -> float:
        """Share of the gets that L3 answered."""
        return self.gets[-1][1] / self.accesses


def dense_ids(trace: Trace) -> NDArray[np.int32]:
    """int32[n], the objects of a trace numbered in the order in which they appear, as a store would."""
    _, first, inverse = np.unique(trace.ids, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[inverse]


def _objects(trace: Trace, object_bytes: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The id of each access, and the bytes of each object: those of its first access."""
    ids = dense_ids(trace)
    sizes = np.zeros(trace.unique, dtype=np.int64)
    sizes[ids[::-1]] = trace.weights[::-1] * (object_bytes if trace.sizes is None else 1)
    return ids, sizes


def replay_layer(
    trace: Trace,
    tiers: Sequence[TierCosts],
    *,
    object_bytes: int = 1,
    fold_every: int = FOLD_EVERY,
    layer: OnlineLayer | None = None,
) -> Cost:
    """Replay a trace through the online layer, batch by batch, as it runs beside a store.

    Gets follow each other without a pause, which is the hardest for the layer: a batch ends with the access after which
    it has `fold_every` of them or `FOLD_SECONDS` of gets. What is planned after a batch is in place for the next one.
    A move reads the copy and writes it; a get that was just made does not help it.

    Args:
        trace: The accesses.
        tiers: Capacities and costs.
        object_bytes: Bytes of each object where the trace has no sizes.
        fold_every: Reads in a batch, at most.
        layer: The layer, without experience; None makes one.
    """
    ids, sizes = _objects(trace, object_bytes)
    typical = float(sizes[ids].mean())
    costs = CostTable(tiers, typical)
    layer = OnlineLayer(tiers, object_bytes=typical) if layer is None else layer
    where = np.full(len(sizes), len(costs.tiers) - 1, dtype=np.int8)
    numbers = {tier: number for number, tier in enumerate(costs.tiers)}
    gets = np.zeros(len(costs.tiers), dtype=np.int64)
    get_seconds = move_seconds = 0.0
    moved, start = 0, 0
    while start < len(ids):
        batch = ids[start : start + fold_every]
        seconds = np.cumsum(costs.get(where[batch], sizes[batch]))
        batch = batch[: int(np.searchsorted(seconds, FOLD_SECONDS)) + 1]
        get_seconds += float(seconds[len(batch) - 1])
        gets += np.bincount(where[batch], minlength=len(gets))
        layer.observe(batch, lambda fresh: sizes[fresh])
        moves = layer.plan()
        target = np.array([numbers[tier] for tier in moves.tiers], dtype=np.int8)
        for tier in range(len(costs.tiers) - 1):
            into = moves.ids[target == tier]
            move_seconds += float(costs.move(where[into], tier, sizes[into]).sum())
        where[moves.ids] = target
        moved += int(moves.bytes.sum())
        start += len(batch)
    return Cost(len(ids), get_seconds, move_seconds, moved, tuple(zip(costs.tiers, gets.tolist(), strict=True)))


def replay_cascade(
    trace: Trace, tiers: Sequence[TierCosts], *, object_bytes: int = 1, bytes_at_hand: bool = False
) -> Cost:
    """Replay a trace through LRU over the same tiers: what is read goes to the fastest, its victims go down one tier.

    A move costs what it costs the layer: the read of the copy and the write; what falls to L3 costs nothing.

    Args:
        trace: The accesses; an object keeps the size that it has at first.
        tiers: Capacities and costs.
        object_bytes: Bytes of each object where the trace has no sizes.
        bytes_at_hand: The get keeps what it has just read, so that a promotion costs the write alone: a cascade that is
            built into the get in place of a mover beside it.
    """
    ids, sizes = _objects(trace, object_bytes)
    costs = CostTable(tiers, float(sizes[ids].mean()))
    durable = len(costs.capacities)
    cascade = _Cascade(costs.capacities.tolist())
    weights = sizes.tolist()
    found = np.array([cascade.access(key, weights[key]) for key in ids.tolist()], dtype=np.int8)
    move_seconds, moved = 0.0, 0
    for (source, target), moves in cascade.moves.items():
        bytes_ = np.array(moves, dtype=np.int64)
        spared = costs.get(source, bytes_) if bytes_at_hand and target < source else np.zeros(1)
        move_seconds += float(costs.move(source, target, bytes_).sum() - spared.sum())
        moved += int(bytes_.sum())
    gets = np.bincount(found, minlength=durable + 1)
    get_seconds = float(costs.get(found, sizes[ids]).sum())
    return Cost(len(ids), get_seconds, move_seconds, moved, tuple(zip(costs.tiers, gets.tolist(), strict=True)))


class _Cascade:
    """LRU over fast tiers, each object in one of them. An object that is too large for a tier passes it by.

    Attributes:
        moves: Bytes of each move to a fast tier, by (source, target).
    """

    def __init__(self, capacities: Sequence[int]) -> None:
        self._capacities = capacities
        self._held: list[OrderedDict[int, int]] = [OrderedDict() for _ in capacities]
        self._used = [0 for _ in capacities]
        self.moves: defaultdict[tuple[int, int], list[int]] = defaultdict(list)

    def access(self, key: int, size: int) -> int:
        """Read an object; the tier that it was found in, as many as there are for L3."""
        for tier, held in enumerate(self._held):
            if key in held:
                if tier == 0:
                    held.move_to_end(key)
                else:
                    self._used[tier] -= held.pop(key)
                    self._insert(0, key, size, source=tier)
                return tier
        self._insert(0, key, size, source=len(self._held))
        return len(self._held)

    def _insert(self, tier: int, key: int, size: int, *, source: int) -> None:
        if tier == len(self._held):
            return
        if size > self._capacities[tier]:
            self._insert(tier + 1, key, size, source=source)
            return
        if tier != source:
            self.moves[source, tier].append(size)
        self._held[tier][key] = size
        self._used[tier] += size
        while self._used[tier] > self._capacities[tier]:
            victim, freed = self._held[tier].popitem(last=False)
            self._used[tier] -= freed
            self._insert(tier + 1, victim, freed, source=tier)
