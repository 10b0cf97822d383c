"""The owner's store: gets, atomic writes, pins, the access log.

Belongs here: the interface, on top of the index. Does not: where objects are (`index`), serving other processes
(`owner`), the steps of a move (`moving`), timing a tier (`timing`), what happens in the background (`upkeep`).
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aura.tiers.access_log import BATCH, AccessLog, Noted
from aura.tiers.codec import Encoded, encode
from aura.tiers.copies import NO_SLOT, FastTier, Record
from aura.tiers.counts import Counts
from aura.tiers.disk import Disk
from aura.tiers.errors import (
    CapacityError,
    StorageError,
    StoreError,
)
from aura.tiers.index import Index
from aura.tiers.keys import check_keys
from aura.tiers.moving import held_tier, move
from aura.tiers.records import Access, Entry, MoveReport, Operation, Operations, Steered, Tier, TierState
from aura.tiers.store import TieredStore
from aura.tiers.timing import time_gets, time_puts
from aura.tiers.upkeep import Upkeep
from aura.tiers.values import Part

logger = logging.getLogger(__name__)
_clock = time.perf_counter_ns

DATABASE = "rocksdb"
"""Name of the database's directory inside the store's directory."""
COPY_SECONDS = 30.0
"""Longest wait of `close` for copies under way."""
SAMPLED = 64
"""Latest gets, of which those of live objects are repeated to be timed."""


class LocalStore(Index, TieredStore):
    """The store in the process that owns its directory."""

    def __init__(self, directory: Path, disk: Disk, fast: Sequence[FastTier], log: AccessLog) -> None:
        """Take over the open parts and read the index.

        Raises:
            CorruptStoreError: The index cannot be read.
        """
        super().__init__(directory, disk, fast)
        self.closing = ExitStack()
        self.pins: dict[str, Tier] = {}
        self.counts = Counts()
        self.upkeep = Upkeep(self)
        self.copies_under_way = 0
        self.copies_ended = threading.Condition(self.lock)
        self._log = log
        log.id_of, log.keep, log.count = self._id_of, disk.keep, self.counts.take
        self._pending = log.pending
        self.get = _fast_get(self.live, log.pending, self._get_slowly)  # type: ignore[method-assign, assignment]

    def get(self, key: str) -> Part:
        """See `TieredStore.get`. Every instance has it as a function of its own, made by `_fast_get`."""
        raise NotImplementedError

    def get_many(self, keys: Iterable[str]) -> dict[str, Part]:
        """See `TieredStore.get_many`."""
        return {key: self.get(key) for key in keys}

    def write(self, puts: Mapping[str, Part], deletes: Iterable[str] = ()) -> None:
        """See `TieredStore.write`."""
        self.write_encoded({key: encode(part, key) for key, part in puts.items()}, deletes)

    def write_encoded(self, puts: Mapping[str, Encoded], deletes: Iterable[str] = ()) -> None:
        """`write` for values that are encoded and verified."""
        gone = list(dict.fromkeys(deletes))
        check_keys(puts, gone)
        with self.lock:
            self.check_open()
            numbered: list[tuple[str, Encoded]] = []
            fresh: list[str] = []
            for key, encoded in puts.items():
                known = self.records.get(key)
                number = len(self.keys) + len(fresh) if known is None else known.id
                if known is None:
                    fresh.append(key)
                numbered.append((key, Encoded(replace(encoded.header, id=number), encoded.payload)))
            self.disk.write(numbered, gone, len(self.keys) + len(fresh))
            self.keys += fresh
            for key in (*puts, *gone):
                self.drop_copy(key)
                self.damaged.pop(key, None)
            for key, encoded in numbered:
                self.records[key] = Record(key, encoded.header.id, encoded.header)
                self.counts.note(Operation.PUT, encoded.header.id, Tier.L3)
            if gone:
                self._log.settle()  # while their ids are known
            for key in gone:
                record = self.records.pop(key, None)
                if record is not None:
                    self.keys[record.id] = ""
                    self.counts.note_delete(record.id, key)
                self.pins.pop(key, None)
            pinned = {key: self.pins[key] for key in puts if key in self.pins}
        self.upkeep.ask(pinned)

    def contains(self, key: str) -> bool:
        """See `TieredStore.contains`. True for a damaged object too: reading it says what is wrong."""
        self.check_open()
        return key in self.records or key in self.damaged

    def entries(self, prefix: str = "") -> list[Entry]:
        """See `TieredStore.entries`."""
        with self.lock:
            self.check_open()
            found = [(key, record) for key, record in self.records.items() if key.startswith(prefix)]
        found.sort(key=lambda each: each[0])
        return [
            Entry(key, kept.id, kept.header.kind.word, kept.header.length, kept.tier, key in self.pins)
            for key, kept in found
        ]

    def tiers(self) -> list[TierState]:
        """See `TieredStore.tiers`."""
        with self.lock:
            self.check_open()
            self.fold()
            total_bytes = sum(record.header.length for record in self.records.values())
            states = []
            for tier in (*self.fast, Tier.L3):
                held = self.fast.get(tier)
                gets, seconds = self.counts.of_gets(tier)
                states.append(
                    TierState(
                        tier,
                        capacity_bytes=None if held is None else held.capacity_bytes,
                        used_bytes=total_bytes if held is None else held.used_bytes,
                        objects=len(self.records) if held is None else held.objects,
                        gets=gets,
                        get_seconds=seconds,
                        puts=self.counts.of[Operation.PUT, tier],
                        deletes=self.counts.of[Operation.DELETE, tier],
                        promotions=self.counts.of[Operation.PROMOTION, tier],
                        demotions=self.counts.of[Operation.DEMOTION, tier],
                        bytes_in=self.counts.bytes_in[tier],
                    )
                )
            return states

    def move(self, targets: Mapping[str, Tier]) -> MoveReport:
        """See `TieredStore.move`."""
        self.check_open()
        return move(self, targets)

    def prefetch(self, keys: Iterable[str], tier: Tier = Tier.L1) -> None:
        """See `TieredStore.prefetch`."""
        self.check_open()
        held_tier(self, tier)
        self.upkeep.ask(dict.fromkeys(keys, tier))

    def pin(self, key: str, tier: Tier = Tier.L1) -> None:
        """See `TieredStore.pin`."""
        held_tier(self, tier)
        with self.lock:
            if key not in self.records:
                raise self.absent(key)
            before, self.pins[key] = self.pins.get(key), tier
        report = move(self, {key: tier})
        if not report.refused:
            return
        with self.lock:
            if before is None:
                self.pins.pop(key, None)
            elif key in self.pins:
                self.pins[key] = before
        raise CapacityError(f"{key!r} cannot be pinned in {tier}", key=key, cause=report.refused[0][1])

    def unpin(self, key: str) -> None:
        """See `TieredStore.unpin`."""
        with self.lock:
            self.check_open()
            self.pins.pop(key, None)

    def relieve(self, tier: Tier, size: int) -> int:
        """See `TieredStore.relieve`."""
        self.check_open()
        return self.upkeep.relieve(tier, size)

    def steered(self) -> Steered | None:
        """See `TieredStore.steered`."""
        self.check_open()
        return self.upkeep.steered()

    def access_log(self) -> Access:
        """See `TieredStore.access_log`."""
        with self.lock:
            self.check_open()
            ids, total = self._log.read()
            return Access(ids, tuple(self.keys), total)

    def operations(self, after: int = 0) -> Operations:
        """See `TieredStore.operations`."""
        with self.lock:
            self.check_open()
            rows, total = self.counts.operations_after(after)
            return Operations(rows, total, self._log.settle(), self.counts.deleted_keys(rows))

    def trim_access_log(self, keep_last: int) -> None:
        """See `TieredStore.trim_access_log`."""
        if keep_last < 0:
            raise ValueError(f"keep_last is {keep_last}; it is a number of accesses, zero or more")
        with self.lock:
            self.check_open()
            self._log.trim(keep_last)

    def time_gets(self, keys: Sequence[str], tier: Tier | None = None) -> NDArray[np.float64]:
        """See `TieredStore.time_gets`."""
        self.check_open()
        return time_gets(self, keys, tier)

    def time_puts(self, sizes: Sequence[int], tier: Tier) -> NDArray[np.float64]:
        """See `TieredStore.time_puts`."""
        self.check_open()
        return time_puts(self, sizes, tier)

    def flush(self) -> None:
        """See `TieredStore.flush`."""
        self.check_open()
        self.disk.flush()

    def checkpoint(self, target: Path) -> None:
        """See `TieredStore.checkpoint`. Made beside the target and renamed, so that a half-made one is never taken."""
        target = Path(target)
        if target.exists():
            raise StoreError(
                f"Cannot make a checkpoint in {target}", cause="it exists", remedy="Name a directory that does not."
            )
        partial = target.with_name(f"{target.name}.partial")
        with self.lock:
            self.check_open()
            self._log.tick(whole_batch=False)
            try:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(mode=0o700, parents=True)
                self.disk.checkpoint(partial / DATABASE)
                partial.rename(target)
            except OSError as error:
                remedy = "Name a directory on the same file system that this user may write to."
                raise StorageError(
                    "Cannot make a checkpoint", path=str(target), cause=str(error), remedy=remedy
                ) from error

    def close(self) -> None:
        """See `TieredStore.close`."""
        self.closing.close()

    def close_tiers(self) -> None:
        """Save the access log and close every tier; the last step of closing before ownership ends."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            if not self.copies_ended.wait_for(lambda: self.copies_under_way == 0, COPY_SECONDS):
                logger.warning("%d copies did not end within %g s", self.copies_under_way, COPY_SECONDS)
            self._log.close()
            self.live.clear()
            self.records.clear()
            for tier in self.fast.values():
                tier.close()
            self.disk.close()

    def abandon(self) -> None:
        """In a forked child: unusable from now on, without touching what belongs to the parent."""
        self.lock = threading.RLock()
        self.closed = True
        self.live.clear()
        self.records.clear()
        self.closing.pop_all()

    def peek(self, key: str) -> Part:
        """`get` without the log: what is timed."""
        part = self.live.get(key)
        return self.read(key)[1] if part is None else part

    def locate(self, key: str) -> Record | None:
        """Where in the arena a client finds the object, the access logged; None when it is not there."""
        record = self.records.get(key)
        if record is None or record.tier != Tier.L2 or record.slot == NO_SLOT:
            return None
        self._note((record.id, None, 0))
        return record

    def read_encoded(self, key: str, *, log: bool) -> Encoded:
        """The verified bytes of an object, for a client."""
        start = _clock()
        record, payload = self.verified(key)
        if log:
            self._note((record.id, record.tier, _clock() - start))
        return Encoded(record.header, payload)

    def lose_copy(self, record: Record) -> None:
        """See `Index.lose_copy`. It counts as a demotion, which is how the online layer hears of it."""
        super().lose_copy(record)
        self.count_move(record.id, record.tier, Tier.L3, 0)

    def count_move(self, number: int, before: Tier, after: Tier, copied: int) -> None:
        """Count one object that changed its tier. Needs the lock."""
        self.counts.note(Operation.PROMOTION if after < before else Operation.DEMOTION, number, after)
        self.counts.bytes_in[after] += copied

    def fold(self) -> None:
        """Take in what the gets left behind: counts, how long gets of live objects take, full batches of the log."""
        with self.lock:  # so that what is live stays so
            latest = self._pending[-SAMPLED:]
            live = [key for key in latest if isinstance(key, str) and key in self.live]
            peek, start = self.peek, _clock()
            for key in live:
                peek(key)
            spent = _clock() - start
            self._log.settle()
            self.counts.time_live(len(live), spent)
        self._log.tick()

    def accesses_after(self, position: int) -> tuple[NDArray[np.int32], int]:
        """int32[n], ids that were read since `position` gets, as far as they are kept; and the position after them."""
        return self._log.after(position)

    def _get_slowly(self, key: str) -> Part:
        """`get` of what is not live."""
        start = _clock()
        record, part = self.read(key)
        self._note((record.id, record.tier, _clock() - start))
        return part

    def _id_of(self, key: str) -> int | None:
        record = self.records.get(key)
        return None if record is None else record.id

    def _note(self, get: Noted) -> None:
        self._pending.append(get)
        if len(self._pending) >= BATCH:
            self._log.tick()


def _fast_get(live: Mapping[str, Part], pending: list[Noted], slowly: Callable[[str], Part]) -> Callable[[str], Part]:
    """A `get` that costs a live object two dictionary-sized steps: the lookup, and one append to the log."""
    append = pending.append

    def get(key: str) -> Part:
        try:
            part = live[key]
        except KeyError:
            return slowly(key)
        append(key)
        return part

    return get
