"""Objects that exist only to be measured: real ones, of every kind, written to the store and removed again.

Belongs here: their content, keys and life. Does not: timing them (`rounds.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from aura.tiers.records import Entry
from aura.tiers.store import TieredStore
from aura.tiers.values import Part

KINDS = ("bytes", "table", "tensors")

COPIES = 32
"""Objects of one kind and size, at most."""

SIZE_BYTES = 6 << 20
"""Objects of one kind and size together take at most this, but two are the least. With the default sizes all objects
together are 60 MiB: more than the processor's caches and the block cache of the database hold."""

SCRATCH = "scratch/profile/"
"""Keys of the objects that are measured. A run that was killed leaves them behind; the next one removes them."""

WRITE_BYTES = 8 << 20
"""Bytes of one atomic write."""

VECTOR_LENGTH = 384
"""Length of the vectors in the measured tables, as in a table of sentence embeddings."""


@contextmanager
def scratch_objects(store: TieredStore, sizes: Sequence[int], rng: np.random.Generator) -> Iterator[list[Entry]]:
    """Write the objects to measure, in L3, and remove them on leaving.

    What was just written is still in the database's memory buffer, and is not read as what has been there for longer:
    the buffer is written to files first.
    """
    store.write({}, [entry.key for entry in store.entries(SCRATCH)])
    try:
        parts: dict[str, Part] = {}
        held = 0
        for kind in KINDS:
            for size in sorted(set(sizes)):
                for copy in range(max(2, min(COPIES, SIZE_BYTES // size))):
                    parts[f"{SCRATCH}{kind}/{size}/{copy}"] = scratch_object(kind, size, rng)
                    held += size
                    if held >= WRITE_BYTES:
                        store.write(parts)
                        parts, held = {}, 0
        store.write(parts)
        store.flush()
        yield store.entries(SCRATCH)
    finally:
        store.write({}, [entry.key for entry in store.entries(SCRATCH)])


def scratch_object(kind: str, size: int, rng: np.random.Generator) -> Part:
    """An object of about `size` bytes; the content does not compress.

    Args:
        kind: "bytes", "table" or "tensors".
        size: Bytes of it, encoded, 1 KiB or more.
        rng: Source of the content.
    """
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
