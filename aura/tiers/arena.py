"""Slabs: one large piece of memory cut into slots. The shared arena of L2, and the allocator that L0 uses as well.

Belongs here: the first-fit allocator, the file in shared memory that owner and clients map.
Does not: which objects are in it; that is the owner's index. The arena holds payloads only, and a reader verifies what
it copied against the header that the owner gave it, so a slot that was reused meanwhile is noticed.
"""

from __future__ import annotations

import mmap
import os
import secrets
import weakref
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aura.tiers.errors import CapacityError, StorageError
from aura.tiers.numa import MemoryNode, bind, memory_only_nodes

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the kernel's shared memory, files in it are made with mode 0600
ALIGNMENT = 64
"""Bytes; a cache line, and what Arrow recommends for its buffers."""


class Allocator:
    """First fit over a sorted list of free ranges, neighbours merged on release. Not thread-safe: the owner locks."""

    def __init__(self, capacity_bytes: int) -> None:
        self.used_bytes = 0
        self._starts = [0]
        self._sizes = [capacity_bytes]

    def allocate(self, length: int) -> int | None:
        """The offset of a free slot of `length` bytes, or None when there is none."""
        size = rounded(length)
        for index, free in enumerate(self._sizes):
            if free >= size:
                start = self._starts[index]
                self._shrink(index, size)
                self.used_bytes += size
                return start
        return None

    def fits(self, length: int) -> bool:
        """Whether there is a free slot of `length` bytes."""
        size = rounded(length)
        return any(free >= size for free in self._sizes)

    def release(self, start: int, length: int) -> None:
        """Free the slot that `allocate(length)` gave."""
        size = rounded(length)
        self.used_bytes -= size
        index = bisect_left(self._starts, start)
        if index < len(self._starts) and start + size == self._starts[index]:
            size += self._sizes.pop(index)
            self._starts.pop(index)
        if index > 0 and self._starts[index - 1] + self._sizes[index - 1] == start:
            self._sizes[index - 1] += size
        else:
            self._starts.insert(index, start)
            self._sizes.insert(index, size)

    def _shrink(self, index: int, size: int) -> None:
        if self._sizes[index] == size:
            del self._starts[index], self._sizes[index]
        else:
            self._starts[index] += size
            self._sizes[index] -= size


def rounded(length: int) -> int:
    """Bytes that a slot of `length` takes; an empty object takes one unit, so that its offset is its own."""
    return max(ALIGNMENT, -(-length // ALIGNMENT) * ALIGNMENT)


class Arena:
    """The owner's side of the shared memory file."""

    def __init__(self, path: Path, capacity_bytes: int, nodes: Sequence[MemoryNode] = ()) -> None:
        """Make and map the file, all of its memory taken now, so that no later write can meet a full file system.

        Args:
            path: The file; none may be there.
            capacity_bytes: Its size.
            nodes: NUMA nodes that its memory comes from where that works, see `aura.tiers.numa.bind`; none: any.

        Raises:
            CapacityError: The file system has less room than that.
            StorageError: The file cannot be made.
        """
        self.path = path
        self.capacity_bytes = capacity_bytes
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError("Cannot make the shared arena", path=str(path), cause=str(error)) from error
        try:
            os.ftruncate(handle, capacity_bytes)
            self._map = mmap.mmap(handle, capacity_bytes)
            bind(self._map, nodes)
            os.posix_fallocate(handle, 0, capacity_bytes)
            self._bytes = np.frombuffer(self._map, dtype=np.uint8)
            self._unviewed: deque[int] = deque()
        except OSError as error:
            path.unlink(missing_ok=True)
            raise _too_large(capacity_bytes, str(path), str(error)) from error
        finally:
            os.close(handle)

    def write(self, offset: int, payload: bytes | memoryview) -> None:
        """Copy the payload in. A large copy runs beside other threads: numpy lets go of the interpreter for it."""
        self._bytes[offset : offset + len(payload)] = np.frombuffer(payload, dtype=np.uint8)

    def peek(self, offset: int, length: int) -> memoryview:
        """The bytes themselves, for a look that ends before the slot is released."""
        data: Any = self._bytes[offset : offset + length]
        return memoryview(data)

    def view(self, offset: int, length: int) -> memoryview:
        """The bytes themselves, read-only; `unviewed` tells when nothing refers to them any more."""
        base: Any = np.frombuffer(self._map, dtype=np.uint8, count=max(1, length), offset=offset)
        weakref.finalize(base, self._unviewed.append, offset).atexit = False
        return memoryview(base)[:length].toreadonly()

    def unviewed(self) -> list[int]:
        """Offsets whose view ended since the last call."""
        return [self._unviewed.popleft() for _ in range(len(self._unviewed))]

    def close(self) -> None:
        """Remove the file and unmap; who still views or maps it keeps the pages until they are done."""
        self.path.unlink(missing_ok=True)
        del self._bytes
        with suppress(BufferError):  # somebody holds a view: the last one unmaps
            self._map.close()


class ArenaView:
    """A client's side: the owner's file, read-only."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def read(self, offset: int, length: int) -> bytes:
        """Copy `length` bytes out; they may be another object's by now, so verify them."""
        return self._map[offset : offset + length]

    def view(self, offset: int, length: int) -> NDArray[np.uint8]:
        """The bytes themselves, uint8[length], read-only; they stay those of the object as long as a lease lasts."""
        return np.frombuffer(self._map, dtype=np.uint8, count=length, offset=offset)


def open_arena(store_name: str, fallback: Path, capacity_bytes: int) -> Arena:
    """Make the arena in shared memory, or in the store's directory where shared memory is absent or too small.

    Only the owner of a store calls this. Arenas that an earlier owner left behind when it was killed are removed first.

    Args:
        store_name: Hash of the store's directory; names the file.
        fallback: The store's directory.
        capacity_bytes: Size of the arena.

    Raises:
        CapacityError: Neither place has that much room.
    """
    _remove_left_over(store_name, (SHARED_MEMORY, fallback))
    rooms = {place: _free_bytes(place) for place in (SHARED_MEMORY, fallback)}
    for place, free in rooms.items():
        if free >= capacity_bytes:
            nodes = memory_only_nodes() if place == SHARED_MEMORY else ()
            return Arena(place / f"aura-{store_name}-{secrets.token_hex(4)}.arena", capacity_bytes, nodes)
    cause = ", ".join(f"{place} has {free} bytes free" for place, free in rooms.items())
    raise _too_large(capacity_bytes, str(SHARED_MEMORY), cause)


def _remove_left_over(store_name: str, places: tuple[Path, ...]) -> None:
    for place in places:
        for path in place.glob(f"aura-{store_name}-*.arena"):
            path.unlink(missing_ok=True)


def _free_bytes(place: Path) -> int:
    if not os.access(place, os.W_OK):
        return 0
    room = os.statvfs(place)
    return room.f_bavail * room.f_frsize


def _too_large(capacity_bytes: int, path: str, cause: str) -> CapacityError:
    return CapacityError(
        f"There is no room for a shared arena of {capacity_bytes} bytes",
        path=path,
        cause=cause,
        remedy="Lower arena_bytes (0 leaves L2 out) or make /dev/shm larger (docker run --shm-size).",
    )
