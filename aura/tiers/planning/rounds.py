"""Timing gets and puts on every tier, round by round, on objects that exist for it.

Belongs here: what is read in which order, from where, and how long it took. Does not: the statistics (`samples.py`).

A get that follows a get of the same object finds everything in the processor's caches; one that follows reads of many
others finds nothing there. Both happen, so both are measured: every object is read again at once, and after reads of
several working sets. The objects are spread over the tiers at random and change places every round, so that tiers,
kinds and sizes are read in turn, as a real sequence reads them, and a machine that slows down hits all of them alike.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aura.measure.energy import Energy, EnergyMeter, unavailable
from aura.tiers.errors import CapacityError, TierAbsentError
from aura.tiers.planning.samples import Cell, Line
from aura.tiers.records import Entry, Tier
from aura.tiers.store import TieredStore

PUTS_A_ROUND = 2
"""Puts per size, tier and round: each one into L3 waits for the disk."""

WORKING_SETS = (4 << 20, 16 << 20)
"""Bytes that are copied between two reads of an object, beside none and all."""

DISK_ONLY = -1
"""Name of the working set of all objects when all of them are in L3."""

ENERGY_SECONDS = 0.3
"""Length of a window on an energy counter: three times the shortest that the counters resolve."""


def passing_bytes(reader: Tier, tier: Tier, size: int) -> int:
    """Bytes of a get that pass through the caches on which gets from another tier depend.

    Process memory hands out the object itself and copies nothing. Gets from L3 depend on the block cache of the
    database, through which only its own reads pass.

    Args:
        reader: The tier whose gets are asked about.
        tier: The tier that the object is read from.
        size: Bytes of the object.
    """
    if tier is Tier.L1 or (reader is Tier.L3 and tier is not Tier.L3):
        return 0
    return size


class Rounds:
    """The measurements on one store.

    Attributes:
        timed: (round, seconds) of each cell.
        skipped: Why there is none of a tier, operation, kind and size.
    """

    def __init__(self, store: TieredStore, entries: Sequence[Entry], rng: np.random.Generator) -> None:
        """Start with objects that are in L3."""
        self.timed: defaultdict[Cell, list[tuple[int, NDArray[np.float64]]]] = defaultdict(list)
        self.skipped: dict[tuple[Line, int], str] = {}
        self._store = store
        self._entries = list(entries)
        self._rng = rng
        self._tiers = [state.tier for state in store.tiers()]
        whole = sum(entry.bytes for entry in entries)
        self._working_sets = [each for each in WORKING_SETS if each < whole / 2] + [whole]
        self._passed: defaultdict[tuple[Tier, int], list[float]] = defaultdict(list)

    def run(self, number: int) -> None:
        """One round over everything; `number` counts from 0, and a negative one is not kept."""
        self._gets(number)
        self._puts(number)

    def finish(self) -> None:
        """Name the working sets by the bytes that really passed, and say of what there are no samples and why."""
        passed = {(str(tier), name): round(float(np.mean(each))) for (tier, name), each in self._passed.items()}
        named = self.timed.copy()
        self.timed.clear()
        for cell, each in named.items():
            self.timed[cell._replace(reuse=passed.get((cell.line.tier, cell.reuse), 0))] += each
        measured = {(cell.line, cell.size) for cell in self.timed}
        self.skipped = {cell: reason for cell, reason in self.skipped.items() if cell not in measured}

    def energies(self, meter: EnergyMeter) -> tuple[dict[Line, tuple[Energy, int]], Energy]:
        """What gets and puts use, in windows long enough for a counter; none but the first where there is no counter.

        Returns:
            Energy and bytes of each line, and the energy of the first window, which says where joules come from.
        """
        found: dict[Line, tuple[Energy, int]] = {}
        first: Energy | None = None
        for line in sorted({cell.line for cell in self.timed}):
            energy, size = self._window(meter, line)
            first = first or energy
            if first.joules is None:
                break
            found[line] = (energy, size)
        if first is None:
            raise ValueError("nothing was measured before the energy: run a round first")
        return found, first

    def _gets(self, number: int) -> None:
        lives = self._spread(number)
        order = self._rng.permutation(len(self._entries))
        again = np.repeat(order, 3)
        self._read(number, 0, again, lives, kept=np.arange(len(again)) % 3 > 0)
        for nominal in self._working_sets:
            self._read_twice(number, nominal, lives)
        self._store.move({entry.key: Tier.L3 for entry in self._entries})
        self._read_twice(number, DISK_ONLY, [Tier.L3] * len(self._entries))

    def _read_twice(self, number: int, name: int, lives: Sequence[Tier]) -> None:
        """Read as many objects as the working set of this name has, twice in the same order, and keep the second."""
        order = self._rng.permutation(len(self._entries))
        sizes = np.array([entry.bytes for entry in self._entries])
        copied = np.array([0 if tier is Tier.L1 else size for tier, size in zip(lives, sizes, strict=True)])
        limit = copied.sum() if name == DISK_ONLY else name
        chosen = order[np.cumsum(copied[order]) <= limit]
        twice = np.concatenate([chosen, chosen])
        if number >= 0:
            for reader in self._tiers:
                passing = sum(passing_bytes(reader, lives[index], int(sizes[index])) for index in chosen)
                self._passed[reader, name].append(passing)
        self._read(number, name, twice, lives, kept=np.arange(len(twice)) >= len(chosen))

    def _spread(self, number: int) -> list[Tier]:
        """Give every object a random tier, those first that their tier has been measured with least; where each is."""
        wanted = [self._tiers[index] for index in self._rng.integers(0, len(self._tiers), len(self._entries))]
        lines = [Line(str(tier), "get", entry.kind) for tier, entry in zip(wanted, self._entries, strict=True)]
        known = [len(self.timed.get(Cell(line, e.bytes, 0), ())) for line, e in zip(lines, self._entries, strict=True)]
        order = np.lexsort((self._rng.random(len(self._entries)), np.array(known)))
        self._store.move({entry.key: Tier.L3 for entry in self._entries})
        refused = dict(self._store.move({self._entries[i].key: wanted[i] for i in order}).refused)
        if number >= 0:
            for line, entry in zip(lines, self._entries, strict=True):
                if entry.key in refused:
                    self.skipped.setdefault((line, entry.bytes), refused[entry.key])
        return [Tier.L3 if e.key in refused else tier for tier, e in zip(wanted, self._entries, strict=True)]

    def _read(
        self, number: int, reuse: int, order: NDArray[np.int64], lives: Sequence[Tier], kept: NDArray[np.bool_]
    ) -> None:
        seconds = self._store.time_gets([self._entries[index].key for index in order])
        if number < 0:
            return
        found: defaultdict[Cell, list[float]] = defaultdict(list)
        for index, spent in zip(order[kept].tolist(), seconds[kept].tolist(), strict=True):
            entry = self._entries[index]
            found[Cell(Line(str(lives[index]), "get", entry.kind), entry.bytes, reuse)].append(spent)
        for cell, each in found.items():
            self.timed[cell].append((number, np.array(each)))

    def _puts(self, number: int) -> None:
        sizes = sorted({entry.bytes for entry in self._entries if entry.kind == "bytes"})
        visits = [(tier, size) for tier in self._tiers for size in sizes]
        for index in self._rng.permutation(len(visits)):
            tier, size = visits[index]
            line = Line(str(tier), "put", "bytes")
            if (line, size) in self.skipped:
                continue
            try:
                seconds = self._store.time_puts([size] * PUTS_A_ROUND, tier)
            except (CapacityError, TierAbsentError) as error:
                self.skipped[line, size] = str(error)
                continue
            if number >= 0:
                self.timed[Cell(line, size, 0)].append((number, seconds))

    def _window(self, meter: EnergyMeter, line: Line) -> tuple[Energy, int]:
        """Repeat an operation on objects of one size until the window is long enough."""
        tier = Tier(line.tier)
        sizes = sorted({cell.size for cell in self.timed if cell.line == line})
        size = sizes[len(sizes) // 2]
        keys = [entry.key for entry in self._entries if entry.kind == line.kind and entry.bytes == size]
        if line.operation == "get":
            self._store.move({entry.key: Tier.L3 for entry in self._entries})
            refused = dict(self._store.move(dict.fromkeys(keys, tier)).refused)
            keys = [key for key in keys if key not in refused] * 32
            if not keys:
                return unavailable(f"no object of {size} bytes fits into {tier}"), 0
        spent, count = 0.0, 0
        window, started = meter.begin(), time.perf_counter()
        while spent < ENERGY_SECONDS:
            if line.operation == "get":
                seconds = self._store.time_gets(keys)
            else:
                seconds = self._store.time_puts([size] * 32, tier)
            spent += float(seconds.sum())
            count += len(seconds)
        # A get or put keeps one core busy, in whichever process the store's owner is.
        return window.end(window_seconds=time.perf_counter() - started, cpu_seconds=spent), count * size
