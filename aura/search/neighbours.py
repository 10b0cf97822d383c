"""The nearest vectors of one modality of a table: by comparison with all of them, or among candidates.

Belongs here: exact scores and their order. Does not: graphs (`aura.search.graph`) and when they are used
(`aura.search.index`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from aura.embeddings.encoder import Vectors
from aura.embeddings.table import EmbeddingTable
from aura.search.graph import Keys

_QUERIES_AT_ONCE = 64
"""Queries in one matrix product: their cosines with a million vectors are 256 MB."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of a table for each query.

    Attributes:
        rows: [q, k] int64 rows of the table, nearest first; -1 where there are fewer than k.
        scores: [q, k] float32 exact cosines; -inf where there is no row.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]

    @classmethod
    def none(cls, queries: int, count: int) -> Self:
        """Room for the neighbours of some queries."""
        return cls(np.full((queries, count), -1, np.int64), np.full((queries, count), -np.inf, np.float32))


@dataclass(frozen=True, eq=False)
class Vectored:
    """The items of one modality.

    Attributes:
        rows: [n] int64 rows of the table.
        vectors: [n, d] float32 of length 1.
        ids: [n] identifiers of the items.
    """

    rows: NDArray[np.int64]
    vectors: Vectors
    ids: pa.ChunkedArray

    @classmethod
    def of(cls, table: EmbeddingTable, modality: str) -> Self:
        """Take a modality out of a table; its vectors are a view where the table has no other."""
        own = pc.equal(table.table["modality"], modality).to_numpy()
        rows = np.flatnonzero(own)
        vectors = table.vectors if own.all() else table.vectors[rows]
        return cls(rows, vectors, table.table["item_id"].take(pa.array(rows)))

    @cached_property
    def keys(self) -> Keys:
        """[n] uint64: 64 bits of a hash of the identifiers, so that an item has the same key in every table."""
        return np.array([xxhash.xxh3_64_intdigest(item_id.encode()) for item_id in self.ids.to_pylist()], np.uint64)

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.argsort(self.keys, kind="stable")

    @cached_property
    def _ordered(self) -> Keys:
        return self.keys[self._order]

    def compared(self, queries: Vectors, count: int) -> Neighbours:
        """The nearest of all vectors for queries [q, d]."""
        found = Neighbours.none(len(queries), count)
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            block = queries[start : start + _QUERIES_AT_ONCE]
            for number, cosines in enumerate(block @ self.vectors.T, start=start):
                self._note(found, number, np.arange(len(self.rows)), cosines)
        return found

    def scored(self, queries: Vectors, candidates: Sequence[Keys], count: int) -> Neighbours:
        """The nearest of each query's candidates; those that are no items here are left out."""
        found = Neighbours.none(len(queries), count)
        for number, (query, keys) in enumerate(zip(queries, candidates, strict=True)):
            at = np.minimum(np.searchsorted(self._ordered, keys), len(self._ordered) - 1)
            places = np.sort(self._order[at[self._ordered[at] == keys]])
            self._note(found, number, places, self.vectors[places] @ query)
        return found

    def _note(self, found: Neighbours, number: int, places: NDArray[np.int64], cosines: Vectors) -> None:
        """Keep the best; of equal ones the first in the table."""
        count = min(found.rows.shape[1], len(places))
        if count < len(places):
            # All that are as good as the last one that counts, since a partition picks among equals at random.
            worst = np.partition(cosines, len(places) - count)[len(places) - count]
            kept = np.flatnonzero(cosines >= worst)
            places, cosines = places[kept], cosines[kept]
        best = np.argsort(-cosines, kind="stable")[:count]
        found.rows[number, :count] = self.rows[places[best]]
        found.scores[number, :count] = cosines[best]
