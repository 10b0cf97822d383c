"""Writers that are there to be killed: `python killed_process.py`, for tests with real processes.

The process imports the store once and forks a writer for each line `DIRECTORY FIRST SEED` on its stdin; it prints the
writer's process id. The writer prints the number of each batch that was acknowledged, from FIRST on, and in between
does everything else that an owner does. Nothing is open in the process that forks.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from aura.tiers.budgets import TierBudgets
from aura.tiers.errors import StoreError
from aura.tiers.records import Tier
from aura.tiers.store import open_store

KEYS = 40
BUDGETS = TierBudgets(process_bytes=64 << 10, arena_bytes=64 << 10, online=True)


def batch(number: int) -> tuple[dict[str, bytes], list[str]]:
    """What the batch of this number puts and deletes."""
    rng = np.random.default_rng(number)
    keys = [f"k{key}" for key in rng.choice(KEYS, 5, replace=False)]
    puts = {key: rng.bytes(int(rng.integers(0, 9000))) for key in keys[: int(rng.integers(1, 4))]}
    return puts, keys[3:]


def write_for_ever(directory: Path, first: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with open_store(directory, budgets=BUDGETS) as store:
        for number in range(first, first + 1_000_000):
            puts, gone = batch(number)
            store.write(puts, gone)
            os.write(1, f"{number}\n".encode())
            keys = [entry.key for entry in store.entries()]
            store.move(
                {key: list(Tier)[rng.integers(1, 4)] for key in rng.choice(keys, min(6, len(keys)), replace=False)}
            )
            store.prefetch([str(rng.choice(keys))], Tier.L2)
            for key in rng.choice(keys, 5):
                try:
                    store.get(str(key))
                    if rng.random() < 0.2:
                        store.pin(str(key), Tier.L1)
                        store.unpin(str(key))
                except StoreError as error:
                    if "fit" not in str(error):
                        raise
            if number % 20 == 0:
                store.checkpoint(directory.parent / f"checkpoint-{number}-{os.getpid()}")


if __name__ == "__main__":
    for line in sys.stdin:
        place, start, chosen = line.split()
        writer = os.fork()
        if writer == 0:
            write_for_ever(Path(place), int(start), int(chosen))
        print(f"writer {writer}", flush=True)
        os.waitpid(writer, 0)
        print("ended", flush=True)
