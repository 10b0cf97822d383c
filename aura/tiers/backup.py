"""Backups of a store: make, verify, restore; and verification of the store itself.

Belongs here: what a backup is and how it replaces a store. Does not: reading what is in one (`contents`), the commands
(`cli`).

A backup is a directory with the database and a manifest. It shares no file with the store: the owner makes a checkpoint
of hard links, which costs it no time, and the files are copied from there, to any file system. Every object of the copy
is read and verified before the manifest is written, everything is synced, and only then the directory gets its name.

A restore exchanges the database's directory with a verified copy in one step of the file system (renameat2(2),
RENAME_EXCHANGE) while it holds the owner's lock, so that whoever is killed leaves the old database or the new one.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from aura.tiers.contents import Contents, Tell, holds_objects, read_contents, read_whole, silent
from aura.tiers.disk import CONFIGURATION
from aura.tiers.errors import CorruptStoreError, StorageError, StoreError, StoreUnavailableError
from aura.tiers.local import DATABASE
from aura.tiers.owner import LOCK_FILE
from aura.tiers.store import TieredStore

MANIFEST = "backup.json"
FORMAT = 1

CHECKPOINT = "checkpoint"
"""Name of the checkpoint in the store's directory that is copied or verified; a killed process may leave it."""
CHECKPOINT_LOCK = "checkpoint.lock"
ASIDE = f"{DATABASE}.aside-"
"""How the name of the directory begins that a restore exchanges with the database; a killed one may leave it."""

_COPY_BYTES = 8 << 20
# linux/fcntl.h and linux/fs.h
_AT_FDCWD = -100
_RENAME_EXCHANGE = 1 << 1

_ROOM = "See that there is room and that this user may write there."
_OTHER_BACKUP = "Restore another backup, or make a new one."


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup held when it was made.

    Attributes:
        format: Version of the layout of backups.
        created_at: ISO 8601 in UTC.
        objects: Number of objects.
        bytes: Their payload bytes.
        digest: As in `aura.tiers.contents.Contents`.
    """

    format: int
    created_at: str
    objects: int
    bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What a backup or a restore did.

    Attributes:
        path: Where the copy is.
        manifest: What is in it.
        file_bytes: Bytes of the files that were copied.
        seconds: Wall seconds, verification included.
    """

    path: Path
    manifest: Manifest
    file_bytes: int
    seconds: float


def back_up(store: TieredStore, target: Path, *, now: Callable[[], datetime] = _now, tell: Tell = silent) -> CopyReport:
    """Copy the durable state of an open store into the new directory `target`, on any file system, and verify the copy.

    The store stays in use; what is written after the checkpoint is not in the backup.

    Raises:
        StoreError: The target exists.
        CorruptStoreError: An object fails its checksum; there is no backup then.
        StorageError: The disk refused; there is no backup then.
        StoreUnavailableError: Another backup or verification of this store is under way.
    """
    start = time.monotonic()
    target = Path(target).absolute()
    if target.exists():
        raise StoreError(f"Cannot back up to {target}", cause="it exists", remedy="Name a directory that does not.")
    partial = target.with_name(f"{target.name}.partial")
    with _checkpoint(store) as database, _translated("Cannot back up", target), _removed_on_failure(partial):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700, parents=True)
        file_bytes = _copy(database, partial / DATABASE, tell)
        remedy = "Write them again (materialize their assets), or delete them."
        contents = read_whole(partial / DATABASE, what="The store cannot be backed up", remedy=remedy, tell=tell)
        manifest = Manifest(FORMAT, now().isoformat(), contents.objects, contents.bytes, contents.digest)
        _write(partial / MANIFEST, manifest)
        _sync(partial)
        partial.rename(target)
        _sync(target.parent)
    return CopyReport(target, manifest, file_bytes, time.monotonic() - start)


def restore(
    backup: Path,
    directory: Path,
    *,
    replace: bool = False,
    now: Callable[[], datetime] = _now,
    tell: Tell = silent,
) -> CopyReport:
    """Put the copy of a backup in the place of a store's database; the store has no owner meanwhile.

    Args:
        backup: What `back_up` made.
        directory: The store's directory; made when it does not exist.
        replace: Also when the store holds objects. They are gone when this returns.
        now: The time, for the name under which the old database is kept until the new one is in its place.
        tell: Is told how far it has come.

    Raises:
        StoreError: The store holds objects and `replace` is not given, or `backup` is none.
        CorruptStoreError: The backup, or the copy of it, is not what the manifest says. The store is as before.
        StoreUnavailableError: The store has an owner.
        StorageError: The disk refused. The store is as before.
    """
    start = time.monotonic()
    backup, directory = Path(backup).absolute(), Path(directory).absolute()
    manifest = _verified(backup, backup / DATABASE, tell)
    database = directory / DATABASE
    with _translated("Cannot restore the store", directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(directory / LOCK_FILE, "The store has an owner", "End it (`aura tiers serve`, `make up`) first."):
            for left in directory.glob(f"{ASIDE}*"):
                shutil.rmtree(left)
            if not replace and holds_objects(database):
                raise StoreError(
                    "The store is not empty",
                    path=str(directory),
                    remedy="Give --replace to put the backup in its place; what the store holds is gone then.",
                )
            aside = directory / f"{ASIDE}{now():%Y%m%dT%H%M%SZ}"
            with _removed_on_failure(aside):
                file_bytes = _copy(backup / DATABASE, aside, tell)
                _verified(backup, aside, tell)
                _sync(directory)
                if database.exists():
                    _exchange(aside, database)
                else:
                    aside.rename(database)
                _sync(directory)
            if aside.exists():
                shutil.rmtree(aside)
    return CopyReport(directory, manifest, file_bytes, time.monotonic() - start)


def verify_store(store: TieredStore, tell: Tell = silent) -> Contents:
    """Read every durable object of an open store and verify it, from a checkpoint, so that the store stays in use.

    The memory it takes does not grow with the objects, only with the number of those that are corrupt.

    Raises:
        CorruptStoreError: The database as a whole cannot be read.
        StorageError: The disk refused: a checkpoint takes some room.
        StoreUnavailableError: Another backup or verification of this store is under way.
    """
    with _checkpoint(store) as database:
        return read_contents(database, tell)


def verify_backup(backup: Path, tell: Tell = silent) -> Contents:
    """Read every object of a backup and compare all of them with the manifest; nothing is written.

    Raises:
        StoreError: There is no backup in that directory.
        CorruptStoreError: The database cannot be read, or holds something else than the manifest says.
        StorageError: The disk refused.
    """
    backup = Path(backup).absolute()
    manifest = _read_manifest(backup)
    contents = read_contents(backup / DATABASE, tell)
    if not contents.corrupt:
        _compare(contents, manifest, backup, backup / DATABASE)
    return contents


def _verified(backup: Path, database: Path, tell: Tell) -> Manifest:
    """The manifest of a backup, after comparing it with a database: the backup's own, or a copy."""
    manifest = _read_manifest(backup)
    contents = read_whole(database, what="The backup cannot be restored", remedy=_OTHER_BACKUP, tell=tell)
    _compare(contents, manifest, backup, database)
    return manifest


def _compare(contents: Contents, manifest: Manifest, backup: Path, database: Path) -> None:
    found = (contents.objects, contents.bytes, contents.digest)
    expected = (manifest.objects, manifest.bytes, manifest.digest)
    if found != expected:
        cause = "it holds {} objects, {} bytes, digest {}".format(*found)
        cause += "; expected {} objects, {} bytes, digest {}".format(*expected)
        what = f"{database} is not what the manifest of the backup says"
        raise CorruptStoreError(what, path=str(backup), cause=cause, remedy=_OTHER_BACKUP)


def _read_manifest(backup: Path) -> Manifest:
    path = backup / MANIFEST
    what, remedy = f"{backup} is no backup", "Name a directory that `aura tiers backup` made."
    try:
        manifest = Manifest(**json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(what, cause=f"it has no {MANIFEST}", remedy=remedy) from error
    except (ValueError, TypeError) as error:
        raise CorruptStoreError(f"{path} cannot be read", cause=str(error), remedy=_OTHER_BACKUP) from error
    except OSError as error:
        raise StorageError(f"{path} cannot be read", cause=str(error), remedy=remedy) from error
    if manifest.format != FORMAT:
        cause = f"its format is {manifest.format}, expected {FORMAT}"
        raise StoreError(f"{backup} cannot be read", cause=cause, remedy="Use the version of aura that made it.")
    return manifest


@contextmanager
def _checkpoint(store: TieredStore) -> Iterator[Path]:
    """The database of a checkpoint in the store's directory, which is gone afterwards."""
    busy = "Another backup or verification of the store is under way"
    checkpoint = store.directory / CHECKPOINT
    with _locked(store.directory / CHECKPOINT_LOCK, busy, "Wait until it is done."):
        shutil.rmtree(checkpoint, ignore_errors=True)
        store.checkpoint(checkpoint)
        try:
            yield checkpoint / DATABASE
        finally:
            shutil.rmtree(checkpoint, ignore_errors=True)


@contextmanager
def _locked(path: Path, busy: str, remedy: str) -> Iterator[None]:
    """Hold a lock file, which the system releases when this process dies."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError("Cannot lock the store", path=str(path), cause=str(error), remedy=_ROOM) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreUnavailableError(busy, path=str(path.parent), remedy=remedy) from error
        yield
    finally:
        os.close(handle)


@contextmanager
def _translated(what: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(what, path=str(path), cause=str(error), remedy=_ROOM) from error


@contextmanager
def _removed_on_failure(directory: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _copy(source: Path, target: Path, tell: Tell) -> int:
    """Copy the files of a database, on disk when this returns; the number of bytes.

    The copies leave the page cache, so that reading them shows what the disk has. What is left out is made anew.
    """
    target.mkdir(mode=0o700)
    total = 0
    files = sorted(file for file in source.iterdir() if file.name != CONFIGURATION)
    there = sum(file.stat().st_size for file in files)
    for file in files:
        tell(f"Copying {there / 2**20:,.1f} MiB ...", total / there if there else 0.0)
        with file.open("rb") as reading, (target / file.name).open("xb") as writing:
            shutil.copyfileobj(reading, writing, _COPY_BYTES)
            writing.flush()
            os.fsync(writing.fileno())
            total += writing.tell()
            with suppress(OSError):  # advice only
                os.posix_fadvise(writing.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    _sync(target)
    return total


def _write(path: Path, manifest: Manifest) -> None:
    with path.open("x") as file:
        json.dump(asdict(manifest), file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    """Let the names in a directory be on disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(one: Path, other: Path) -> None:
    """Exchange two directories in one step: at no moment is either name missing."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), ctypes.c_uint(_RENAME_EXCHANGE)) == 0:
        return
    number = ctypes.get_errno()
    remedy = _ROOM
    if number in (errno.EINVAL, errno.ENOSYS):
        remedy = f"This file system cannot exchange directories: move {other} away yourself and restore again."
    raise StorageError("Cannot replace the database", path=str(other), cause=os.strerror(number), remedy=remedy)
