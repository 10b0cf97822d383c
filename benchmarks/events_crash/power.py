"""A power cut for SQLite files: what was never synced is gone.

A VFS laid over SQLite's own copies each file to a shadow right after it was synced; `cut_power` puts the shadows in the
place of the files. That is the worst that a power cut may leave, since a disk may well have kept more. The one liberty:
a copy is made a moment after the sync, so that it may hold a few writes of another process more.

Works where Python's `_sqlite3` is linked to a SQLite library whose symbols can be found; `available` says so.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import fcntl
import os
import shutil
from pathlib import Path

# The name as a bare address: SQLite goes on using the string after the call.
OPEN_SIGNATURE = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class _Vfs(ctypes.Structure):
    """sqlite3_vfs, up to the members that are used here."""


XOpen = ctypes.CFUNCTYPE(ctypes.c_int, *OPEN_SIGNATURE)
XSync = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_Vfs._fields_ = [
    ("iVersion", ctypes.c_int),
    ("szOsFile", ctypes.c_int),
    ("mxPathname", ctypes.c_int),
    ("pNext", ctypes.c_void_p),
    ("zName", ctypes.c_char_p),
    ("pAppData", ctypes.c_void_p),
    ("xOpen", XOpen),
]


class _Methods(ctypes.Structure):
    """sqlite3_io_methods: iVersion, xClose, xRead, xWrite, xTruncate, xSync and the rest. Only xSync is replaced."""

    _fields_ = (
        ("iVersion", ctypes.c_int),
        ("before", ctypes.c_void_p * 5),
        ("after", ctypes.c_void_p * 13),
    )


SYNC = 4
"""xSync among the pointers of `_Methods.before`."""
_alive: list[object] = []
"""What SQLite points to and Python must not free."""


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(_sqlite3.__file__)


def available() -> str:
    """Why power cannot be cut here; "" where it can."""
    if not hasattr(_sqlite3, "__file__"):
        return "SQLite is built into this Python, so that its VFS cannot be reached"
    try:
        _library().sqlite3_vfs_register  # noqa: B018  whether the symbol can be found
    except AttributeError:
        return "the symbols of the SQLite library cannot be found"
    return ""


def keep_what_is_synced(shadow: Path) -> None:
    """From now on, copy every SQLite file that this process syncs into `shadow`."""
    shadow.mkdir(parents=True, exist_ok=True)
    library = _library()
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    vfs = library.sqlite3_vfs_find(None)
    # By its address: the member itself changes below.
    open_before = XOpen(ctypes.cast(vfs.contents.xOpen, ctypes.c_void_p).value or 0)
    paths: dict[int, Path] = {}
    replaced: dict[int, _Methods] = {}

    def synced(file: int, flags: int) -> int:
        methods = originals[_pointer_at(file)]
        result = int(XSync(methods)(file, flags))
        if result == 0 and file in paths:
            _copy(paths[file], shadow)
        return result

    sync_here = XSync(synced)
    originals: dict[int, int] = {}

    def opened(this: int, name: int | None, file: int, flags: int, out: int) -> int:
        result = int(open_before(this, name, file, flags, out))
        if result == 0 and name:
            paths[file] = Path(os.fsdecode(ctypes.string_at(name)))
            methods = _pointer_at(file)
            if methods and methods not in originals:
                copy = replaced.get(methods) or _with_sync(methods, sync_here)
                replaced[methods] = copy
                address = ctypes.addressof(copy)
                originals[address] = _Methods.from_address(methods).before[SYNC]
                ctypes.c_void_p.from_address(file).value = address
        return result

    vfs.contents.xOpen = XOpen(opened)
    _alive.extend((library, vfs, vfs.contents.xOpen, open_before, sync_here, opened, replaced))


def _pointer_at(address: int) -> int:
    return ctypes.c_void_p.from_address(address).value or 0


def _with_sync(methods: int, sync: object) -> _Methods:
    copy = _Methods()
    ctypes.memmove(ctypes.addressof(copy), methods, ctypes.sizeof(_Methods))
    copy.before[SYNC] = ctypes.cast(sync, ctypes.c_void_p).value  # type: ignore[arg-type]
    return copy


def _copy(path: Path, shadow: Path) -> None:
    if not path.exists():
        return
    with (shadow / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        part = shadow / f"{path.name}.part"
        descriptor = _opened(path)
        part.write_bytes(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
        part.replace(shadow / path.name)


_descriptors: dict[tuple[int, int], int] = {}


def _opened(path: Path) -> int:
    """A descriptor that is never closed: closing one would drop SQLite's locks on the file, as POSIX has it."""
    found = path.stat()
    identity = found.st_dev, found.st_ino
    if identity not in _descriptors:
        _descriptors[identity] = os.open(path, os.O_RDONLY)
    return _descriptors[identity]


def cut_power(path: Path, shadow: Path) -> None:
    """Leave of a database and its write-ahead log what was synced, as if the power had gone; nobody may use it."""
    for name in (path.name, f"{path.name}-wal"):
        kept = shadow / name
        if kept.exists():
            shutil.copyfile(kept, path.with_name(name))
        else:
            path.with_name(name).unlink(missing_ok=True)
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
