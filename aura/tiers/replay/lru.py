"""Least recently used: the yardstick (Mattson et al., IBM Systems Journal 9(2), 1970)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from aura.tiers.replay.policy import Policy


class Lru(Policy):
    """Evicts what was not read for the longest time."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._held: OrderedDict[int, int] = OrderedDict()

    def __contains__(self, key: int) -> bool:
        return key in self._held

    def access(self, key: int, size: int = 1) -> bool:
        """Read one object, as `Policy.access`."""
        held = self._held
        before = held.get(key)
        if before == size:
            held.move_to_end(key)
            return True
        if before is not None:
            del held[key]
            self.used -= before
        if size > self.capacity:
            return False
        while self.used + size > self.capacity:
            self.used -= held.popitem(last=False)[1]
        held[key] = size
        self.used += size
        self.admitted += size
        return False

    def contents(self) -> Iterator[tuple[int, int]]:
        """What is held, as `Policy.contents`."""
        return iter(tuple(self._held.items()))
