"""A producer's process: publishes its plan from where it was acknowledged last, until told to stop."""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path

from aura.events.errors import LogUnavailableError
from events_crash.bugs import BUGS, open_log
from events_crash.plan import acknowledged, note, planned, registry


def main() -> None:
    """Publish, note, again."""
    parser = argparse.ArgumentParser()
    parser.add_argument("place")
    parser.add_argument("topic")
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--bug", choices=("", *BUGS), default="")
    parser.add_argument("--shadow", type=Path)
    chosen = parser.parse_args()
    if chosen.shadow is not None:
        from events_crash.power import keep_what_is_synced

        keep_what_is_synced(chosen.shadow)
    path = chosen.folder / f"{chosen.name}.acknowledged"
    number = acknowledged(path)
    chance = random.Random(f"{chosen.name} {number}")  # noqa: S311  a repeatable choice, no secret
    log = open_log(chosen.place, registry(chosen.topic, chosen.partitions), chosen.bug)
    stop = chosen.folder / "stop-producers"
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    events = []
    # The death of the environment leaves nobody who would stop this.
    environment = os.getppid()
    while not stop.exists() and os.getppid() == environment:
        # A batch that failed is published again as it was: part of it may be in the log.
        events = events or [planned(chosen.name, number + more) for more in range(chance.randint(1, chosen.batch))]
        try:
            log.publish(chosen.topic, events)
        except LogUnavailableError:
            time.sleep(0.05)
            continue
        number += len(events)
        events = []
        note(descriptor, number)
    log.close()


if __name__ == "__main__":
    main()
