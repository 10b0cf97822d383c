"""The access log: which object was read, in order, as integer ids.

Belongs here: the append that every get pays, folding into numpy batches, the bound on the log's length.
Does not: keeping it (the owner hands finished batches to the disk), or what to make of it (the planner).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEFAULT_LIMIT = 1_000_000
BATCH = 1024
"""Accesses per batch. A killed owner loses at most one batch; a batch is one unsynced write of 4 KiB."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A piece of the log. `number` orders the pieces."""

    number: int
    ids: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Folded:
    """What a fold changed: the batch to keep, and the numbers of batches that fell off the old end."""

    added: Batch
    dropped: tuple[int, ...]


class AccessLog:
    """Ids of the latest accesses, at most `limit` of them and a batch.

    `pending` is the list that a get appends the key to (atomic in CPython, and cheaper than looking the id up).
    Whenever the log is used, and before a key is deleted, what is pending is settled: its keys become ids. Everything
    but the append is locked.
    """

    def __init__(
        self,
        kept: Iterable[Batch] = (),
        limit: int = DEFAULT_LIMIT,
        id_of: Callable[[str], int | None] = lambda _: None,
    ) -> None:
        """Go on from what was kept.

        Args:
            kept: The batches of an earlier owner.
            limit: Accesses that are kept.
            id_of: The id of a key; None for one that is gone, whose access is left out. May be set later.
        """
        self.pending: list[str] = []
        self.id_of = id_of
        self._lock = threading.Lock()
        self._limit = limit
        self._batches: deque[Batch] = deque(sorted(kept, key=lambda batch: batch.number))
        self._next_number = self._batches[-1].number + 1 if self._batches else 0
        self._length = sum(len(batch.ids) for batch in self._batches)
        self._folded = 0
        self._settled: list[int] = []

    def settle(self) -> int:
        """Turn pending keys into ids; the accesses since this log was opened, whether still kept or not."""
        with self._lock:
            return self._settle()

    def tick(self, *, whole_batch: bool = True) -> Folded | None:
        """Fold what waits, if it is a batch at least."""
        with self._lock:
            self._settle()
            waiting = len(self._settled)
            if waiting == 0 or (whole_batch and waiting < BATCH):
                return None
            batch = self._folded_batch(np.array(self._settled, dtype=np.int32))
            self._batches.append(batch)
            self._length += waiting
            return Folded(batch, self._drop_old())

    def read(self) -> tuple[NDArray[np.int32], int]:
        """int32[n], the accesses that are kept, oldest first; and how many there were since this log was opened."""
        with self._lock:
            total = self._settle()
            pieces = [*(batch.ids for batch in self._batches), np.array(self._settled, dtype=np.int32)]
        return np.concatenate(pieces)[-self._limit :], total

    def after(self, position: int) -> tuple[NDArray[np.int32], int]:
        """int32[n], the accesses after the first `position` of all, as far as they are kept; and how many there are."""
        with self._lock:
            total = self._settle()
            pieces = [np.array(self._settled, dtype=np.int32)]
            missing = total - position - len(self._settled)
            for batch in reversed(self._batches):
                if missing <= 0:
                    break
                pieces.append(batch.ids)
                missing -= len(batch.ids)
        return np.concatenate(pieces[::-1])[-(total - position) :] if total > position else pieces[0][:0], total

    def replace(self, keep_last: int) -> tuple[Batch, tuple[int, ...]]:
        """Keep only the last accesses, as one batch; returns it and the numbers of the batches that it replaces."""
        with self._lock:
            self._settle()
            ids = np.concatenate([batch.ids for batch in self._batches] + [np.array(self._settled, dtype=np.int32)])
            dropped = tuple(batch.number for batch in self._batches)
            batch = self._folded_batch(ids[max(0, len(ids) - keep_last) :])
            self._batches = deque([batch])
            self._length = len(batch.ids)
            return batch, dropped

    def _settle(self) -> int:
        keys = self.pending[:]
        del self.pending[: len(keys)]
        id_of = self.id_of
        self._settled += [number for key in keys if (number := id_of(key)) is not None]
        return self._folded + len(self._settled)

    def _folded_batch(self, ids: NDArray[np.int32]) -> Batch:
        """A batch of these ids, which takes in what was settled."""
        self._folded += len(self._settled)
        self._settled = []
        batch = Batch(self._next_number, ids)
        self._next_number += 1
        return batch

    def _drop_old(self) -> tuple[int, ...]:
        dropped = []
        while self._length - len(self._batches[0].ids) >= self._limit:
            old = self._batches.popleft()
            self._length -= len(old.ids)
            dropped.append(old.number)
        return tuple(dropped)
