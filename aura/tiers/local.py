"""The owner's store: the index of objects, reads, atomic writes, moves between tiers.

Belongs here: what has to hold at every moment. A record names the tier and slot of an object; readers take it without a
lock, read, and verify the checksum; if that fails the slot was reused or the object rewritten, and the read is repeated
under the lock. Writers, moves and measurements hold the lock.
Does not: serving other processes (`owner`), the database's layout (`disk`), timing a tier (`timing`).
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aura.tiers.access_log import AccessLog, Folded
from aura.tiers.codec import Encoded, Header, decode_verified, encode, verify
from aura.tiers.copies import NO_SLOT, FastTier, Live, ProcessTier, Record
from aura.tiers.disk import Disk
from aura.tiers.errors import (
    CorruptObjectError,
    InvalidPartError,
    ObjectNotFoundError,
    StorageError,
    StoreClosedError,
    StoreError,
)
from aura.tiers.moving import move
from aura.tiers.store import Access, Entry, MoveReport, Tier, TieredStore, TierState
from aura.tiers.timing import time_gets, time_puts
from aura.tiers.values import Part

logger = logging.getLogger(__name__)

DATABASE = "rocksdb"
"""Name of the database's directory inside the store's directory."""
RESERVED = "\0"
"""Keys that start so are the store's own (measurements); they are never visible."""
MAX_KEY_BYTES = 4096


@dataclass(slots=True)
class GetCount:
    """Gets of one tier that were timed."""

    gets: int = 0
    nanoseconds: int = 0


class LocalStore(TieredStore):
    """The store in the process that owns its directory."""

    def __init__(self, directory: Path, disk: Disk, fast: Sequence[FastTier], log: AccessLog) -> None:
        """Take over the open parts and read the index.

        Raises:
            CorruptStoreError: The index cannot be read.
        """
        self.directory = directory
        self.closing = ExitStack()
        self.lock = threading.RLock()
        self.disk = disk
        self.fast = {tier.tier: tier for tier in fast}
        self.records: dict[str, Record] = {}
        process = self.fast.get(Tier.L1)
        self.live: dict[str, Live] = process.live if isinstance(process, ProcessTier) else {}
        self._log = log
        self._pending = log.pending
        self._damaged: dict[str, CorruptObjectError] = {}
        self._counts = {tier: GetCount() for tier in Tier}
        self._count_lock = threading.Lock()
        self._arena_reads = 0
        self._closed = False
        self.next_id = disk.next_id()
        self._read_index()

    def get(self, key: str) -> Part:
        """See `TieredStore.get`. A live object costs two dictionary-sized steps; one in 64 goes the timed way."""
        live = self.live.get(key)
        if live is None or len(self._pending) >= self._log.due:
            return self._get_timed(key)
        self._pending.append(live.id)
        return live.part

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
            next_id = self.next_id
            numbered: list[tuple[str, Encoded]] = []
            for key, encoded in puts.items():
                known = self.records.get(key)
                number = next_id if known is None else known.header.id
                next_id += known is None
                numbered.append((key, Encoded(replace(encoded.header, id=number), encoded.payload)))
            self.disk.write(numbered, gone, next_id)
            self.next_id = next_id
            for key in (*puts, *gone):
                self.drop_copy(key)
                self._damaged.pop(key, None)
            self.records.update((key, Record(key, encoded.header)) for key, encoded in numbered)
            for key in gone:
                self.records.pop(key, None)

    def contains(self, key: str) -> bool:
        """See `TieredStore.contains`. True for a damaged object too: reading it says what is wrong."""
        self.check_open()
        return key in self.records or key in self._damaged

    def entries(self, prefix: str = "") -> list[Entry]:
        """See `TieredStore.entries`."""
        with self.lock:
            self.check_open()
            found = [(key, record) for key, record in self.records.items() if key.startswith(prefix)]
        found.sort()
        return [Entry(key, kept.header.id, kept.header.kind.word, kept.header.length, kept.tier) for key, kept in found]

    def tiers(self) -> list[TierState]:
        """See `TieredStore.tiers`."""
        with self.lock, self._count_lock:
            self.check_open()
            total_bytes = sum(record.header.length for record in self.records.values())
            counts: dict[Tier, tuple[int, float | None]] = {
                tier: (count.gets, count.nanoseconds / 1e9) for tier, count in self._counts.items()
            }
            timed, seconds = self._counts[Tier.L1].gets, self._counts[Tier.L1].nanoseconds / 1e9
            others = sum(counts[tier][0] for tier in Tier if tier != Tier.L1)
            live_gets = self._log.total - others - self._arena_reads
            counts[Tier.L1] = (live_gets, _scaled(seconds, timed, live_gets))
            states = [
                TierState(tier, held.capacity_bytes, held.used_bytes, held.objects, *counts[tier])
                for tier, held in sorted(self.fast.items())
            ]
            return [*states, TierState(Tier.L3, None, total_bytes, len(self.records), *counts[Tier.L3])]

    def move(self, targets: Mapping[str, Tier]) -> MoveReport:
        """See `TieredStore.move`."""
        self.check_open()
        return move(self, targets)

    def access_log(self) -> Access:
        """See `TieredStore.access_log`."""
        with self.lock:
            self.check_open()
            keys = [""] * self.next_id
            for key, record in self.records.items():
                keys[record.header.id] = key
            ids, total = self._log.read()
            return Access(ids, tuple(keys), total)

    def trim_access_log(self, keep_last: int) -> None:
        """See `TieredStore.trim_access_log`."""
        if keep_last < 0:
            raise ValueError(f"keep_last is {keep_last}; it is a number of accesses, zero or more")
        with self.lock:
            self.check_open()
            self.disk.keep(*self._log.replace(keep_last))

    def time_gets(self, keys: Sequence[str], tier: Tier | None = None) -> NDArray[np.float64]:
        """See `TieredStore.time_gets`."""
        self.check_open()
        return time_gets(self, keys, tier)

    def time_puts(self, sizes: Sequence[int], tier: Tier) -> NDArray[np.float64]:
        """See `TieredStore.time_puts`."""
        self.check_open()
        return time_puts(self, sizes, tier)

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
            self._keep(self._log.tick(whole_batch=False))
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
            if self._closed:
                return
            self._closed = True
            self._keep(self._log.tick(whole_batch=False))
            self.live.clear()
            self.records.clear()
            for tier in self.fast.values():
                tier.close()
            self.disk.close()

    def abandon(self) -> None:
        """In a forked child: unusable from now on, without touching what belongs to the parent."""
        self.lock = threading.RLock()
        self._closed = True
        self.live = {}
        self.records = {}
        self.closing.pop_all()

    def peek(self, key: str) -> Part:
        """`get` without the log: what is timed."""
        live = self.live.get(key)
        return live.part if live is not None else decode_verified(self._read(key)[1], key)

    def locate(self, key: str) -> Record | None:
        """Where in the arena a client finds the object, the access logged; None when it is not there."""
        record = self.records.get(key)
        if record is None or record.tier != Tier.L2 or record.slot == NO_SLOT:
            return None
        with self._count_lock:
            self._arena_reads += 1
        self._note(record.header.id)
        return record

    def read_encoded(self, key: str, *, log: bool) -> Encoded:
        """The verified bytes of an object, for a client."""
        start = time.perf_counter_ns()
        live = self.live.get(key)
        tier, encoded = (Tier.L1, live.encoded) if live is not None else self._read(key)
        if log:
            self._count(tier, time.perf_counter_ns() - start)
            self._note(encoded.header.id)
        return encoded

    def drop_copy(self, key: str) -> None:
        """Let the object fall back to L3."""
        record = self.records.get(key)
        if record is not None and record.tier != Tier.L3:
            self.records[key] = Record(key, record.header)
            self.fast[record.tier].release(record)

    def check_open(self) -> None:
        """Raise StoreClosedError after `close` and in a forked child."""
        if self._closed:
            raise StoreClosedError(
                "The store is closed",
                path=str(self.directory),
                remedy="Open it again with open_store; a forked child needs a store of its own.",
            )

    def _read_index(self) -> None:
        left_over = []
        for key, raw in self.disk.headers():
            if key.startswith(RESERVED):
                left_over.append(key)
                continue
            try:
                header = Header.unpack(raw, key)
            except CorruptObjectError as error:
                logger.warning("%s", error)
                self._damaged[key] = error
                continue
            self.records[key] = Record(key, header)
            self.next_id = max(self.next_id, header.id + 1)
        if left_over:
            self.disk.write([], left_over, self.next_id)

    def _get_timed(self, key: str) -> Part:
        start = time.perf_counter_ns()
        live = self.live.get(key)
        if live is not None:
            tier, number, part = Tier.L1, live.id, live.part
        else:
            tier, encoded = self._read(key)
            number, part = encoded.header.id, decode_verified(encoded, key)
        self._count(tier, time.perf_counter_ns() - start)
        self._note(number)
        return part

    def _read(self, key: str) -> tuple[Tier, Encoded]:
        """The tier that answered and the verified bytes."""
        record = self.records.get(key)
        if record is not None:
            payload = self._payload(record)
            if payload is not None and record.header.matches(payload):
                return record.tier, Encoded(record.header, payload)
        with self.lock:
            self.check_open()
            return self.read_locked(key)

    def read_locked(self, key: str) -> tuple[Tier, Encoded]:
        """`_read` when nothing changes underneath: what fails its checksum now is bad. Needs the lock."""
        record = self.records.get(key)
        if record is None:
            raise self._absent(key)
        payload = self._payload(record)
        if record.tier != Tier.L3:
            if payload is not None and record.header.matches(payload):
                return record.tier, Encoded(record.header, payload)
            logger.warning("the copy of %r in %s is gone or fails its checksum; reading L3", key, record.tier)
            self.drop_copy(key)
            payload = self.disk.read(key)
        if payload is None:
            raise CorruptObjectError(
                f"The object {key!r} has a header but no payload", key=key, remedy="Write it again."
            )
        encoded = Encoded(record.header, payload)
        verify(encoded, key)
        return Tier.L3, encoded

    def _payload(self, record: Record) -> bytes | memoryview | None:
        return self.disk.read(record.key) if record.tier == Tier.L3 else self.fast[record.tier].read(record)

    def _absent(self, key: str) -> StoreError:
        self.check_open()
        return self._damaged.get(key) or ObjectNotFoundError(
            f"There is no object {key!r}", key=key, path=str(self.directory), remedy="See entries() for what is there."
        )

    def _count(self, tier: Tier, nanoseconds: int) -> None:
        with self._count_lock:
            self._counts[tier].gets += 1
            self._counts[tier].nanoseconds += nanoseconds

    def _note(self, number: int) -> None:
        self._pending.append(number)
        if len(self._pending) >= self._log.due:
            self._keep(self._log.tick())

    def _keep(self, folded: Folded | None) -> None:
        if folded is None:
            return
        try:
            self.disk.keep(folded.added, folded.dropped)
        except StoreError as error:
            logger.warning("a batch of the access log stays in memory only: %s", error)


def check_keys(puts: Iterable[str], deletes: Iterable[str]) -> None:
    """Refuse keys that cannot be stored, and a key that is both put and deleted.

    Raises:
        InvalidPartError: With the key.
    """
    written = set(puts)
    for key in (*written, *deletes):
        if not key or key.startswith(RESERVED) or len(key.encode()) > MAX_KEY_BYTES:
            remedy = f"A key is 1 to {MAX_KEY_BYTES} bytes of UTF-8 and does not start with NUL."
            raise InvalidPartError(f"{key[:80]!r} is not a key", key=key[:80], remedy=remedy)
    for key in deletes:
        if key in written:
            raise InvalidPartError(f"The key {key!r} is both put and deleted", key=key, remedy="Do one of them.")


def _scaled(seconds: float, timed: int, gets: int) -> float | None:
    """Seconds in all gets, from those that were timed; None if gets cannot be told from so few."""
    if timed:
        return seconds / timed * gets
    return None if gets else 0.0
