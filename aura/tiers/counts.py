"""How often each tier was read, written and moved to, since the owner opened the store.

Belongs here: the counters, and the log of puts, deletes and moves.
Does not: which object was read (the access log), or what follows from it.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aura.tiers.access_log import Noted
from aura.tiers.records import Operation, Tier

TIERS = tuple(Tier)
KEPT = 1_000_000
"""Operations that are kept, at least; twice as many at most, at eight bytes each."""
DELETED_KEPT = 100_000
"""Deleted objects whose keys are kept."""


class Counts:
    """Counters of one owner. `take` is called under the lock of the access log, all else under the store's.

    Attributes:
        of: By operation and tier, how often it was done there; a promotion and a demotion count where they end.
        bytes_in: Bytes copied into a tier by moves.
    """

    def __init__(self) -> None:
        self.of = {(operation, tier): 0 for operation in Operation for tier in Tier}
        self.bytes_in = dict.fromkeys(Tier, 0)
        self._gets = dict.fromkeys(Tier, 0)
        self._nanoseconds = dict.fromkeys(Tier, 0)
        self._live = 0
        self._live_timed = 0
        self._live_nanoseconds = 0.0
        self._live_mean: float | None = None
        self._log = array("q")
        self._forgotten = 0
        self._deleted: dict[int, str] = {}

    def note(self, operation: Operation, number: int, tier: Tier) -> None:
        """Count one operation on the object with this id."""
        self.of[operation, tier] += 1
        self._log.append(number << 8 | operation << 4 | TIERS.index(tier))
        if len(self._log) >= 2 * KEPT:
            del self._log[:KEPT]
            self._forgotten += KEPT

    def note_delete(self, number: int, key: str) -> None:
        """Count the delete of an object, and keep its key, which the index forgets."""
        self.note(Operation.DELETE, number, Tier.L3)
        self._deleted[number] = key
        if len(self._deleted) > DELETED_KEPT:
            del self._deleted[next(iter(self._deleted))]

    def operations_after(self, position: int) -> tuple[NDArray[np.int64], int]:
        """int64[n, 3], (id, operation, index of the tier) of each operation after the first `position`; and the total.

        Of those that are no longer kept nothing is said.
        """
        codes = np.array(self._log[max(0, position - self._forgotten) :], dtype=np.int64)
        return np.column_stack([codes >> 8, codes >> 4 & 15, codes & 15]), self._forgotten + len(self._log)

    def deleted_keys(self, rows: NDArray[np.int64]) -> Mapping[int, str]:
        """By id, the keys of the objects that were deleted by these operations, as far as they are kept."""
        ids = rows[rows[:, 1] == Operation.DELETE, 0].tolist()
        return {number: self._deleted[number] for number in ids if number in self._deleted}

    def take(self, noted: Sequence[Noted]) -> None:
        """Count gets. One is counted as a whole, so that no counter ever has to be taken back."""
        answered = [each for each in noted if not isinstance(each, str)]
        for _, tier, nanoseconds in answered:
            if tier is not None:
                self._gets[tier] += 1
                self._nanoseconds[tier] += nanoseconds
        self._live += len(noted) - len(answered)

    def time_live(self, count: int, nanoseconds: int) -> None:
        """Take in that so many gets of live objects took so long together; those since the last time took as long each.

        Without any, they took as long as the last that were timed.
        """
        if count:
            self._live_mean = nanoseconds / count
        if self._live_mean is not None:
            live = self._live
            self._live_nanoseconds += (live - self._live_timed) * self._live_mean
            self._live_timed = live

    def of_gets(self, tier: Tier) -> tuple[int, float | None]:
        """Gets that the owner answered from a tier, and the seconds in them; None where none of L1 was timed."""
        gets, nanoseconds = self._gets[tier], float(self._nanoseconds[tier])
        if tier is Tier.L1:
            gets += self._live
            nanoseconds += self._live_nanoseconds
            if self._live and self._live_mean is None:
                return gets, None
        return gets, nanoseconds / 1e9
