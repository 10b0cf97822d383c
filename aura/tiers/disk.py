"""L3: RocksDB, which holds the durable copy of every object, its header, and the access log.

Belongs here: the database's layout, its options, and the translation of its errors.
Does not: ids, tiers, or what is in memory.

Column families: "default" key -> payload, "headers" key -> 32-byte header (an index that is read on open without
touching a payload), "system" the next id and the batches of the access log. A batch over all of them is atomic, since
they share one write-ahead log.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import rocksdict

from aura.tiers.access_log import Batch
from aura.tiers.codec import Encoded
from aura.tiers.errors import (
    CorruptObjectError,
    CorruptStoreError,
    StorageError,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
)
from aura.tiers.log_files import check_log_files

CONFIGURATION = "rocksdict-config.json"
"""File in which rocksdict keeps how it encodes keys. It is made anew where it is missing; here it says raw bytes."""

_NEXT_ID = b"next-id"
_ACCESS = b"access/"
_WAL_BYTES = 256 << 20
FILTER_BITS = 10
"""Bits for each key in the filter of a file: one in a hundred keys that it lacks is looked for in vain."""
_BUFFER_BYTES = 64 << 20
"""RocksDB's default. After a full disk it writes again once this much is free; it looks every five seconds."""
_FULL = ("No space left", "File too large", "quota", "Quota", "Writer has previous error")
_DAMAGE = ("Corruption", "Not implemented")
"""How RocksDB's errors begin where bytes are not what they were; the second is a block of an unknown compression."""
_REWRITE = "Write it again (materialize its asset) or restore a backup (`aura tiers restore`)."
_RESTORE = "Restore a backup (`aura tiers restore`), or remove the directory and materialize the assets again."


class Disk:
    """One open database. RocksDB locks for itself; close it only when no other thread uses it."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open, or create.

        Args:
            path: Directory of the database.
            read_only: Nothing is made or changed, also on a file system that cannot be written; nobody may use it.

        Raises:
            StorageError: The operating system refused.
            CorruptStoreError: The database is damaged.
            StoreUnavailableError: Another program has it open.
        """
        self.path = path
        self._closed = False
        self._synced = rocksdict.WriteOptions()
        self._synced.sync = True
        options = _options(create=not read_only)
        families = {"headers": options, "system": options}
        access = rocksdict.AccessType.read_only() if read_only else rocksdict.AccessType.read_write()
        self._links = tempfile.TemporaryDirectory(prefix="aura-read-only-") if read_only else None
        with self._translated("Cannot open the database"):
            check_log_files(path, _RESTORE)
            if self._links is None:
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
                place = str(path)
            else:
                place = self._links.name
                _link(path, Path(place))
            self._payloads = rocksdict.Rdict(place, options, column_families=families, access_type=access)
            self._read_payload = self._payloads.get
            self._headers = self._payloads.get_column_family("headers")
            self._system = self._payloads.get_column_family("system")
            self._to_headers = self._payloads.get_column_family_handle("headers")
            self._to_system = self._payloads.get_column_family_handle("system")

    def headers(self) -> Iterator[tuple[str, bytes]]:
        """Every key with its raw header, in byte order of the key."""
        for key, raw in self._scan(self._headers, b""):
            yield key.decode(), raw

    def next_id(self) -> int:
        """The id that the next new object gets."""
        with self._translated("Cannot read the database"):
            raw = self._system.get(_NEXT_ID)
        return 0 if raw is None else int.from_bytes(raw, "little")

    def read(self, key: str) -> bytes | None:
        """The payload. RocksDB verifies its block, the reader the object.

        RocksDB would read faster without, but then a flipped bit in a block that is not the object's, such as an index,
        can end the process.

        Raises:
            CorruptObjectError: RocksDB's checksum fails.
        """
        try:
            payload: bytes | None = self._read_payload(key.encode())
        except Exception as error:
            self._raise_known(error, "Cannot read", key)
            raise
        return payload

    def write(self, puts: Iterable[tuple[str, Encoded]], deletes: Iterable[str], next_id: int) -> None:
        """One atomic batch, on disk when this returns.

        Raises:
            StorageError: The disk refused; nothing was written.
        """
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, encoded in puts:
            batch.put(key.encode(), bytes(encoded.payload))
            batch.put(key.encode(), encoded.header.pack(), self._to_headers)
        for key in deletes:
            batch.delete(key.encode())
            batch.delete(key.encode(), self._to_headers)
        batch.put(_NEXT_ID, next_id.to_bytes(8, "little"), self._to_system)
        with self._translated("Cannot write"):
            self._payloads.write(batch, self._synced)

    def batches(self) -> list[Batch]:
        """The batches of the access log."""
        kept = self._scan(self._system, _ACCESS)
        return [Batch(int(key[len(_ACCESS) :]), np.frombuffer(raw, dtype="<i4")) for key, raw in kept]

    def keep(self, added: Batch, dropped: Iterable[int]) -> None:
        """Write one batch of the access log and drop others; survives a killed process, not a power cut."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        with self._translated("Cannot write the access log"):
            for number in dropped:
                batch.delete(_batch_key(number), self._to_system)
            batch.put(_batch_key(added.number), added.ids.astype("<i4").tobytes(), self._to_system)
            self._payloads.write(batch)

    def flush(self) -> None:
        """Write what is buffered in memory, and durable in the write-ahead log, to files of its own."""
        with self._translated("Cannot write"):
            for family in (self._payloads, self._headers, self._system):
                family.flush()

    def checkpoint(self, target: Path) -> None:
        """Make a consistent copy of the database in the new directory `target`; files are hard links where possible."""
        with self._translated(f"Cannot make a checkpoint in {target}"):
            rocksdict.Checkpoint(self._payloads).create_checkpoint(str(target))

    def close(self) -> None:
        """Close; RocksDB keeps its lock until every handle is gone, so a full disk stops none of them."""
        self._closed = True
        del self._to_headers, self._to_system
        with self._translated("Cannot close the database"), ExitStack() as handles:
            for handle in (self._payloads, self._system, self._headers):
                handles.callback(handle.close)
        if self._links is not None:
            self._links.cleanup()

    def handles(self) -> tuple[object, ...]:
        """The native handles, for a forked child that must never run their destructors."""
        return self._payloads, self._headers, self._system, self._to_headers, self._to_system

    def _scan(self, family: rocksdict.Rdict, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All pairs under a prefix. The status is asked at the end: the iterator just stops at a corrupt block."""
        with self._translated("Cannot read the database"):
            cursor = family.iter()
            cursor.seek(prefix)
            while cursor.valid() and cursor.key().startswith(prefix):
                yield cursor.key(), cursor.value()
                cursor.next()
            cursor.status()

    @contextmanager
    def _translated(self, what: str, key: str = "") -> Iterator[None]:
        """Turn the database's errors into ours."""
        try:
            yield
        except Exception as error:
            self._raise_known(error, what, key)
            raise

    def _raise_known(self, error: Exception, what: str, key: str) -> None:
        """Raise the store's error for one of the database; nothing for any other."""
        # Closing takes the handles of the families away from who is in the middle of a write.
        if isinstance(error, rocksdict.DbClosedError) or (self._closed and isinstance(error, AttributeError)):
            raise StoreClosedError(what, path=str(self.path), cause="the store is closed") from error
        if isinstance(error, OSError):
            raise _refused(what, str(self.path), str(error)) from error
        if type(error) is Exception:  # rocksdict raises it bare
            raise self._error(what, key, str(error)) from error

    def _error(self, what: str, key: str, cause: str) -> StoreError:
        path = str(self.path)
        if "lock hold by" in cause or "While lock file" in cause:
            return StoreUnavailableError(what, path=path, cause=cause, remedy="Stop the program that has it open.")
        if cause.startswith(_DAMAGE) and key:
            return CorruptObjectError(
                f"The object {key!r} is corrupt", key=key, path=path, cause=cause, remedy=_REWRITE
            )
        if cause.startswith((*_DAMAGE, "Invalid argument")):
            return CorruptStoreError(what, path=path, cause=cause, remedy=_RESTORE)
        return _refused(what, path, cause)


def _refused(what: str, path: str, cause: str) -> StorageError:
    remedy = "See that the directory exists and that this user may write to it."
    if any(words in cause for words in _FULL):
        remedy = f"Free space on the disk, {_BUFFER_BYTES >> 20} MiB at least; then the store goes on by itself."
    return StorageError(what, path=path, cause=cause, remedy=remedy)


def _link(database: Path, place: Path) -> None:
    """Make links to the files of a database, since rocksdict writes its configuration wherever it opens one."""
    for file in database.iterdir():
        if file.name != CONFIGURATION:
            (place / file.name).symlink_to(file.absolute())


def _options(*, create: bool) -> rocksdict.Options:
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(create)
    options.create_missing_column_families(create)
    # Weights and vectors compress by 1.06-1.18 and cost 100-840 us/MB to decode.
    options.set_compression_type(rocksdict.DBCompressionType.none())
    # Without a filter, looking a key up in a newer file that lacks it reads the block where it would be: a large value.
    table = rocksdict.BlockBasedOptions()
    table.set_bloom_filter(FILTER_BITS, False)  # noqa: FBT003
    options.set_block_based_table_factory(table)
    options.set_max_total_wal_size(_WAL_BYTES)
    options.set_write_buffer_size(_BUFFER_BYTES)
    options.set_keep_log_file_num(2)
    # The default drops everything after a damaged record in silence; this one accepts only a torn end.
    options.set_wal_recovery_mode(rocksdict.DBRecoveryMode.tolerate_corrupted_tail_records())
    return options


def _batch_key(number: int) -> bytes:
    return _ACCESS + b"%020d" % number
