"""How the C library hands out the large buffers that objects are read into.

Belongs here: two settings of glibc's allocator for a process that owns a store. Does not: budgets (`budgets`).

By default glibc maps a buffer from some size on, and gives its pages back when it is freed; from which size depends on
what was freed before. A read of a megabyte then costs as much again for fresh pages, or not, by chance. An owner takes
its buffers from the heap instead, and keeps a part of the heap that is free. See mallopt(3), malloc_trim(3).
"""

from __future__ import annotations

import ctypes
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""From malloc.h."""
MAPPED_FROM_BYTES = 32 << 20
"""The largest value that mallopt(3) documents."""
KEPT_BYTES = 256 << 20
"""Free bytes at the end of the heap that are kept; `give_back` returns them too."""


@cache
def _library() -> ctypes.CDLL | None:
    """The C library where it is glibc."""
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None


def keep_large_buffers() -> None:
    """Take buffers up to 32 MiB from the heap, in this process and from now on; nothing where there is no glibc."""
    library = _library()
    if library is not None:
        library.mallopt(M_MMAP_THRESHOLD, MAPPED_FROM_BYTES)
        library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def give_back() -> None:
    """Return free memory to the system."""
    library = _library()
    if library is not None:
        library.malloc_trim(ctypes.c_size_t(0))
