"""What a call of `persistence` takes: CPU time of the caller and of the engine's computation, and its memory."""

from __future__ import annotations

import time

from aura.topology.diagrams import PersistenceDiagrams
from aura.topology.engines.task import Measured
from aura.topology.persistence import persistence
from aura.topology.process import Caps

GENEROUS = Caps(cpu_seconds=300.0, memory_bytes=6 * 2**30)


def call(caps: Caps = GENEROUS, **arguments: object) -> tuple[PersistenceDiagrams, Measured]:
    """Compute diagrams; the start of the engine's process and of its libraries is not in the figures.

    Every attempt counts, one that was stopped with the seconds of its cap.
    """
    started = time.process_time()
    value = persistence(caps=caps, **arguments)
    caller = time.process_time() - started
    engines = sum(each.cpu_seconds for each in value.runs)
    return value, Measured(caller + engines, max(each.peak_bytes for each in value.runs))
