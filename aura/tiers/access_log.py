"""The access log: which object was read, in order, as integer ids.

Belongs here: the append that every get pays, folding into numpy batches, the bound on the log's length.
Does not: keeping it (the owner hands finished batches to the disk), or what to make of it (the planner).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
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

    `pending` is the list that a get appends to (atomic in CPython). Everything else is locked.
    """

    def __init__(self, kept: Iterable[Batch] = (), limit: int = DEFAULT_LIMIT) -> None:
        self.pending: list[int] = []
        self._lock = threading.Lock()
        self._limit = limit
        self._batches: deque[Batch] = deque(sorted(kept, key=lambda batch: batch.number))
        self._next_number = self._batches[-1].number + 1 if self._batches else 0
        self._length = sum(len(batch.ids) for batch in self._batches)
        self._folded = 0

    @property
    def total(self) -> int:
        """Accesses since this log was opened, whether still kept or not."""
        return self._folded + len(self.pending)

    def tick(self, *, whole_batch: bool = True) -> Folded | None:
        """Fold what waits, if it is a batch at least."""
        with self._lock:
            waiting = len(self.pending)
            if waiting == 0 or (whole_batch and waiting < BATCH):
                return None
            ids = np.array(self.pending[:waiting], dtype=np.int32)
            del self.pending[:waiting]
            self._folded += waiting
            batch = Batch(self._next_number, ids)
            self._next_number += 1
            self._batches.append(batch)
            self._length += waiting
            return Folded(batch, self._drop_old())

    def read(self) -> tuple[NDArray[np.int32], int]:
        """int32[n], the accesses that are kept, oldest first; and how many there were since this log was opened."""
        with self._lock:
            batches = [batch.ids for batch in self._batches]
            waiting = np.array(self.pending, dtype=np.int32)
            total = self._folded + len(waiting)
        return np.concatenate([*batches, waiting])[-self._limit :], total

    def after(self, position: int) -> tuple[NDArray[np.int32], int]:
        """int32[n], the accesses after the first `position` of all, as far as they are kept; and how many there are."""
        with self._lock:
            waiting = np.array(self.pending, dtype=np.int32)
            total = self._folded + len(waiting)
            pieces, missing = [waiting], total - position - len(waiting)
            for batch in reversed(self._batches):
                if missing <= 0:
                    break
                pieces.append(batch.ids)
                missing -= len(batch.ids)
        return np.concatenate(pieces[::-1])[-(total - position) :] if total > position else waiting[:0], total

    def replace(self, keep_last: int) -> tuple[Batch, tuple[int, ...]]:
        """Keep only the last accesses, as one batch; returns it and the numbers of the batches that it replaces."""
        with self._lock:
            waiting = len(self.pending)
            recent = [batch.ids for batch in self._batches] + [np.array(self.pending[:waiting], dtype=np.int32)]
            ids = np.concatenate(recent)
            del self.pending[:waiting]
            self._folded += waiting
            dropped = tuple(batch.number for batch in self._batches)
            batch = Batch(self._next_number, ids[max(0, len(ids) - keep_last) :])
            self._next_number += 1
            self._batches = deque([batch])
            self._length = len(batch.ids)
            return batch, dropped

    def _drop_old(self) -> tuple[int, ...]:
        dropped = []
        while self._length - len(self._batches[0].ids) >= self._limit:
            old = self._batches.popleft()
            self._length -= len(old.ids)
            dropped.append(old.number)
        return tuple(dropped)
