"""How often each tier was read, written and moved to, since the owner opened the store.

Belongs here: the counters, the lists that gets append to without a lock, and the log of puts, deletes and moves.
Does not: which object was read (the access log), or what follows from it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aura.tiers.records import Operation, Tier

TIERS = tuple(Tier)
KEPT = 1_000_000
"""Operations that are kept, at least; twice as many at most."""


class Counts:
    """Counters of one owner. `spent` and `arena_reads` are appended to by any thread; the rest is locked.

    Attributes:
        spent: Nanoseconds of each get that a tier but L1 answered.
        arena_reads: One item for each get that a client answered itself from the arena.
        of: By operation and tier, how often it was done there; a promotion and a demotion count where they end.
        bytes_in: Bytes copied into a tier by moves.
    """

    def __init__(self) -> None:
        self.spent: dict[Tier, list[int]] = {tier: [] for tier in Tier}
        self.arena_reads: list[int] = []
        self.of = {(operation, tier): 0 for operation in Operation for tier in Tier}
        self.bytes_in = dict.fromkeys(Tier, 0)
        self._gets = dict.fromkeys(Tier, 0)
        self._nanoseconds = dict.fromkeys(Tier, 0)
        self._timed = [0, 0]
        self._arena_reads = 0
        self._log: list[int] = []
        self._forgotten = 0

    def note(self, operation: Operation, number: int, tier: Tier) -> None:
        """Count one operation on the object with this id."""
        self.of[operation, tier] += 1
        self._log.append(number << 8 | operation << 4 | TIERS.index(tier))
        if len(self._log) >= 2 * KEPT:
            del self._log[:KEPT]
            self._forgotten += KEPT

    def operations_after(self, position: int) -> tuple[NDArray[np.int64], int]:
        """int64[n, 3], (id, operation, index of the tier) of each operation after the first `position`; and the total.

        Of those that are no longer kept nothing is said.
        """
        codes = np.array(self._log[max(0, position - self._forgotten) :], dtype=np.int64)
        return np.column_stack([codes >> 8, codes >> 4 & 15, codes & 15]), self._forgotten + len(self._log)

    def fold(self) -> None:
        """Add up what was appended."""
        for tier, spent in self.spent.items():
            count, nanoseconds = _taken(spent)
            self._gets[tier] += count
            self._nanoseconds[tier] += nanoseconds
        self._arena_reads += _taken(self.arena_reads)[0]

    def time_live(self, count: int, nanoseconds: int) -> None:
        """Take in that so many gets of live objects took so long together."""
        self._timed[0] += count
        self._timed[1] += nanoseconds

    def of_gets(self, tier: Tier, total: int) -> tuple[int, float | None]:
        """Gets of a tier and the seconds in them.

        Args:
            tier: The tier.
            total: Gets of the store in all; those that no other tier answered are of L1.

        Returns:
            The count, and seconds; None where no get of L1 was timed.
        """
        if tier is not Tier.L1:
            return self._gets[tier], self._nanoseconds[tier] / 1e9
        gets = max(0, total - sum(self._gets.values()) - self._arena_reads) + self._gets[tier]
        timed, nanoseconds = self._timed
        if timed:
            return gets, nanoseconds / 1e9 / timed * gets
        return gets, None if gets else 0.0


def _taken(spent: list[int]) -> tuple[int, int]:
    taken = spent[:]
    del spent[: len(taken)]
    return len(taken), sum(taken)
