"""What reads taught about each object: one row of numbers an object, folded in batches.

Belongs here: the rows by object id, their growth, and the fold of a batch of reads. Does not: what follows from the
numbers (`reuse`, `policies`), or where an object lives (`placing`).

Several reads of one object in one batch count one after the other, as they would alone: a moving average over them is a
composition of affine maps, which a doubling scan computes for all objects at once (W. D. Hillis, G. L. Steele, "Data
parallel algorithms", CACM 29(12), 1986).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from aura.tiers.gaps import FIRST_CHANCE, LONG, MEMORY, OCTAVES, SHORT
from aura.tiers.online.costs import Floats, Rows

Number = TypeVar("Number", bound=np.generic)

PAGE_BITS = 8
"""Ids that follow each other share a page of 256 rows; a page whose objects are all gone is used again."""
GROWTH = 1.125
"""Rows are allocated for this many times the objects."""
LEAST_ROWS = 4096
NEVER = -1
"""Class of an object that was not read yet, and the last read of it."""
ONCE = 0
SCANNED = 4
"""Doublings after which the scan of that average stops: what is 16 reads back weighs less than 1e-4."""
MOST_COUNTED = 15
SPREAD, SPREAD_BITS = np.uint64(0x9E3779B97F4A7C15), np.uint64(40)
"""Multiplicative hash of an id for the sample of keys: the golden ratio in 64 bits, of which the upper 24 are used."""
HASHES = 1 << 24


@dataclass(frozen=True, eq=False, slots=True)
class Folded:
    """A batch of reads.

    Attributes:
        rows: int64[m], who was read, each once, ascending.
        counts: int64[m], how often.
        kinds: int64[g], the class that an object was in before a read, for each read but the first of an object.
        gaps: int64[g], reads since the one before.
    """

    rows: Rows
    counts: Rows
    kinds: Rows
    gaps: Rows


@dataclass(frozen=True, eq=False, slots=True)
class _Runs:
    """Reads in the order of their rows, then of time: m rows, each with a run of them among n.

    Attributes:
        rows: int64[m], ascending.
        starts: int64[m], the first read of each.
        ends: int64[m], the last one.
        nth: int64[n], position of each read in its run.
    """

    rows: Rows
    starts: Rows
    ends: Rows
    nth: Rows


def _runs(ordered: Rows) -> _Runs:
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    ends = np.append(starts[1:], len(ordered)) - 1
    nth = np.arange(len(ordered)) - np.repeat(starts, ends - starts + 1)
    return _Runs(ordered[starts], starts, ends, nth)


class History:
    """Rows by id. Columns are arrays that may be longer than there are rows; `known` says which rows are in use.

    Attributes:
        now: Reads so far.
        known: bool[rows], whether an object has this row.
        pinned: bool[rows], whether it has to stay where it is.
        size: int64[rows], bytes, one at least.
        last: int64[rows], when it was last read; -1 for never.
        kind: int16[rows], class of its gaps, below `CLASSES`; -1 for never read.
        average: float16[rows], moving average of the base 2 logarithms of its gaps; -1 before the first gap.
        short: float16[rows], chance of a read in a cycle, by a short average.
        long: float16[rows], by a long one.
        count: uint8[rows], reads up to 15, halved at times.
    """

    def __init__(self) -> None:
        self.now = 0
        self.known = np.zeros(LEAST_ROWS, dtype=np.bool_)
        self.pinned = np.zeros(LEAST_ROWS, dtype=np.bool_)
        self.size = np.zeros(LEAST_ROWS, dtype=np.int64)
        self.last = np.full(LEAST_ROWS, NEVER, dtype=np.int64)
        self.kind = np.full(LEAST_ROWS, NEVER, dtype=np.int16)
        self.average = np.full(LEAST_ROWS, NEVER, dtype=np.float16)
        self.short = np.full(LEAST_ROWS, FIRST_CHANCE, dtype=np.float16)
        self.long = np.full(LEAST_ROWS, FIRST_CHANCE, dtype=np.float16)
        self.count = np.zeros(LEAST_ROWS, dtype=np.uint8)
        self._page_of = np.full(1, NEVER, dtype=np.int32)
        self._ids_of = np.zeros(LEAST_ROWS >> PAGE_BITS, dtype=np.int32)
        self._free = list(range((LEAST_ROWS >> PAGE_BITS) - 1, -1, -1))

    @property
    def rows(self) -> int:
        """Length of the columns."""
        return len(self.known)

    def find(self, ids: NDArray[np.int32]) -> Rows:
        """int64[n], the row of each id; -1 for one that is not known."""
        pages = ids.astype(np.int64) >> PAGE_BITS
        within = (pages >= 0) & (pages < len(self._page_of))
        page = np.where(within, self._page_of[np.where(within, pages, 0)], NEVER)
        rows = (page.astype(np.int64) << PAGE_BITS) | (ids & ((1 << PAGE_BITS) - 1))
        found: Rows = np.where((page >= 0) & self.known[rows], rows, NEVER)
        return found

    def ids(self, rows: Rows) -> NDArray[np.int32]:
        """int32[n], the id of each row."""
        found: NDArray[np.int32] = (self._ids_of[rows >> PAGE_BITS] << PAGE_BITS) | (
            rows & ((1 << PAGE_BITS) - 1)
        ).astype(np.int32)
        return found

    def add(self, ids: NDArray[np.int32], sizes: Rows) -> Rows:
        """Give each id a row, if it has none, and note its size; int64[n], the rows.

        Raises:
            ValueError: An id is negative.
        """
        if len(ids) and ids.min() < 0:
            raise ValueError(f"an id is {ids.min()}; the ids of objects are zero or more")
        for page in np.unique(ids >> PAGE_BITS).tolist():
            self._provide(page)
        rows: Rows = (self._page_of[ids >> PAGE_BITS].astype(np.int64) << PAGE_BITS) | (ids & ((1 << PAGE_BITS) - 1))
        self.known[rows] = True
        self.size[rows] = np.maximum(sizes, 1)
        return rows

    def remove(self, rows: Rows) -> None:
        """Forget objects: their rows become free."""
        for column, fresh in self._columns():
            column[rows] = fresh
        for page in np.unique(rows >> PAGE_BITS).tolist():
            if not self.known[page << PAGE_BITS : (page + 1) << PAGE_BITS].any():
                self._page_of[self._ids_of[page]] = NEVER
                self._free.append(page)

    def hashes(self, rows: Rows) -> Rows:
        """int64[n], a number below `HASHES` for each object, the same in every process."""
        spread: Rows = (self.ids(rows).astype(np.uint64) * SPREAD >> SPREAD_BITS).astype(np.int64)
        return spread

    def fold(self, rows: Rows, cycle: float | None) -> Folded:
        """Record reads, oldest first.

        Args:
            rows: int64[n], whose reads they are, one at least.
            cycle: Length of the cycle of the access pattern in reads, if it has one.

        Returns:
            What the batch came to.
        """
        order = np.argsort(rows, kind="stable")
        runs, time = _runs(rows[order]), self.now + 1 + order
        self.now += len(rows)
        before = np.empty_like(time)
        before[1:] = time[:-1]
        before[runs.starts] = self.last[runs.rows]
        again = before >= 0
        gaps = np.maximum(time - before, 1)
        kinds = self._averages(runs, gaps, again)
        if cycle is not None:
            self._chances(runs, np.where(again, gaps, cycle) / cycle)
        counts = runs.ends - runs.starts + 1
        self.last[runs.rows] = time[runs.ends]
        self.count[runs.rows] = np.minimum(self.count[runs.rows] + counts, MOST_COUNTED)
        return Folded(runs.rows, counts, kinds[again], gaps[again])

    def _averages(self, runs: _Runs, gaps: Rows, again: NDArray[np.bool_]) -> Rows:
        """Bring average and class up to date; int64[n], the class before each read."""
        logarithm = np.log2(gaps)
        past = self.average[runs.rows].astype(np.float64)
        weight = np.full(len(gaps), MEMORY)
        value = (1 - MEMORY) * logarithm
        # The first gap of an object is its average; before it there is none, which the average -1 says.
        fresh = np.zeros(len(gaps), dtype=np.bool_)
        fresh[runs.starts] = again[runs.starts] & (past < 0)
        behind_new = np.flatnonzero(~again[runs.starts] & (runs.ends > runs.starts))
        fresh[runs.starts[behind_new] + 1] = True
        value[fresh], weight[fresh] = logarithm[fresh], 0.0
        value[runs.starts] = np.where(fresh[runs.starts], value[runs.starts], MEMORY * past + value[runs.starts])
        value[~again], weight[runs.starts] = NEVER, 0.0
        average = _scan(weight, value, runs.nth, SCANNED)
        last_gap = np.minimum(logarithm, OCTAVES - 1).astype(np.int64)
        typical = np.where(fresh, OCTAVES, np.clip(average, 0, OCTAVES - 1).astype(np.int64))
        after = np.where(again, 1 + last_gap * (OCTAVES + 1) + typical, ONCE)
        kinds = np.empty_like(after)
        kinds[1:] = after[:-1]
        kinds[runs.starts] = self.kind[runs.rows]
        self.average[runs.rows] = average[runs.ends]
        self.kind[runs.rows] = after[runs.ends]
        return kinds

    def _chances(self, runs: _Runs, cycles: Floats) -> None:
        """Bring the chances of a read in a cycle up to date, for gaps of so many cycles."""
        cycles = np.maximum(1, np.round(cycles))
        for column, rate in ((self.short, SHORT), (self.long, LONG)):
            weight = (1 - rate) ** cycles
            value = np.full(len(cycles), rate)
            value[runs.starts] += weight[runs.starts] * column[runs.rows].astype(np.float64)
            weight[runs.starts] = 0.0
            column[runs.rows] = _scan(weight, value, runs.nth, len(cycles).bit_length())[runs.ends]

    def _provide(self, page: int) -> None:
        if page >= len(self._page_of):
            longer = np.full(max(page + 1, int(GROWTH * len(self._page_of))), NEVER, dtype=np.int32)
            longer[: len(self._page_of)] = self._page_of
            self._page_of = longer
        if self._page_of[page] >= 0:
            return
        if not self._free:
            self._grow()
        slot = self._free.pop()
        self._page_of[page], self._ids_of[slot] = slot, page

    def _grow(self) -> None:
        pages = len(self._ids_of)
        more = max(pages + 1, int(GROWTH * pages))
        for name, fresh in COLUMNS.items():
            setattr(self, name, lengthened(getattr(self, name), more << PAGE_BITS, fresh))
        self._ids_of = lengthened(self._ids_of, more, 0)
        self._free.extend(range(more - 1, pages - 1, -1))

    def _columns(self) -> list[tuple[NDArray[np.generic], float]]:
        return [(getattr(self, name), fresh) for name, fresh in COLUMNS.items()]


COLUMNS: dict[str, float] = {
    "known": False,
    "pinned": False,
    "size": 0,
    "last": NEVER,
    "kind": NEVER,
    "average": NEVER,
    "short": FIRST_CHANCE,
    "long": FIRST_CHANCE,
    "count": 0,
}
"""The columns of `History` and what they hold for a row that is free."""


def lengthened(column: NDArray[Number], rows: int, fresh: float) -> NDArray[Number]:
    """The column with so many rows, the new ones holding `fresh`."""
    longer = np.full(rows, fresh, dtype=column.dtype)
    longer[: len(column)] = column
    return longer


def _scan(weight: Floats, value: Floats, nth: Rows, most: int) -> Floats:
    """float64[n], x[i] = weight[i] * x[i - 1] + value[i] within each run; the weight of the first in a run is 0.

    Args:
        weight: float64[n]; overwritten.
        value: float64[n]; overwritten.
        nth: int64[n], position in the run.
        most: Doublings, at most.
    """
    step, longest = 1, int(nth.max(initial=0))
    while step <= longest and most:
        inside = np.flatnonzero(nth >= step)
        value[inside] += weight[inside] * value[inside - step]
        weight[inside] *= weight[inside - step]
        step, most = 2 * step, most - 1
    return value
