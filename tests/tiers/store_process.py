"""Another process that opens stores: `python store_process.py ACTION DIRECTORY`, for tests with real processes.

serve: opens every directory that it reads from stdin, as the owner, and answers "ready"; ends at the end of stdin.
own: opens one directory, answers "ready", and waits to be killed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from aura.tiers.budgets import TierBudgets
from aura.tiers.store import open_store

BUDGETS = TierBudgets(device_bytes=1 << 16, process_bytes=1 << 16, arena_bytes=1 << 16)


def serve() -> None:
    stores = []
    for line in sys.stdin:
        stores.append(open_store(Path(line.strip()), budgets=BUDGETS, device="cpu"))
        print("ready", flush=True)
    for store in stores:
        store.close()


def own(directory: Path) -> None:
    store = open_store(directory, budgets=TierBudgets(process_bytes=1 << 16, arena_bytes=1 << 16))
    store.put("from-owner", b"owner")
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    match sys.argv[1]:
        case "serve":
            serve()
        case "own":
            own(Path(sys.argv[2]))
