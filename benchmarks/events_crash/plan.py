"""What the producers publish (the n-th event of one is always the same), and the note of what was acknowledged."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aura.events.event import Event, new_event
from aura.events.topics import Topic, TopicRegistry

KEYS = 8
"""Keys of each producer."""
START = datetime(2026, 1, 1, tzinfo=UTC)
NOTE = struct.Struct("<qd")
"""Events acknowledged so far, and when, on the machine's monotonic clock."""


def registry(topic: str, partitions: int) -> TopicRegistry:
    """The topic of a run."""
    return TopicRegistry([Topic(topic, partitions, timedelta(days=3650), ("corpus.items.changed",))])


def planned(producer: str, number: int) -> Event:
    """The event `number` of a producer. Of its key it is the event `number // KEYS`."""
    key = f"{producer}/{number % KEYS}"
    return new_event(
        "corpus.items.changed",
        {"source": producer, "changed": [str(number)], "removed": []},
        source=producer,
        key=key,
        id=str(number),
        time=START + timedelta(milliseconds=number),
    )


def note(descriptor: int, acknowledged: int) -> None:
    """Note that the events before `acknowledged` are; one write, which the death of the process cannot tear."""
    os.write(descriptor, NOTE.pack(acknowledged, time.monotonic()))


def notes(path: Path) -> Iterator[tuple[int, float]]:
    """What was noted: numbers of acknowledged events, and when."""
    if path.exists():
        data = path.read_bytes()
        yield from NOTE.iter_unpack(data[: len(data) - len(data) % NOTE.size])


def acknowledged(path: Path) -> int:
    """How many events of a producer were acknowledged; 0 without a note."""
    return max((number for number, _ in notes(path)), default=0)
