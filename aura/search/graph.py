"""A navigable graph over unit vectors that answers for many what a scan would answer for few.

Belongs here: the one place that knows the index library. Does not: which vectors, and when the graph is worth it
(`aura.search.index`).

HNSW: Malkov and Yashunin 2018, arXiv 1603.09320. The graph keeps a copy of the vectors in float32: in bfloat16 it takes
half of the memory and the time, and loses its way among items that nearly agree (recall .96 instead of .99 of the ten
nearest among 100,000 paragraphs).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aura.embeddings.encoder import Vectors

if TYPE_CHECKING:
    from usearch.index import Index

Keys = NDArray[np.uint64]

CONNECTIVITY = 16
"""Neighbours of a node; twice as many on the lowest level."""

EXPANSION_ADD = 128
"""Candidates that are looked at when a vector is added."""

_QUERIES_AT_ONCE = 4096
_NEAR = 10

_ONE_THREAD = 1
"""Threads that add: with two, one vector in some thousand is linked from nowhere and never found again; with one, the
same vectors give the same graph."""

REBUILD_SHARE = 0.2
"""Share of a graph's vectors that may be of items that are gone. They stay, since other vectors are reached through
them and the library finds less after it has taken some out; they only cost candidates."""


def build(keys: Keys, vectors: Vectors) -> Index:
    """Make a graph over vectors [n, d] of length 1 with distinct keys [n]."""
    from usearch.index import Index

    index = Index(
        ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=CONNECTIVITY, expansion_add=EXPANSION_ADD
    )
    index.add(keys, vectors, threads=_ONE_THREAD)
    return index


def extend(content: bytes, keys: Keys, vectors: Vectors) -> tuple[Index, NDArray[np.int64]] | None:
    """Add to a graph the keys that it does not have.

    Args:
        content: What `save` gave. A key that it has already stands for the same vector as before.
        keys: [n] all keys that shall be found.
        vectors: [n, d] their vectors.

    Returns:
        The graph and the places [m] of the vectors that were added; None where it should rather be made anew.
    """
    index = restore(content)
    there = np.asarray(index.keys, np.uint64)
    new = ~np.isin(keys, there)
    gone = int((~np.isin(there, keys)).sum())
    if index.ndim != vectors.shape[1] or gone > REBUILD_SHARE * len(there):
        return None
    if new.any():
        index.expansion_add = EXPANSION_ADD
        index.add(keys[new], vectors[new], threads=_ONE_THREAD)
    return index, np.flatnonzero(new)


def missed(index: Index, keys: Keys, vectors: Vectors, expansion: int) -> Keys:
    """Those of some keys [n] that are not among the nearest of their own vectors [n, d]: nothing leads to them."""
    found = [
        key in near
        for start in range(0, len(keys), _QUERIES_AT_ONCE)
        for key, near in zip(
            keys[start : start + _QUERIES_AT_ONCE],
            candidates(index, vectors[start : start + _QUERIES_AT_ONCE], _NEAR, expansion),
            strict=True,
        )
    ]
    lost: Keys = keys[~np.array(found, bool)]
    return lost


def save(index: Index) -> bytes:
    """The graph as bytes."""
    return bytes(index.save())


def restore(content: bytes) -> Index:
    """The graph out of its bytes, in memory of its own.

    Raises:
        ValueError: the bytes hold no graph.
    """
    from usearch.index import Index

    index = Index.restore(content)
    if index is None:
        raise ValueError("no graph in these bytes")
    return index


def candidates(index: Index, queries: Vectors, count: int, expansion: int) -> list[Keys]:
    """Keys of about the nearest vectors of each query, nearest first.

    Args:
        index: The graph.
        queries: [q, d] vectors of length 1.
        count: How many keys are wanted for each.
        expansion: Candidates that are looked at: more find more and take longer.
    """
    index.expansion_search = expansion
    matches = index.search(queries, count)
    if len(queries) == 1:
        return [np.asarray(matches.keys, np.uint64).reshape(-1)]
    return [keys[:found] for keys, found in zip(matches.keys, matches.counts, strict=True)]
