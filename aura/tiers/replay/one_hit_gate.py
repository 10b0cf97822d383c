"""LRU behind a gate that refuses one-hit wonders: the first read of a key within the gate's memory brings nothing in.

The frequency threshold of two is what Akamai's caches use (B. Maggs, R. Sitaraman, "Algorithmic nuggets in content
delivery", ACM SIGCOMM CCR 45(3), 2015). The memory is a list of keys in place of their Bloom filter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from aura.tiers.replay.lru import Lru
from aura.tiers.replay.policy import Policy


class OneHitGate(Policy):
    """Once the cache is full, only what was refused lately, within as many bytes as it holds, comes in."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._cache = Lru(capacity)
        self._refused: OrderedDict[int, int] = OrderedDict()
        self._refused_bytes = 0

    def access(self, key: int, size: int = 1) -> bool:
        """Read one object, as `Policy.access`."""
        cache = self._cache
        if key not in cache and cache.used + size > self.capacity:
            before = self._refused.pop(key, None)
            if before is None:
                self._refuse(key, size)
                return False
            self._refused_bytes -= before
        hit = cache.access(key, size)
        self.used, self.admitted = cache.used, cache.admitted
        return hit

    def contents(self) -> Iterator[tuple[int, int]]:
        """What is held, as `Policy.contents`."""
        return self._cache.contents()

    def _refuse(self, key: int, size: int) -> None:
        self._refused[key] = size
        self._refused_bytes += size
        while self._refused_bytes > self.capacity:
            self._refused_bytes -= self._refused.popitem(last=False)[1]
