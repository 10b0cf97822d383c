"""A consumer's process: one row per event, in the same transaction as the offset, until told to stop."""

from __future__ import annotations

import argparse
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from aura.events.errors import LogUnavailableError
from aura.events.event import Record
from aura.events.leases import ConsumerStore
from events_crash.bugs import BUGS, consumer_class, number_of, open_log
from events_crash.plan import registry

TABLES = """
CREATE TABLE IF NOT EXISTS effect (id INTEGER PRIMARY KEY, producer TEXT, key TEXT, number INTEGER, at REAL);
"""
IDLE_SECONDS = 0.02


def apply(connection: sqlite3.Connection, records: Sequence[Record]) -> None:
    """One row per event, with no constraint that would hide a repeated one."""
    now = time.monotonic()
    connection.executemany(
        "INSERT INTO effect (producer, key, number, at) VALUES (?, ?, ?, ?)",
        [(record.event.source, record.key, number_of(record), now) for record in records],
    )


def main() -> None:
    """Consume."""
    parser = argparse.ArgumentParser()
    parser.add_argument("place")
    parser.add_argument("topic")
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--bug", choices=("", *BUGS), default="")
    parser.add_argument("--shadow", type=Path)
    chosen = parser.parse_args()
    if chosen.shadow is not None:
        from events_crash.power import keep_what_is_synced

        keep_what_is_synced(chosen.shadow)
    log = open_log(chosen.place, registry(chosen.topic, chosen.partitions))
    store = ConsumerStore(chosen.folder / "effects.db", tables=TABLES, timeout_seconds=30)
    consumer = consumer_class(chosen.bug)(
        log, store, apply, group="crash", topic=chosen.topic, owner=chosen.name, lease_seconds=30, limit=2000
    )
    stop = chosen.folder / "stop-consumers"
    # The death of the environment leaves nobody who would stop this.
    environment = os.getppid()
    while os.getppid() == environment:
        ending = stop.exists()
        try:
            moved = consumer.step().moved
        except LogUnavailableError:
            time.sleep(0.05)
            continue
        if ending and not moved:
            break
        if not moved:
            time.sleep(IDLE_SECONDS)
    log.close()
    store.close()


if __name__ == "__main__":
    main()
