"""Fetching beside the computation: the thread that does it, and whether it pays.

Belongs here: an order of what to fetch, waiting for it, and choosing between ways of working by the time that each of
them takes. Does not: what to fetch (`residency`, `forecast`), how (`shelf`).

A predictor that cut misses by a tenth and lost 18 % of the throughput has been published: what prefetching gains is the
waiting that it avoids, less the prediction, the bytes fetched in vain and the synchronisation. All of them are in the
time of a step, so the ways are compared by nothing else.
"""

from __future__ import annotations

import logging
import statistics
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from aura.tiers.errors import StoreError

logger = logging.getLogger(__name__)

BLOCK = 4
"""Steps in a row of one way; of several the first, which begins with what the way before left, is not counted."""
REMEMBERED = 9
"""Latest blocks of a way that its time is the median of."""
FEWEST_BLOCKS = 2
"""Blocks after which a way can be compared."""
EXPLORE_EVERY = 16
"""One block in so many goes to the way that was tried longest ago."""


class Ways:
    """Chooses between ways of working by the seconds of a step, measured while they are used.

    Attributes:
        current: The way of the present step.
    """

    def __init__(self, names: Sequence[str], block: int = BLOCK) -> None:
        """Begin with the first way.

        Args:
            names: The ways.
            block: Steps in a row of one way.
        """
        self._length = block
        self._seconds: dict[str, deque[float]] = {name: deque(maxlen=REMEMBERED) for name in names}
        self._tried = dict.fromkeys(names, 0)
        self._blocks = 0
        self._block: list[float] = []
        self.current = names[0]

    def step(self, seconds: float) -> None:
        """The present way took so long for a step."""
        self._block.append(seconds)
        if len(self._block) < self._length:
            return
        self._seconds[self.current].append(statistics.fmean(self._block[1:] or self._block))
        self._block = []
        self._blocks += 1
        self._tried[self.current] = self._blocks
        fresh = [name for name, seconds in self._seconds.items() if len(seconds) < FEWEST_BLOCKS]
        if fresh:
            self.current = min(fresh, key=lambda name: len(self._seconds[name]))
        elif self._blocks % EXPLORE_EVERY == 0:
            self.current = min(self._tried, key=lambda name: self._tried[name])
        else:
            times = self.seconds
            self.current = min(times, key=lambda name: times[name])

    @property
    def seconds(self) -> dict[str, float]:
        """Median seconds of a step by each way that was tried."""
        return {name: statistics.median(seconds) for name, seconds in self._seconds.items() if seconds}


class Loader:
    """One thread that fetches objects by their number: what is needed now before what may be needed soon."""

    def __init__(self, fetch: Callable[[int], None]) -> None:
        """Start it.

        Args:
            fetch: Brings one object up; called by the thread. A StoreError is logged, the first as a warning: who needs
                the object reads it where it is, and is told what is wrong there.
        """
        self._fetch = fetch
        self._changed = threading.Condition()
        self._needed: deque[int] = deque()
        self._soon: deque[int] = deque()
        self._under_way: int | None = None
        self._stopped = False
        self._warned = False
        self._thread = threading.Thread(target=self._run, name="aura-experts-loader", daemon=True)
        self._thread.start()

    def need(self, numbers: Iterable[int]) -> None:
        """Fetch these next, in this order; what was wanted for later waits."""
        with self._changed:
            wanted = [number for number in numbers if number != self._under_way]
            self._needed.extend(wanted)
            for number in wanted:
                if number in self._soon:
                    self._soon.remove(number)
            self._changed.notify_all()

    def want(self, numbers: Iterable[int]) -> None:
        """Fetch these when nothing else is needed, in place of what was wanted before."""
        with self._changed:
            self._soon = deque(numbers)
            self._changed.notify_all()

    def take(self, number: int) -> bool:
        """Wait until an object is fetched, or take it back if that has not begun.

        Returns:
            True: it was taken back, and the caller fetches it.
        """
        with self._changed:
            if self._under_way != number:
                for queue in (self._needed, self._soon):
                    if number in queue:
                        queue.remove(number)
                        return True
            self._changed.wait_for(lambda: self._under_way != number)
            return False

    def idle(self) -> None:
        """Drop what was asked for, and wait for what is under way."""
        with self._changed:
            self._needed.clear()
            self._soon.clear()
            self._changed.wait_for(lambda: self._under_way is None)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._under_way = None
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._stopped or self._needed or self._soon)
                if self._stopped:
                    return
                self._under_way = (self._needed or self._soon).popleft()
                number = self._under_way
            try:
                self._fetch(number)
            except StoreError as error:
                level = logging.DEBUG if self._warned else logging.WARNING
                self._warned = True
                logger.log(level, "object %d was not fetched ahead, nor are others perhaps: %s", number, error)
            except Exception:
                # Whoever needs the object reads it where it is.
                logger.exception("object %d was not fetched", number)
