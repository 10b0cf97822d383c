"""Objects that exist only to be measured: real ones, of every kind, written to the store and removed again.

Belongs here: their content, keys and life. Does not: timing them (`profile.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from aura.tiers.store import TieredStore
from aura.tiers.values import Part

KINDS = ("bytes", "table", "tensors")

ROUND_BYTES = 2 << 20
"""Distinct objects of one size together take at most this (but one at least, eight at most): repeated reads of a single
object would find it in the processor's cache, as reads of a published value seldom do."""

SCRATCH = "scratch/profile/"
"""Keys of the objects that are measured. A run that was killed leaves them behind; the next one removes them."""

VECTOR_LENGTH = 384
"""Length of the vectors in the measured tables, as in a table of sentence embeddings."""


@contextmanager
def scratch_objects(
    store: TieredStore, sizes: Sequence[int], rng: np.random.Generator
) -> Iterator[dict[tuple[str, int], list[str]]]:
    """Write the objects to measure; keys by (kind, bytes of the encoded object). Removes them on leaving."""
    parts: dict[str, Part] = {}
    for kind in KINDS:
        for size in sorted(set(sizes)):
            parts |= {f"{SCRATCH}{kind}/{size}/{copy}": _object(kind, size, rng) for copy in range(_copies(size))}
    store.write({}, [entry.key for entry in store.entries(SCRATCH)])
    try:
        store.write(parts)
        objects: dict[tuple[str, int], list[str]] = defaultdict(list)
        for entry in store.entries(SCRATCH):
            objects[entry.kind, entry.bytes].append(entry.key)
        yield dict(objects)
    finally:
        store.write({}, list(parts))


def _copies(size: int) -> int:
    return max(1, min(8, ROUND_BYTES // size))


def _object(kind: str, size: int, rng: np.random.Generator) -> Part:
    """An object of about `size` bytes; the content does not compress."""
    if kind == "bytes":
        return rng.bytes(size)
    if kind == "tensors":
        return {"weights": rng.random(size // 4, dtype=np.float32)}
    rows = max(1, size // (4 * VECTOR_LENGTH + 64))
    vectors = pa.array(rng.random(rows * VECTOR_LENGTH, dtype=np.float32))
    return pa.table(
        {
            "item_id": pa.array([f"{row:032x}" for row in range(rows)]),
            "uri": pa.array([f"item/{row:016d}" for row in range(rows)]),
            "vector": pa.FixedSizeListArray.from_arrays(vectors, VECTOR_LENGTH),
        }
    )
