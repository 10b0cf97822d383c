"""What the online layer takes for itself: CPU time for each access, and bytes for each object.

The accesses are synthetic, since they measure the layer's own work: ranks follow Zipf's law with an exponent of 0.9,
and every 100,000 accesses 2 % of the objects exchange their ranks, so that there is something to move. Everything is
seeded. The layer is told every 1,000 accesses, which is every tenth of a second at 10,000 accesses a second, and plans
each time. CPU time is that of this process in the calls of the layer, the shadows included. Bytes are those that Python
and numpy have allocated when all objects are known and 200,000 accesses were observed, less those before the layer was
made.
"""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from report import Figure, figure, tell

from aura.tiers.online.costs import TierCosts
from aura.tiers.online.layer import OnlineLayer
from aura.tiers.records import Tier

OBJECTS = (100_000, 1_000_000)
OBJECT_BYTES = 64 << 10
BATCH = 1000
RATE = 10_000
"""Accesses a second."""
WARM, MEASURED = 200_000, 400_000
SHIFT_EVERY, SHIFTED = 100_000, 0.02
CPU_GOAL, BYTES_GOAL = 0.02, 64.0
LINES = {
    Tier.L1: (1e-7, 0.0, 2.5e-6, 1.8e-11),
    Tier.L2: (1.4e-6, 4.1e-11, 3.6e-6, 7.2e-11),
    Tier.L3: (2.6e-6, 8.0e-11, 0.0, 0.0),
}
"""Seconds of a get and of a put with their slopes, as measured on one machine."""
ROOMS: dict[Tier, float | None] = {Tier.L1: 1 / 30, Tier.L2: 1 / 15, Tier.L3: None}
"""Capacities as shares of all bytes."""


def figures(data: Path | None, runs: int) -> list[Figure]:
    """CPU time and bytes at each number of objects."""
    del data
    found = []
    for objects in OBJECTS:
        tell(f"control plane, {objects:,} objects")
        shares = [cpu_share(objects, seed) for seed in range(runs)]
        sizes = [bytes_an_object(objects)]
        found += [
            figure(f"control plane, {objects:,} objects", shares, f"share of a core at {RATE:,}/s", goal=CPU_GOAL),
            figure(f"metadata, {objects:,} objects", sizes, "bytes an object", goal=BYTES_GOAL),
        ]
    return found


def accesses(objects: int, count: int, seed: int) -> NDArray[np.int32]:
    """int32[count], the ids that are read."""
    rng = np.random.default_rng(seed)
    popularity = np.cumsum(np.arange(1, objects + 1) ** -0.9)
    ids = rng.permutation(objects).astype(np.int32)
    parts = []
    for start in range(0, count, SHIFT_EVERY):
        ranks = np.searchsorted(popularity, popularity[-1] * rng.random(min(SHIFT_EVERY, count - start)))
        parts.append(ids[ranks])
        moved = rng.choice(objects, int(SHIFTED * objects), replace=False)
        ids[moved] = ids[np.roll(moved, 1)]
    return np.concatenate(parts)


def layer_with(objects: int) -> OnlineLayer:
    """A layer that knows so many objects, all of them in L3."""
    total = objects * OBJECT_BYTES
    layer = OnlineLayer(
        [TierCosts(tier, None if share is None else int(share * total), *LINES[tier]) for tier, share in ROOMS.items()],
        object_bytes=OBJECT_BYTES,
    )
    for start in range(0, objects, 10_000):
        ids = np.arange(start, min(start + 10_000, objects), dtype=np.int32)
        layer.placed(ids, [Tier.L3] * len(ids), np.full(len(ids), OBJECT_BYTES))
    return layer


def observed(layer: OnlineLayer, ids: NDArray[np.int32]) -> float:
    """CPU seconds of observing and planning."""
    started = time.process_time()
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        layer.observe(batch, np.full(len(batch), OBJECT_BYTES))
        layer.plan()
    return time.process_time() - started


def cpu_share(objects: int, seed: int) -> float:
    """Share of a core at `RATE` accesses a second."""
    ids = accesses(objects, WARM + MEASURED, seed)
    layer = layer_with(objects)
    observed(layer, ids[:WARM])
    return observed(layer, ids[WARM:]) / MEASURED * RATE


def bytes_an_object(objects: int) -> float:
    """Bytes that are allocated for each object."""
    ids = accesses(objects, WARM, 0)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        layer = layer_with(objects)
        observed(layer, ids)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    return taken / layer.objects
