"""How often each tier was read, written and moved to, since the owner opened the store.

Belongs here: the counters, and the lists that gets append to without a lock. Does not: which object was read (the
access log), or what follows from it.
"""

from __future__ import annotations

from aura.tiers.store import Tier


class Counts:
    """Counters of one owner. `spent`, `live_spent` and `arena_reads` are appended to by any thread; the rest is locked.

    Attributes:
        spent: Nanoseconds of each get that a tier but L1 answered.
        live_spent: Nanoseconds of the gets of L1 that were timed.
        arena_reads: One item for each get that a client answered itself from the arena.
        puts: Objects written.
        deletes: Keys deleted.
        promotions: Objects that came into a tier from a slower one.
        demotions: Objects that left a tier for a slower one by a move.
        bytes_in: Bytes copied into a tier by moves.
    """

    def __init__(self) -> None:
        self.spent: dict[Tier, list[int]] = {tier: [] for tier in Tier}
        self.live_spent: list[int] = []
        self.arena_reads: list[int] = []
        self.puts = 0
        self.deletes = 0
        self.promotions = dict.fromkeys(Tier, 0)
        self.demotions = dict.fromkeys(Tier, 0)
        self.bytes_in = dict.fromkeys(Tier, 0)
        self._gets = dict.fromkeys(Tier, 0)
        self._nanoseconds = dict.fromkeys(Tier, 0)
        self._timed = [0, 0]
        self._arena_reads = 0

    def fold(self) -> None:
        """Add up what was appended."""
        for tier, spent in self.spent.items():
            count, nanoseconds = _taken(spent)
            self._gets[tier] += count
            self._nanoseconds[tier] += nanoseconds
        count, nanoseconds = _taken(self.live_spent)
        self._timed[0] += count
        self._timed[1] += nanoseconds
        self._arena_reads += _taken(self.arena_reads)[0]

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
