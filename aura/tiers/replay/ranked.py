"""Eviction by a score: what was read is recorded once, and any number of caches evict by what the record says.

Belongs here: the record of reads that a score is computed from, and the cache that evicts the lowest score of a sample.
Does not: any score (`hit_density`, `cycle_aware`).

The lowest of a random sample in place of the lowest of all is from N. Beckmann, H. Chen, A. Cidon, "LHD: improving
cache hit rate by maximizing hit density", NSDI 2018, section 5; here several victims are drawn at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from aura.tiers.replay.policy import Policy

SAMPLE = 256
"""Objects among which victims are sought; all of them in a smaller cache."""
VICTIMS_SHARE = 32
"""One in this many of a sample is a victim."""
VICTIMS_AGE = 64
"""Accesses after which victims are sought anew."""
GHOSTS = 4
"""Keys that are recorded without being held, for each one that is held."""
LEAST_RECORDS = 4096


class Ranking(ABC):
    """Scores keys by their reads. A key has a row as long as it is among the latest `limit` that were read.

    Attributes:
        now: Number of reads so far.
        keys: int64[rows], whose row it is.
        last: int64[rows], when the key was last read.
    """

    def __init__(self) -> None:
        self.now = 0
        self.limit = LEAST_RECORDS
        self.keys = np.zeros(LEAST_RECORDS, dtype=np.int64)
        self.last = np.zeros(LEAST_RECORDS, dtype=np.int64)
        self._rows: OrderedDict[int, int] = OrderedDict()
        self._free: list[int] = []

    @abstractmethod
    def scores(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """float64[n], the benefit per unit of time of holding the object of each row now; the lowest goes first."""

    @abstractmethod
    def newest_score(self, row: int) -> float:
        """The score of a key that was read just now."""

    @abstractmethod
    def _read(self, row: int, gap: int | None) -> None:
        """The key of the row was read `gap` reads after the time before; None: it has just got this row."""

    @abstractmethod
    def _leave(self, row: int) -> None:
        """The key of the row was not read for so long that it is forgotten."""

    @abstractmethod
    def _grow(self, rows: int) -> None:
        """Make room for so many rows."""

    def record(self, key: int) -> None:
        """Record one read."""
        self.now += 1
        row = self._rows.get(key)
        if row is None:
            row = self._new_row(key)
            self._read(row, None)
        else:
            self._rows.move_to_end(key)
            self._read(row, self.now - int(self.last[row]))
        self.last[row] = self.now

    def row(self, key: int) -> int:
        """Row of a key; -1 for one that is not recorded."""
        return self._rows.get(key, -1)

    def reserve(self, held: int) -> None:
        """Remember enough keys for a cache that holds so many."""
        self.limit = max(self.limit, (1 + GHOSTS) * held)

    def _new_row(self, key: int) -> int:
        while len(self._rows) >= self.limit:
            _, old = self._rows.popitem(last=False)
            self._leave(old)
            self._free.append(old)
        row = self._free.pop() if self._free else len(self._rows)
        if row >= len(self.keys):
            self.keys = np.resize(self.keys, 2 * row)
            self.last = np.resize(self.last, 2 * row)
            self._grow(2 * row)
        self._rows[key] = row
        self.keys[row] = key
        return row


class Ranked(Policy):
    """Evicts by a ranking, and refuses what it scores below every victim.

    Args:
        capacity: Bytes.
        ranking: The scores.
        recording: Whether this cache records what it reads; False where the owner of the ranking does.
        seed: Of the samples.
    """

    def __init__(self, capacity: int, ranking: Ranking, *, recording: bool = True, seed: int = 0) -> None:
        super().__init__(capacity)
        self._ranking = ranking
        self._recording = recording
        self._random = np.random.default_rng(seed)
        self._places: dict[int, int] = {}
        self._keys = np.zeros(SAMPLE, dtype=np.int64)
        self._rows = np.zeros(SAMPLE, dtype=np.int64)
        self._sizes = np.ones(SAMPLE, dtype=np.int64)
        self._victims: list[tuple[float, int, int]] = []
        self._drawn = 0

    def access(self, key: int, size: int = 1) -> bool:
        """Read one object, as `Policy.access`."""
        if self._recording:
            self._ranking.record(key)
        place = self._places.get(key)
        if place is not None:
            if self._sizes[place] == size:
                self._rows[place] = self._ranking.row(key)
                return True
            self._remove(key)
        if size <= self.capacity and self._make_room(key, size):
            self._insert(key, size)
            self.admitted += size
        return False

    def adopt(self, key: int, size: int) -> None:
        """Take over an object from another cache without a read, if it fits."""
        if self.used + size <= self.capacity:
            self._insert(key, size)

    def contents(self) -> Iterator[tuple[int, int]]:
        """What is held, as `Policy.contents`."""
        order = np.argsort(self._scores(np.arange(len(self._places))), kind="stable")
        return iter(list(zip(self._keys[order].tolist(), self._sizes[order].tolist(), strict=True)))

    def _make_room(self, key: int, size: int) -> bool:
        lacking = self.used + size - self.capacity
        if lacking <= 0:
            return True
        own = self._ranking.newest_score(self._ranking.row(key)) / size
        if self._ranking.now - self._drawn >= VICTIMS_AGE:
            self._victims.clear()
        chosen: list[tuple[float, int, int]] = []
        while lacking > 0:
            victim = self._next_victim({held for _, held, _ in chosen} if chosen else set())
            if victim[0] >= own:
                self._victims += [victim, *reversed(chosen)]
                return False
            chosen.append(victim)
            lacking -= int(self._sizes[self._places[victim[1]]])
        for _, held, _ in chosen:
            self._remove(held)
        return True

    def _next_victim(self, beside: set[int]) -> tuple[float, int, int]:
        """Score, key and row of the next victim that is still held and was not read since it was drawn."""
        while True:
            while self._victims:
                victim = self._victims.pop()
                _, key, row = victim
                place = self._places.get(key)
                if (
                    place is not None
                    and self._rows[place] == row
                    and self._ranking.last[row] <= self._drawn
                    and key not in beside
                ):
                    return victim
            self._draw(beside)

    def _draw(self, beside: set[int]) -> None:
        held = len(self._places)
        places = np.arange(held) if held <= SAMPLE else self._random.integers(held, size=SAMPLE)
        if beside:
            others = places[~np.isin(self._keys[places], list(beside))]
            places = others if len(others) else np.flatnonzero(~np.isin(self._keys[:held], list(beside)))
        scores = self._scores(places)
        # The last of the list is taken first: of equal scores the one that was read longest ago.
        lowest = np.argsort(scores, kind="stable")[: max(1, len(places) // VICTIMS_SHARE)]
        order = lowest[np.lexsort((self._ranking.last[self._rows[places[lowest]]], scores[lowest]))[::-1]]
        self._drawn = self._ranking.now
        self._victims = list(
            zip(
                scores[order].tolist(),
                self._keys[places[order]].tolist(),
                self._rows[places[order]].tolist(),
                strict=True,
            )
        )

    def _scores(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        rows = self._rows[places]
        scores = self._ranking.scores(rows) / self._sizes[places]
        # A key whose row now is another's was not read for longer than everything that is recorded.
        scores[self._ranking.keys[rows] != self._keys[places]] = -np.inf
        return scores

    def _insert(self, key: int, size: int) -> None:
        place = len(self._places)
        if place == len(self._keys):
            self._keys, self._rows, self._sizes = (
                np.resize(each, 2 * place) for each in (self._keys, self._rows, self._sizes)
            )
        self._places[key] = place
        self._keys[place], self._rows[place], self._sizes[place] = key, self._ranking.row(key), size
        self.used += size
        self._ranking.reserve(len(self._places))

    def _remove(self, key: int) -> None:
        place = self._places.pop(key)
        self.used -= int(self._sizes[place])
        end = len(self._places)
        if place != end:
            moved = int(self._keys[end])
            self._places[moved] = place
            self._keys[place], self._rows[place], self._sizes[place] = moved, self._rows[end], self._sizes[end]
