"""Memory without processors, and binding the arena to it.

Belongs here: finding the NUMA nodes that have memory and no CPUs, which is how Linux shows a CXL memory expander that
is system RAM (and memory in the package of some processors and GPUs); mbind(2) and get_mempolicy(2).
Does not: the arena itself (`arena`).

A policy that mbind sets on a shared mapping of tmpfs belongs to the file: it holds for every process that maps it, and
for fallocate, as long as it is set before the pages are taken (Documentation/admin-guide/mm/numa_memory_policy.rst,
"Shared Policy"). The kernel disregards it for files of a disk, whose pages are its page cache.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import mmap
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)

NODES = Path("/sys/devices/system/node")
"""Where the kernel lists its nodes (Documentation/ABI/stable/sysfs-devices-node)."""

# linux/mempolicy.h
_MPOL_BIND = 2
_MPOL_F_ADDR = 1 << 1

_MAX_NODES = 1024
"""Bits of a node mask: the largest MAX_NUMNODES that a kernel is built with (CONFIG_NODES_SHIFT is at most 10)."""
_WORD_BITS = 8 * ctypes.sizeof(ctypes.c_ulong)
_NodeMask = ctypes.c_ulong * (_MAX_NODES // _WORD_BITS)

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class _Calls:
    """Numbers of the system calls: asm/unistd_64.h on x86_64, asm-generic/unistd.h on aarch64."""

    mbind: int
    get_mempolicy: int


_CALLS = {"x86_64": _Calls(mbind=237, get_mempolicy=239), "aarch64": _Calls(mbind=235, get_mempolicy=236)}


@dataclass(frozen=True, slots=True)
class MemoryNode:
    """One NUMA node.

    Attributes:
        number: The kernel's number of it.
        free_bytes: Its memory that nothing uses.
    """

    number: int
    free_bytes: int


def memory_only_nodes(root: Path = NODES) -> tuple[MemoryNode, ...]:
    """The nodes that have memory and no CPUs, in order of their number; none where the kernel shows no nodes.

    Args:
        root: Directory with one directory `node<number>` per node.
    """
    found = []
    for directory in root.glob("node*"):
        number = re.fullmatch(r"node(\d+)", directory.name)
        if number is None:
            continue
        try:
            cpus = (directory / "cpulist").read_text().strip()
            sizes = dict(re.findall(r"(MemTotal|MemFree):\s+(\d+) kB", (directory / "meminfo").read_text()))
        except OSError as error:  # a node may go offline while its files are read
            logger.debug("%s is left out: %s", directory, error)
            continue
        if not cpus and int(sizes.get("MemTotal", 0)):
            found.append(MemoryNode(int(number[1]), 1024 * int(sizes.get("MemFree", 0))))
    return tuple(sorted(found, key=lambda node: node.number))


def bind(mapping: mmap.mmap, nodes: Sequence[MemoryNode]) -> bool:
    """Let the pages of a shared mapping of tmpfs, of which none is taken yet, come from these nodes only.

    Without nodes nothing happens. When they have too little memory, or the kernel refuses, nothing is bound and a
    warning says why: the arena is then in memory like any other. Binding to nodes that are too small would end in the
    kernel killing a process for memory.

    Returns:
        Whether it is bound.
    """
    if not nodes:
        return False
    names = _names([node.number for node in nodes])
    free = sum(node.free_bytes for node in nodes)
    if free < len(mapping):
        logger.warning(
            "The shared arena of %d MiB is not bound to %s, which has %d MiB free: lower tiers.arena_bytes to use it",
            len(mapping) // _MIB,
            names,
            free // _MIB,
        )
        return False
    error = _mbind(mapping, [node.number for node in nodes])
    if error:
        logger.warning(
            "The shared arena is not bound to %s: %s. See that the kernel has NUMA and that this process may use"
            " the node (Mems_allowed_list in /proc/self/status; the container's cpuset)",
            names,
            os.strerror(error),
        )
        return False
    return True


def bound_nodes(mapping: mmap.mmap) -> tuple[int, ...]:
    """The nodes that the kernel binds a mapping to, whoever bound it; empty when it is not bound."""
    calls = _CALLS.get(platform.machine())
    if calls is None:
        return ()
    mode, mask = ctypes.c_int(), _NodeMask()
    failed = _syscall(
        calls.get_mempolicy,
        ctypes.byref(mode),
        mask,
        ctypes.c_ulong(_MAX_NODES + 1),
        ctypes.c_void_p(_address(mapping)),
        ctypes.c_ulong(_MPOL_F_ADDR),
    )
    if failed or mode.value != _MPOL_BIND:
        return ()
    return tuple(node for node in range(_MAX_NODES) if mask[node // _WORD_BITS] >> node % _WORD_BITS & 1)


def memory_of(arena: Path, root: Path = NODES) -> str:
    """What the memory of an arena is, in words, as the kernel says it: the policy belongs to the file."""
    try:
        with arena.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
            bound = bound_nodes(mapping)
    except (OSError, ValueError) as error:  # gone, or empty
        logger.debug("the arena %s cannot be asked for its nodes: %s", arena, error)
        return "shared memory"
    if not bound:
        return "shared memory"
    without_cpus = set(bound) <= {node.number for node in memory_only_nodes(root)}
    return f"shared memory, {_names(bound)}" + (" (no CPUs: CXL or other expander)" if without_cpus else "")


def _names(nodes: Sequence[int]) -> str:
    return f"NUMA node{'s' if len(nodes) > 1 else ''} {', '.join(map(str, nodes))}"


def _mbind(mapping: mmap.mmap, nodes: Sequence[int]) -> int:
    """Bind; the error's number, or 0."""
    calls = _CALLS.get(platform.machine())
    if calls is None:
        return errno.ENOSYS
    mask = _NodeMask()
    for node in nodes:
        mask[node // _WORD_BITS] |= 1 << node % _WORD_BITS
    return _syscall(
        calls.mbind,
        ctypes.c_void_p(_address(mapping)),
        ctypes.c_ulong(len(mapping)),
        ctypes.c_int(_MPOL_BIND),
        mask,
        # The kernel takes one off: the man page's "maxnode" counts from one.
        ctypes.c_ulong(_MAX_NODES + 1),
        ctypes.c_uint(0),
    )


def _address(mapping: mmap.mmap) -> int:
    """Where a mapping begins; valid as long as it is open."""
    return int(np.frombuffer(mapping, dtype=np.uint8).ctypes.data)


def _syscall(number: int, *arguments: object) -> int:
    """The error's number, or 0."""
    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if libc.syscall(ctypes.c_long(number), *arguments) < 0 else 0
