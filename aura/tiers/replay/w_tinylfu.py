"""W-TinyLFU: a small window, and a main part that admits only what was read more often than its victim.

G. Einziger, R. Friedman, B. Manes, "TinyLFU: a highly efficient cache admission policy", ACM Transactions on Storage
13(4), 2017; sizes as in "Lightweight robust size aware cache management", ACM Transactions on Storage 18(3), 2022: the
candidate has to be read more often than all the victims together. The counts are exact where the papers have a sketch,
which a simulation can afford: this is the sketch without collisions.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain

from aura.tiers.replay.policy import Policy

WINDOW_SHARE = 0.01
PROTECTED_SHARE = 0.8
"""Of the main part, for what was read again there."""
MOST_COUNTED = 15
SAMPLE = 10
"""Counts are halved after this many accesses an object held."""
LEAST_SAMPLE = 256


class WTinyLfu(Policy):
    """An LRU window of 1 %, a segmented LRU behind it, and counts that are halved at times."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._window: OrderedDict[int, int] = OrderedDict()
        self._probation: OrderedDict[int, int] = OrderedDict()
        self._protected: OrderedDict[int, int] = OrderedDict()
        self._window_used = 0
        self._protected_used = 0
        self._window_target = max(1, int(WINDOW_SHARE * capacity))
        self._protected_target = int(PROTECTED_SHARE * (capacity - self._window_target))
        self._counts: dict[int, int] = {}
        self._counted = 0

    def access(self, key: int, size: int = 1) -> bool:
        """Read one object, as `Policy.access`."""
        self._count(key)
        for part in (self._window, self._probation, self._protected):
            if key in part:
                if part[key] == size:
                    self._touch(key, size, part)
                    return True
                self._drop(key, part)
        if size > self.capacity:
            return False
        self._window[key] = size
        self._window_used += size
        self.used += size
        self.admitted += size
        while self._window_used > self._window_target and (len(self._window) > 1 or self.used > self.capacity):
            self._leave_window()
        while self.used > self.capacity:
            self._drop(*self._victims(1)[0])
        return False

    def contents(self) -> Iterator[tuple[int, int]]:
        """What is held, as `Policy.contents`."""
        return chain(tuple(self._probation.items()), tuple(self._window.items()), tuple(self._protected.items()))

    def _count(self, key: int) -> None:
        self._counts[key] = min(self._counts.get(key, 0) + 1, MOST_COUNTED)
        self._counted += 1
        held = len(self._window) + len(self._probation) + len(self._protected)
        if self._counted >= SAMPLE * max(held, LEAST_SAMPLE):
            self._counts = {each: count >> 1 for each, count in self._counts.items() if count > 1}
            self._counted >>= 1

    def _touch(self, key: int, size: int, part: OrderedDict[int, int]) -> None:
        if part is not self._probation:
            part.move_to_end(key)
            return
        del part[key]
        self._protected[key] = size
        self._protected_used += size
        while self._protected_used > self._protected_target and len(self._protected) > 1:
            back, back_size = self._protected.popitem(last=False)
            self._protected_used -= back_size
            self._probation[back] = back_size

    def _drop(self, key: int, part: OrderedDict[int, int]) -> None:
        size = part.pop(key)
        self.used -= size
        if part is self._window:
            self._window_used -= size
        elif part is self._protected:
            self._protected_used -= size

    def _leave_window(self) -> None:
        key, size = self._window.popitem(last=False)
        self._window_used -= size
        lacking = self.used - self.capacity
        victims = self._victims(lacking) if lacking > 0 else []
        if victims and self._counts.get(key, 0) <= sum(self._counts.get(victim, 0) for victim, _ in victims):
            self.used -= size
            return
        if lacking > 0 and not victims:
            self.used -= size
            return
        for victim, part in victims:
            self._drop(victim, part)
        self._probation[key] = size

    def _victims(self, lacking: int) -> list[tuple[int, OrderedDict[int, int]]]:
        chosen: list[tuple[int, OrderedDict[int, int]]] = []
        for part in (self._probation, self._protected, self._window):
            for key, size in part.items():
                if lacking <= 0:
                    return chosen
                chosen.append((key, part))
                lacking -= size
        return chosen
