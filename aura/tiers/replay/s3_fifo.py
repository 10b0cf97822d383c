"""S3-FIFO: three queues, of which the small one keeps what is read once away from the rest.

J. Yang, Y. Zhang, Z. Qiu, Y. Yue, K. V. Rashmi, "FIFO queues are all you need for cache eviction", SOSP 2023.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain

from aura.tiers.replay.policy import Policy

SMALL_SHARE = 0.1
"""Share of the capacity for newcomers (section 4.1 of the paper)."""
MOST_READS = 3
"""Two bits count the reads of an object."""
READS_TO_STAY = 2
"""Reads after the first that bring a newcomer into the main queue."""


class S3Fifo(Policy):
    """Newcomers pass a small FIFO; those read again enter the main FIFO, which gives a second chance per read.

    Ghosts of what left the small queue are kept for as many bytes as the main queue has; they enter it directly.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._small: OrderedDict[int, int] = OrderedDict()
        self._main: OrderedDict[int, int] = OrderedDict()
        self._ghosts: OrderedDict[int, int] = OrderedDict()
        self._reads: dict[int, int] = {}
        self._small_used = 0
        self._ghosts_used = 0
        self._small_target = max(1, int(SMALL_SHARE * capacity))

    def access(self, key: int, size: int = 1) -> bool:
        """Read one object, as `Policy.access`."""
        reads = self._reads.get(key)
        if reads is not None:
            if self._size_of(key) == size:
                self._reads[key] = min(reads + 1, MOST_READS)
                return True
            self._drop(key)
        if size > self.capacity:
            return False
        ghost = self._ghosts.pop(key, None)
        if ghost is not None:
            self._ghosts_used -= ghost
        while self.used + size > self.capacity:
            if self._small and (self._small_used >= self._small_target or not self._main):
                self._leave_small()
            else:
                self._leave_main()
        if ghost is None:
            self._small[key] = size
            self._small_used += size
        else:
            self._main[key] = size
        self._reads[key] = 0
        self.used += size
        self.admitted += size
        return False

    def contents(self) -> Iterator[tuple[int, int]]:
        """What is held, as `Policy.contents`."""
        return chain(tuple(self._small.items()), tuple(self._main.items()))

    def _size_of(self, key: int) -> int:
        return self._small[key] if key in self._small else self._main[key]

    def _drop(self, key: int) -> None:
        if key in self._small:
            size = self._small.pop(key)
            self._small_used -= size
        else:
            size = self._main.pop(key)
        del self._reads[key]
        self.used -= size

    def _leave_small(self) -> None:
        key, size = self._small.popitem(last=False)
        self._small_used -= size
        if self._reads[key] >= READS_TO_STAY:
            self._reads[key] = 0
            self._main[key] = size
            return
        del self._reads[key]
        self.used -= size
        self._ghosts[key] = size
        self._ghosts_used += size
        while self._ghosts_used > self.capacity - self._small_target and self._ghosts:
            self._ghosts_used -= self._ghosts.popitem(last=False)[1]

    def _leave_main(self) -> None:
        key, size = self._main.popitem(last=False)
        if self._reads[key]:
            self._reads[key] -= 1
            self._main[key] = size
            return
        del self._reads[key]
        self.used -= size
