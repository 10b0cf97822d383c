"""ARC: recency and frequency share the cache, and the ghosts of both say how.

N. Megiddo, D. S. Modha, "ARC: a self-tuning, low overhead replacement cache", FAST 2003. Sizes: every bound of the
paper that counts pages counts bytes here, and one step evicts until the object fits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain

from aura.tiers.replay.policy import Policy


class _Queue(OrderedDict[int, int]):
    """Sizes by key, least recently used first, with their sum."""

    total = 0

    def add(self, key: int, size: int) -> None:
        self[key] = size
        self.total += size

    def take(self, key: int) -> int:
        size = self.pop(key)
        self.total -= size
        return size

    def take_oldest(self) -> tuple[int, int]:
        key, size = self.popitem(last=False)
        self.total -= size
        return key, size


class Arc(Policy):
    """T1 holds what was read once lately, T2 what was read more often; B1 and B2 remember what left them.

    In bytes, always: T1 + T2 <= c, T1 + B1 <= c, T1 + T2 + B1 + B2 <= 2 c for the capacity c.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._t1, self._t2, self._b1, self._b2 = _Queue(), _Queue(), _Queue(), _Queue()
        self._target = 0.0

    def access(self, key: int, size: int = 1) -> bool:
        """Read one object, as `Policy.access`."""
        for queue in (self._t1, self._t2):
            if key in queue:
                if queue[key] == size:
                    queue.take(key)
                    self._t2.add(key, size)
                    return True
                self.used -= queue.take(key)
        if size > self.capacity:
            return False
        into = self._t1
        for ghosts, others, sign in ((self._b1, self._b2, 1), (self._b2, self._b1, -1)):
            if key in ghosts:
                step = size * max(1.0, others.total / ghosts.total)
                self._target = min(max(self._target + sign * step, 0.0), float(self.capacity))
                self._make_room(size, from_b2=ghosts is self._b2)
                ghosts.take(key)
                into = self._t2
        if into is self._t1:
            self._forget(size)
            self._make_room(size, from_b2=False)
        into.add(key, size)
        self._bound_history()
        self.used += size
        self.admitted += size
        return False

    def contents(self) -> Iterator[tuple[int, int]]:
        """What is held, as `Policy.contents`."""
        return chain(tuple(self._t1.items()), tuple(self._t2.items()))

    def _make_room(self, size: int, *, from_b2: bool) -> None:
        while self.used + size > self.capacity:
            full = self._t1.total > self._target or (from_b2 and self._t1.total == self._target)
            recent = bool(self._t1) and (full or not self._t2)
            queue, ghosts = (self._t1, self._b1) if recent else (self._t2, self._b2)
            victim, freed = queue.take_oldest()
            ghosts.add(victim, freed)
            self.used -= freed

    def _forget(self, size: int) -> None:
        while self._b1 and self._t1.total + self._b1.total + size > self.capacity:
            self._b1.take_oldest()
        while self._t1.total + size > self.capacity:
            self.used -= self._t1.take_oldest()[1]

    def _bound_history(self) -> None:
        held = self._t1.total + self._t2.total
        while self._b2 and held + self._b1.total + self._b2.total > 2 * self.capacity:
            self._b2.take_oldest()
