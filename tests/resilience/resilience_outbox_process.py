"""A process that drains an outbox into a file, one durable line per item, until it is killed or nothing waits.

python resilience_outbox_process.py OUTBOX LIMIT DELIVERED BATCH
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from aura.resilience.outbox import Outbox


def main() -> None:
    path, limit, delivered, batch = sys.argv[1:]
    with Outbox(Path(path), int(limit)) as outbox, Path(delivered).open("ab", buffering=0) as file:

        def send(items: Sequence[bytes]) -> None:
            file.writelines(item + b"\n" for item in items)
            os.fsync(file.fileno())

        print("ready", flush=True)
        outbox.drain(send, batch=int(batch))


if __name__ == "__main__":
    main()
