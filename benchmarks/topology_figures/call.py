"""What a call of `persistence` takes: CPU time of the caller and of the engines' computation, memory, and all of it."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass

from aura.topology.diagrams import PersistenceDiagrams
from aura.topology.persistence import persistence
from aura.topology.process import Caps

GENEROUS = Caps(cpu_seconds=300.0, memory_bytes=6 * 2**30)


@dataclass(frozen=True)
class Cost:
    """What a call took.

    Attributes:
        cpu_seconds: CPU time of the caller and of the engines' computation, without the start of their processes and
            the loading of their libraries. Every attempt counts, one that was stopped with the seconds of its cap.
        peak_bytes: Largest peak of an attempt beyond its libraries and its input.
        whole_cpu_seconds: CPU time of the caller and of the engines' processes from start to end.
    """

    cpu_seconds: float
    peak_bytes: int
    whole_cpu_seconds: float


def call(caps: Caps = GENEROUS, **arguments: object) -> tuple[PersistenceDiagrams, Cost]:
    """Compute diagrams."""
    started, before = time.process_time(), children_cpu_seconds()
    value = persistence(caps=caps, **arguments)
    caller = time.process_time() - started
    engines = sum(each.cpu_seconds for each in value.runs)
    peak = max(each.peak_bytes for each in value.runs)
    return value, Cost(caller + engines, peak, caller + children_cpu_seconds() - before)


def children_cpu_seconds() -> float:
    """CPU seconds of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
