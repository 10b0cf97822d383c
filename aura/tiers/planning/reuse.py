"""How much else passes through the caches between two reads of the same object.

What a get costs depends on it: by a factor of two for a copy out of shared memory whose bytes have left the processor's
caches, of five for a dictionary entry that has, and by a third for a block that has left the database's cache. The
measure is the reuse distance (Mattson et al., 1970) in bytes: those of the different objects that were copied between.

Belongs here: the distances in a sequence of reads. Does not: what they cost (`surface.py`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def reuse_bytes(objects: NDArray[np.int64], copied: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bytes of the different objects that are copied between each read and the read of the same object before it.

    Args:
        objects: int64[n], the object of each read, in order, as an index.
        copied: float64[objects], bytes that a read of each copies; 0 for an object that is handed out by reference.

    Returns:
        float64[n], without the object's own bytes; inf at the first read of an object.
    """
    n = len(objects)
    distance = np.full(n, np.inf)
    tree = [0.0] * (n + 1)  # A Fenwick tree over the last read of every object.
    last: dict[int, int] = {}
    total = 0.0
    for now, number in enumerate(objects.tolist()):
        size = float(copied[number])
        before = last.get(number)
        if before is None:
            total += size
        else:
            until, index = 0.0, before + 1
            while index > 0:
                until += tree[index]
                index -= index & -index
            distance[now] = max(0.0, total - until)
            _add(tree, before + 1, -size)
        _add(tree, now + 1, size)
        last[number] = now
    return distance


def _add(tree: list[float], index: int, amount: float) -> None:
    while index < len(tree):
        tree[index] += amount
        index += index & -index
