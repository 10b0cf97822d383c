"""What steering a store takes for itself: CPU time beside the gets, and bytes for each object.

A store: 100,000 objects of 4 KiB in a temporary directory, of which a thirtieth fits into L1 and a fifteenth into L2,
read 10,000 times a second. CPU time is what the kernel counts for the store's upkeep thread, which folds, steers and
makes all the moves, over 20 s that follow 10 s of the same, in which the layer measures the tiers and moves the most.

The layer alone: CPU time of this process in its calls, the shadows included, told every 1,000 accesses, which is every
tenth of a second at that rate, and planning each time; no moves.

Bytes are those that Python and numpy have allocated. For the layer and the upkeep: when all objects are known and
200,000 accesses were observed, less those before they were made. For the index: those of a store that was just opened.

The accesses are synthetic, since they measure the work and not the decisions: ranks follow Zipf's law with an exponent
of 0.9, and every 100,000 accesses 2 % of the objects exchange their ranks, so that there is something to move.
Everything is seeded.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from report import Figure, figure, tell

from aura.tiers.budgets import TierBudgets
from aura.tiers.local import LocalStore
from aura.tiers.online.costs import TierCosts
from aura.tiers.online.layer import OnlineLayer
from aura.tiers.owner import own
from aura.tiers.records import Tier
from aura.tiers.upkeep import Upkeep

OBJECTS = (100_000, 1_000_000)
OBJECT_BYTES = 64 << 10
STORED, STORED_BYTES = 100_000, 4 << 10
WARM_SECONDS, SECONDS = 10, 20
TURN = 100
"""Gets that follow each other without a pause, in the store: a hundredth of a second's."""
UPKEEP_THREAD = "aura-store-upkeep"
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
    """CPU time and bytes, of a store and of the layer alone."""
    del data
    at_rate = f"share of a core at {RATE:,}/s"
    found = []
    with tempfile.TemporaryDirectory(prefix="aura-control-") as home:
        directory = Path(home) / "store"
        tell(f"control plane, a store of {STORED:,} objects")
        fill(directory)
        index = index_bytes(directory)
        on, off = ([read_share(directory, seed, online=online) for seed in range(runs)] for online in (True, False))
        idle = [idle_share(directory) for _ in range(runs)]
        found += [
            figure("control plane of a store, online layer on", on, at_rate, goal=CPU_GOAL),
            figure("control plane of a store, online layer off", off, at_rate),
            figure("control plane of a store, online layer on, idle", idle, "share of a core"),
        ]
    for objects in OBJECTS:
        tell(f"control plane, {objects:,} objects")
        shares = [cpu_share(objects, seed) for seed in range(runs)]
        sizes = [bytes_an_object(objects)]
        name = f"metadata of the layer and the upkeep, {objects:,} objects"
        found += [
            figure(f"layer alone, {objects:,} objects", shares, at_rate),
            figure(name, sizes, "bytes an object", goal=BYTES_GOAL),
        ]
    found.append(figure(f"index of a store, {STORED:,} objects", [index], "bytes an object"))
    return found


def opened(directory: Path, *, online: bool) -> LocalStore:
    """The store in its owner."""
    first, second = (int((ROOMS[tier] or 0) * STORED * STORED_BYTES) for tier in (Tier.L1, Tier.L2))
    budgets = TierBudgets(process_bytes=first, arena_bytes=second, online=online)
    store = own(directory, budgets, None, timeout_seconds=30)
    if store is None:
        raise RuntimeError(f"{directory} has another owner")
    return store


def keys() -> list[str]:
    """By id."""
    return [f"objects/{number:06d}" for number in range(STORED)]


def fill(directory: Path) -> None:
    """Write all objects."""
    rng = np.random.default_rng(0)
    directory.mkdir()
    with opened(directory, online=False) as store:
        names = keys()
        for start in range(0, STORED, BATCH):
            store.write({name: rng.bytes(STORED_BYTES) for name in names[start : start + BATCH]})
        store.flush()


def index_bytes(directory: Path) -> float:
    """Bytes that opening a store allocates for each of its objects."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        with opened(directory, online=False):
            return (tracemalloc.get_traced_memory()[0] - before) / STORED
    finally:
        tracemalloc.stop()


def read_share(directory: Path, seed: int, *, online: bool) -> float:
    """Share of a core that the upkeep takes while the store is read."""
    names = keys()
    order = [names[number] for number in accesses(STORED, (WARM_SECONDS + SECONDS) * RATE, seed).tolist()]
    with opened(directory, online=online) as store:
        read(store, order[: WARM_SECONDS * RATE])
        before = upkeep_seconds()
        seconds = read(store, order[WARM_SECONDS * RATE :])
        share = (upkeep_seconds() - before) / seconds
    rate = SECONDS * RATE / seconds
    tell(f"online layer {'on' if online else 'off'}: {share:.4f} of a core at {rate:,.0f} gets a second")
    if rate < 0.95 * RATE:
        raise RuntimeError(f"the store was read {rate:,.0f} times a second, not {RATE:,}; run it on a quieter machine")
    return share


def idle_share(directory: Path) -> float:
    """Share of a core that the upkeep takes while nothing is read, once the layer has begun."""
    with opened(directory, online=True) as store:
        read(store, keys()[:BATCH])
        time.sleep(WARM_SECONDS)
        before = upkeep_seconds()
        time.sleep(SECONDS)
        return (upkeep_seconds() - before) / SECONDS


def read(store: LocalStore, order: Sequence[str]) -> float:
    """Get these objects at the rate; the seconds that it took."""
    started = time.perf_counter()
    for start in range(0, len(order), TURN):
        for name in order[start : start + TURN]:
            store.get(name)
        time.sleep(max(0.0, started + (start + TURN) / RATE - time.perf_counter()))
    return time.perf_counter() - started


def upkeep_seconds() -> float:
    """CPU seconds of the upkeep thread so far: the 14th and 15th field of its `stat`, see proc(5)."""
    (thread,) = (each for each in threading.enumerate() if each.name == UPKEEP_THREAD)
    fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
    """Bytes that the layer and the upkeep allocate for each object."""
    ids = accesses(objects, WARM, 0)
    with tempfile.TemporaryDirectory(prefix="aura-control-") as home, opened(Path(home), online=False) as store:
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            upkeep = Upkeep(store)
            layer = layer_with(objects)
            observed(layer, ids)
            for start in range(0, len(ids), BATCH):
                upkeep._remember(ids[start : start + BATCH], start + BATCH)  # noqa: SLF001 - its only growing array
            taken = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    return taken / layer.objects
