"""The access log: which object was read, in order, as integer ids.

Belongs here: the append that every get pays, folding into numpy batches, the bound on the log's length.
Does not: how a batch is kept (the owner hands a function over), or what to make of it (the planner).

Of what a killed owner read, that is lost which was read since the last round of its upkeep, which is a tenth of a
second unless a round takes longer, and a batch. What the disk refused is in memory only too.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aura.tiers.errors import StoreError
from aura.tiers.records import Tier

logger = logging.getLogger(__name__)

DEFAULT_LIMIT = 1_000_000
BATCH = 1024
"""Accesses per batch, at most; a batch is one unsynced write of 4 KiB."""

Noted = str | tuple[int, Tier | None, int]
"""One get: the key of a live object, or id, tier that answered and nanoseconds. The tier is None where a client copies
the object out of the arena itself."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A piece of the log. `number` orders the pieces."""

    number: int
    ids: NDArray[np.int32]


class AccessLog:
    """Ids of the latest accesses, at most `limit` of them and a batch.

    `pending` is the list that a get appends to (atomic in CPython, and cheaper than looking the id up). Whenever the
    log is used, and before a key is deleted, what is pending is settled: its keys become ids. Everything but the append
    is locked, and a batch is kept under the same lock, so that batches are kept and dropped in the order in which the
    log changed.

    Attributes:
        pending: What every get appends to.
        id_of: The id of a key; None for one that is gone, whose access is left out.
        keep: Writes a batch, in place of one with its number if there is one, and drops those with these numbers, in
            one step, or raises a StoreError. May not use the log.
        count: Is told of what is settled, each get once.
    """

    def __init__(self, kept: Iterable[Batch] = (), limit: int = DEFAULT_LIMIT) -> None:
        """Go on from what was kept; nothing is known or kept until the functions are set.

        Args:
            kept: The batches of an earlier owner.
            limit: Accesses that are kept.
        """
        self.pending: list[Noted] = []
        self.id_of: Callable[[str], int | None] = lambda _: None
        self.keep: Callable[[Batch, Sequence[int]], None] = _nothing
        self.count: Callable[[Sequence[Noted]], None] = _nothing
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

    def tick(self, *, whole_batch: bool = True) -> None:
        """Fold what waits into batches and keep them; what is no whole batch waits on, unless it is asked for too."""
        with self._lock:
            self._settle()
            self._fold(whole_batch=whole_batch)

    def close(self) -> None:
        """Keep what waits; nothing is kept from now on."""
        with self._lock:
            self._settle()
            self._fold(whole_batch=False)
            self.keep = _nothing

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

    def trim(self, keep_last: int) -> None:
        """Keep only the last accesses: older batches are dropped and the one that has the first of them is cut.

        Raises:
            StoreError: This could not be kept; the log is as before.
        """
        with self._lock:
            self._settle()
            self._fold(whole_batch=False)
            if self._length <= keep_last:
                return
            left, surplus = list(self._batches), self._length - keep_last
            dropped = []
            while len(left) > 1 and len(left[0].ids) <= surplus:
                surplus -= len(left[0].ids)
                dropped.append(left.pop(0).number)
            left[0] = Batch(left[0].number, left[0].ids[surplus:])
            self.keep(left[0], dropped)
            self._batches, self._length = deque(left), keep_last

    def _settle(self) -> int:
        noted = self.pending[:]
        del self.pending[: len(noted)]
        self.count(noted)
        id_of = self.id_of
        ids = [id_of(each) if isinstance(each, str) else each[0] for each in noted]
        self._settled += [number for number in ids if number is not None]
        return self._folded + len(self._settled)

    def _fold(self, *, whole_batch: bool) -> None:
        waiting = len(self._settled)
        taken = waiting - waiting % BATCH if whole_batch else waiting
        ids = np.array(self._settled[:taken], dtype=np.int32)
        del self._settled[:taken]
        self._folded += taken
        for start in range(0, taken, BATCH):
            batch = Batch(self._next_number, ids[start : start + BATCH])
            self._next_number += 1
            self._batches.append(batch)
            self._length += len(batch.ids)
            dropped = []
            while self._length - len(self._batches[0].ids) >= self._limit:
                old = self._batches.popleft()
                self._length -= len(old.ids)
                dropped.append(old.number)
            try:
                self.keep(batch, dropped)
            except StoreError as error:
                logger.warning("a batch of the access log stays in memory only: %s", error)


def _nothing(*_: object) -> None:
    """Where nobody listens."""
