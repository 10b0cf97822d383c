"""What a database holds, every object of it read and verified.

Belongs here: reading a database that nobody writes, in memory that does not grow with it, and finding all that is
corrupt. Does not: the one that is in use (`local`), copies of it (`backup`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from aura.tiers.codec import Encoded, Header, verify
from aura.tiers.disk import Disk
from aura.tiers.errors import CorruptObjectError, CorruptStoreError, StoreError
from aura.tiers.keys import RESERVED

_SHOWN = 5
_TOLD_EVERY = 256

Tell = Callable[[str, float], None]
"""Is told what is done and which part of it, from 0 to 1, is over."""


def silent(_said: str, _part: float) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Corrupt:
    """One object that cannot be read.

    Attributes:
        key: Its key.
        reason: What is wrong with it, and the remedy.
    """

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Contents:
    """The objects of a database.

    Attributes:
        objects: Objects that are as they were written.
        bytes: Their payload bytes.
        digest: BLAKE2b-128 over their keys and headers in order of the key; a header holds the payload's checksum.
        corrupt: All others. Small objects share blocks of a file: of a damaged block, which no compaction takes any
            more, all are named.
    """

    objects: int
    bytes: int
    digest: str
    corrupt: tuple[Corrupt, ...]


def read_contents(database: Path, tell: Tell = silent) -> Contents:
    """Read and verify every object, and the access log.

    Raises:
        CorruptStoreError: The database as a whole cannot be read.
        StorageError: The operating system refused.
    """
    digest = blake2b(digest_size=16)
    objects = size = 0
    corrupt = []
    disk = Disk(database, read_only=True)
    try:
        there = 0 if tell is silent else sum(1 for _ in disk.headers())
        for number, (key, raw) in enumerate(disk.headers()):
            if there and number % _TOLD_EVERY == 0:
                tell(f"Verifying {there:,} objects ...", number / there)
            if key.startswith(RESERVED):
                continue
            try:
                header = Header.unpack(raw, key)
                _verify_payload(header, disk.read(key), key)
            except CorruptObjectError as error:
                corrupt.append(Corrupt(key, str(error)))
                continue
            name = key.encode()
            digest.update(len(name).to_bytes(4, "little") + name + raw)
            objects += 1
            size += header.length
        disk.batches()
    finally:
        disk.close()
    return Contents(objects, size, digest.hexdigest(), tuple(corrupt))


def read_whole(database: Path, *, what: str, remedy: str, tell: Tell = silent) -> Contents:
    """`read_contents` where nothing may be corrupt.

    Args:
        database: Its directory.
        what: What fails otherwise, for the error.
        remedy: What can be done about it.
        tell: Is told how far it has come.

    Raises:
        CorruptStoreError: Also when any object is corrupt.
    """
    contents = read_contents(database, tell)
    if contents.corrupt:
        keys = ", ".join(repr(each.key) for each in contents.corrupt[:_SHOWN])
        more = len(contents.corrupt) - _SHOWN
        cause = f"corrupt are {keys}" + (f" and {more} more" if more > 0 else "")
        raise CorruptStoreError(what, path=str(database), cause=cause, remedy=remedy)
    return contents


def holds_objects(database: Path) -> bool:
    """Whether there is anything to lose in this directory; what cannot be read counts."""
    if not database.exists():
        return False
    try:
        disk = Disk(database, read_only=True)
    except StoreError:
        return True
    try:
        return any(True for _ in disk.headers())
    except StoreError:
        return True
    finally:
        disk.close()


def _verify_payload(header: Header, payload: bytes | None, key: str) -> None:
    if payload is None:
        raise CorruptObjectError(
            f"The object {key!r} has a header but no payload", key=key, remedy="Write it again or restore the store."
        )
    verify(Encoded(header, payload), key)
