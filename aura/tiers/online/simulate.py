"""The replay of a trace through the online layer and through an LRU cascade, in seconds of measured costs.

Belongs here: what an access and a move cost in both, and how long the layer's decisions take to come. Does not: real
bytes (`aura.tiers.replay.through_store`), or hit ratios of a single cache (`aura.tiers.replay.policy`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aura.tiers.online.costs import CostTable, TierCosts
from aura.tiers.online.layer import OnlineLayer
from aura.tiers.replay.trace import Trace
from aura.tiers.store import Tier

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
    ids, weights = dense_ids(trace), trace.weights * (object_bytes if trace.sizes is None else 1)
    sizes = np.zeros(trace.unique, dtype=np.int64)
    sizes[ids[::-1]] = weights[::-1]
    typical = float(weights.mean())
    costs = CostTable(tiers, typical)
    layer = OnlineLayer(tiers, object_bytes=typical) if layer is None else layer
    where = np.full(trace.unique, len(costs.tiers) - 1, dtype=np.int8)
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


def replay_cascade(trace: Trace, tiers: Sequence[TierCosts], *, object_bytes: int = 1) -> Cost:
    """Replay a trace through LRU over the same tiers: what is read goes to the fastest, whose victims go down one tier.

    It moves within the get, with the bytes at hand: what is promoted costs the write, what is demoted a read from memory
    and the write, and what falls to L3 nothing.

    Args:
        trace: The accesses.
        tiers: Capacities and costs.
        object_bytes: Bytes of each object where the trace has no sizes.
    """
    ids, weights = dense_ids(trace), trace.weights * (object_bytes if trace.sizes is None else 1)
    costs = CostTable(tiers, float(weights.mean()))
    durable = len(costs.tiers) - 1
    capacities = costs.capacities.tolist()
    held: list[OrderedDict[int, int]] = [OrderedDict() for _ in capacities]
    used = [0] * durable
    counts = np.zeros((durable + 1, 3), dtype=np.int64)
    entered: list[list[int]] = [[] for _ in capacities]
    descended: list[list[int]] = [[] for _ in capacities]
    found = np.full(len(ids), durable, dtype=np.int8)
    for index, (key, size) in enumerate(zip(ids.tolist(), weights.tolist(), strict=True)):
        tier = next((tier for tier in range(durable) if key in held[tier]), durable)
        found[index] = tier
        if tier == 0:
            held[0].move_to_end(key)
            continue
        if tier < durable:
            used[tier] -= held[tier].pop(key)
        # Where it does not fit at all it goes to the next tier.
        into = next((fast for fast in range(durable) if size <= capacities[fast]), durable)
        falling = [(key, size)]
        if into < durable:
            entered[into].append(size)
        while falling and into < durable:
            below: list[tuple[int, int]] = []
            for each, bytes_ in falling:
                if bytes_ > capacities[into]:
                    continue
                held[into][each] = bytes_
                used[into] += bytes_
            while used[into] > capacities[into]:
                victim, freed = held[into].popitem(last=False)
                used[into] -= freed
                below.append((victim, freed))
            if into + 1 < durable:
                descended[into + 1] += [freed for _, freed in below if freed <= capacities[into + 1]]
            falling, into = below, into + 1
    move_seconds, moved = 0.0, 0
    for tier in range(durable):
        sizes = np.array(entered[tier], dtype=np.int64)
        move_seconds += float((costs.move(0, tier, sizes) - costs.get(0, sizes)).sum())
        lower = np.array(descended[tier], dtype=np.int64)
        move_seconds += float(costs.move(tier - 1, tier, lower).sum()) if len(lower) else 0.0
        moved += int(sizes.sum() + lower.sum())
    counts = np.bincount(found, minlength=durable + 1)
    get_seconds = float(costs.get(found, weights).sum())
    return Cost(len(ids), get_seconds, move_seconds, moved, tuple(zip(costs.tiers, counts.tolist(), strict=True)))
