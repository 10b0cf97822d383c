"""How fast objects move up, over what is physically there: reading the source, or writing the target.

The limit of a promotion is the slower of the two: bare reads of the same objects from the source, and a copy of memory
into fresh memory (L1, which keeps every object in memory of its own) or into memory that is there (L2). On a machine
with a GPU the limit of L0 is a copy from pinned memory to the device.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from report import Figure, figure, tell

from aura.tiers.budgets import TierBudgets
from aura.tiers.device import default_device
from aura.tiers.records import Tier
from aura.tiers.store import open_store
from tier_figures.latency import moved_all

KIB, MIB = 1 << 10, 1 << 20
SIZES = (256 * KIB, MIB, 8 * MIB)
TOTAL_BYTES = 64 * MIB
ROUNDS = 7
GOAL, DEVICE_GOAL = 0.8, 0.9
BUDGETS = TierBudgets(process_bytes=2 * TOTAL_BYTES, arena_bytes=2 * TOTAL_BYTES, device_bytes=2 * TOTAL_BYTES)


def figures(data: Path | None, runs: int) -> list[Figure]:
    """Bandwidth of promotions as shares of their limits."""
    del data
    found = []
    paths = [(Tier.L3, Tier.L2), (Tier.L3, Tier.L1), (Tier.L2, Tier.L1)]
    if default_device() is not None:
        paths += [(Tier.L1, Tier.L0), (Tier.L3, Tier.L0)]
    for source, target in paths:
        for size in SIZES:
            tell(f"promotion {source} to {target}, {size // KIB} KiB")
            values = [share_of_limit(source, target, size) for _ in range(runs)]
            limit = "pinned copy" if target is Tier.L0 else "min(source read, memcpy)"
            goal = DEVICE_GOAL if target is Tier.L0 else GOAL
            name = f"promotion {source} to {target}, {size // KIB} KiB"
            found.append(figure(name, values, "share", against=limit, goal=goal, at_least=True))
    return found


def share_of_limit(source: Tier, target: Tier, size: int) -> float:
    """Bandwidth of moving all objects, over the smaller of the two bandwidths; medians of rounds that take turns."""
    count = TOTAL_BYTES // size
    with (
        tempfile.TemporaryDirectory(prefix="aura-promotion-") as home,
        open_store(Path(home), budgets=BUDGETS) as store,
    ):
        rng = np.random.default_rng(size)
        keys = [f"{number}" for number in range(count)]
        for key in keys:
            store.put(key, rng.bytes(size))
        store.flush()

        def read() -> None:
            kept = [store.payload(store.records[key]) for key in keys]
            del kept[:]

        write = pinned_copies(count, size) if target is Tier.L0 else memory_copies(rng, count, size, target)
        spent: list[tuple[float, float, float]] = []
        for _ in range(ROUNDS + 1):
            store.move(dict.fromkeys(keys, Tier.L3))
            if source is not Tier.L3:
                store.move(dict.fromkeys(keys, source))
            spent.append((seconds(read), seconds(write), seconds(partial(moved_all, store, keys, target))))
    reads, writes, moves = (statistics.median(each) for each in zip(*spent[1:], strict=True))
    limit = writes if target is Tier.L0 else max(reads, writes)
    return limit / moves


def memory_copies(rng: np.random.Generator, count: int, size: int, target: Tier) -> Callable[[], None]:
    """Copies of as many bytes: into memory that is fresh for L1, and there already for L2."""
    content = rng.bytes(size * count)
    there = bytearray(size * count)

    def fresh() -> None:
        kept = [bytes(memoryview(content)[number * size : (number + 1) * size]) for number in range(count)]
        del kept[:]

    def again() -> None:
        for number in range(count):
            part = slice(number * size, (number + 1) * size)
            np.frombuffer(there, dtype=np.uint8)[part] = np.frombuffer(content, dtype=np.uint8)[part]

    return fresh if target is Tier.L1 else again


def pinned_copies(count: int, size: int) -> Callable[[], None]:
    """Copies from pinned memory to the device."""
    import torch

    host = torch.empty(size, dtype=torch.uint8, pin_memory=True)
    device = torch.empty(size * count, dtype=torch.uint8, device="cuda")

    def copies() -> None:
        for number in range(count):
            device[number * size : (number + 1) * size].copy_(host, non_blocking=True)
        torch.cuda.synchronize()

    return copies


def seconds(work: Callable[[], None]) -> float:
    """Wall seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
