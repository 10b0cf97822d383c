"""An access log replayed through the eviction policies: what each would have missed.

Belongs here: from the store's own log, or a file, to a comparison and its plot. Does not: the policies
(`aura.tiers.replay`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from aura.tiers.replay.comparison import Row, compare
from aura.tiers.replay.plot import plot_comparison
from aura.tiers.replay.policies import POLICIES
from aura.tiers.replay.readers import Format, TraceError, read_trace
from aura.tiers.replay.trace import Trace
from aura.tiers.store import TieredStore

LIMIT = 50_000
"""Accesses that are replayed: some seconds of computation."""

SHARES = (0.02, 0.05, 0.10, 0.25, 0.5)
"""Capacities, as shares of the bytes of all objects."""

FEWEST = 100


@dataclass(frozen=True)
class Replayed:
    """A comparison.

    Attributes:
        trace: What was replayed.
        rows: One per policy and capacity.
        png: Miss ratio over capacity.
    """

    trace: Trace
    rows: tuple[Row, ...]
    png: bytes


def own_trace(store: TieredStore) -> Trace:
    """The latest accesses to the objects that the store still has, with their sizes.

    Raises:
        TraceError: There are too few.
        StoreError: The store has no owner that answers.
    """
    log = store.access_log()
    sizes = {entry.id: max(1, entry.bytes) for entry in store.entries()}
    ids = log.ids.astype(np.int64)
    kept = ids[np.isin(ids, np.fromiter(sizes, dtype=np.int64, count=len(sizes)))][-LIMIT:]
    if len(kept) < FEWEST:
        raise TraceError(f"the store has logged {len(kept)} accesses to objects that it still has; {FEWEST} are needed")
    return Trace("access log", kept, np.array([sizes[each] for each in kept.tolist()], dtype=np.int64))


def uploaded_trace(content: bytes, name: str, layout: Format | None = None) -> Trace:
    """A trace out of the content of a file; without a format, it is recognised by the content.

    Raises:
        TraceError: It is damaged or no trace.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "trace" + "".join(each for each in Path(name).suffixes if each in {".xz", ".gz"}))
        path.write_bytes(content)
        try:
            trace = read_trace(path, limit=LIMIT, layout=layout)
        except TraceError as error:
            raise TraceError(str(error).replace(str(path), name)) from error
    return replace(trace, name=Path(name).name.split(".")[0] or "trace")


def replayed(trace: Trace, tell: Callable[[str, float], None] = lambda _said, _part: None) -> Replayed:
    """Replay a trace through every policy and the offline optimum, at several capacities.

    `tell` is told what is run next, and which part of all is done.
    """
    capacities = sorted({max(1, int(share * trace.footprint)) for share in SHARES})
    rows = tuple(compare(trace, capacities, POLICIES, tell=tell))
    title = f"{trace.name}, {len(trace):,} accesses to {trace.unique:,} objects"
    return Replayed(trace, rows, plot_comparison(rows, trace.footprint, title))
