"""The owner's index of objects, and verified reads by it.

Belongs here: what has to hold at every moment. A record names the tier and slot of an object; readers take it without a
lock, read, and verify the checksum; if that fails the slot was reused or the object rewritten, and the read is repeated
under the lock. Who changes the index holds the lock.
Does not: writes, moves, counts and the access log (`local`, `moving`), the database's layout (`disk`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from aura.tiers.codec import Encoded, Header, decode_verified, verify
from aura.tiers.copies import FastTier, Record
from aura.tiers.disk import Disk
from aura.tiers.errors import CorruptObjectError, ObjectNotFoundError, StoreClosedError, StoreError
from aura.tiers.keys import RESERVED
from aura.tiers.records import Tier
from aura.tiers.values import Part

logger = logging.getLogger(__name__)

L3 = Tier.L3
"""A name of the module: a member of an enum is looked up slowly, and every get would pay for it."""


class Index:
    """Where each object is.

    Attributes:
        directory: The store's directory.
        lock: Held by whoever changes what follows.
        disk: L3.
        fast: The fast tiers, by nominal order.
        records: By key, the fastest copy of each object.
        live: The objects of L1, which may be given away as they are.
        keys: By id; "" for an id whose object was deleted.
        damaged: Keys whose header cannot be read.
        closed: Nothing may be read or written any more.
    """

    def __init__(self, directory: Path, disk: Disk, fast: Sequence[FastTier]) -> None:
        """Take over the open parts and read the headers.

        Raises:
            CorruptStoreError: They cannot be read.
        """
        self.directory = directory
        self.lock = threading.RLock()
        self.disk = disk
        self.fast = {tier.tier: tier for tier in sorted(fast, key=lambda each: each.tier)}
        self.records: dict[str, Record] = {}
        self.live: dict[str, Part] = {}
        self.keys: list[str] = [""] * disk.next_id()
        self.damaged: dict[str, CorruptObjectError] = {}
        self.closed = False
        self._read_headers()

    def read(self, key: str) -> tuple[Record, Part]:
        """Where an object is, and the object; errors as `read_locked`."""
        record, payload = self.verified(key)
        part = record.part
        return record, decode_verified(record.header, payload, key) if part is None else part

    def verified(self, key: str) -> tuple[Record, bytes | memoryview]:
        """Where an object is and its verified bytes; errors as `read_locked`."""
        record = self.records.get(key)
        if record is not None:
            payload = self.disk.read(key) if record.tier is L3 else self.fast[record.tier].read(record)
            if payload is not None and record.header.matches(payload):
                return record, payload
        with self.lock:
            return self.read_locked(key)

    def read_locked(self, key: str) -> tuple[Record, bytes | memoryview]:
        """Where an object is and its verified bytes, when nothing changes underneath. Needs the lock.

        Raises:
            ObjectNotFoundError: There is none.
            CorruptObjectError: The durable bytes fail their checksum; a bad copy is dropped instead.
        """
        self.check_open()
        record = self.records.get(key)
        if record is None:
            raise self.absent(key)
        if record.tier != Tier.L3:
            payload = self.payload(record)
            if payload is not None and record.header.matches(payload):
                return record, payload
            logger.warning("the copy of %r in %s is gone or fails its checksum; reading L3", key, record.tier)
            self.lose_copy(record)
            record = self.records[key]
        payload = self.disk.read(key)
        if payload is None:
            raise CorruptObjectError(
                f"The object {key!r} has a header but no payload", key=key, remedy="Write it again."
            )
        verify(Encoded(record.header, payload), key)
        return record, payload

    def payload(self, record: Record) -> bytes | memoryview | None:
        """The bytes of an object as they are where the record says, unverified."""
        return self.disk.read(record.key) if record.tier is L3 else self.fast[record.tier].read(record)

    def lose_copy(self, record: Record) -> None:
        """A fast copy is bad: let the object fall back to L3. Needs the lock."""
        self.drop_copy(record.key)

    def drop_copy(self, key: str) -> None:
        """Let the object fall back to L3. Needs the lock."""
        record = self.records.get(key)
        if record is not None and record.tier != Tier.L3:
            self.flip(record, Record(key, record.id, record.header))

    def flip(self, old: Record, new: Record) -> None:
        """Read the object from another copy from now on, and free the old one. Needs the lock."""
        self.show(new)
        if old.tier != Tier.L3:
            self.fast[old.tier].release(old.key, old.header.length, old.slot)

    def show(self, record: Record) -> None:
        """Read the object by this record from now on, and free nothing. Needs the lock."""
        self.records[record.key] = record
        if record.tier is Tier.L1 and record.part is not None:
            self.live[record.key] = record.part
        else:
            self.live.pop(record.key, None)

    def check_open(self) -> None:
        """Raise StoreClosedError after `close` and in a forked child."""
        if self.closed:
            raise StoreClosedError(
                "The store is closed",
                path=str(self.directory),
                remedy="Open it again with open_store; a forked child needs a store of its own.",
            )

    def absent(self, key: str) -> StoreError:
        """The error of a read of what is not there, or whose header is damaged."""
        self.check_open()
        return self.damaged.get(key) or ObjectNotFoundError(
            f"There is no object {key!r}", key=key, path=str(self.directory), remedy="See entries() for what is there."
        )

    def _read_headers(self) -> None:
        left_over = []
        for key, raw in self.disk.headers():
            if key.startswith(RESERVED):
                left_over.append(key)
                continue
            try:
                header = Header.unpack(raw, key)
            except CorruptObjectError as error:
                logger.warning("%s", error)
                self.damaged[key] = error
                continue
            self.records[key] = Record(key, header.id, header)
            self.keys += [""] * (header.id + 1 - len(self.keys))
            self.keys[header.id] = key
        if left_over:
            self.disk.write([], left_over, len(self.keys))
