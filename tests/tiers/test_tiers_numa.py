"""Nodes without processors are found; what the arena is bound to is what the kernel says it is bound to."""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from aura.tiers import numa
from aura.tiers.arena import SHARED_MEMORY, Arena, open_arena
from aura.tiers.numa import NODES, MemoryNode, bind, bound_nodes, memory_of, memory_only_nodes

SIZE = 1 << 20
ROOMY = MemoryNode(0, 1 << 40)


def write_node(root, number, cpus, total_kib, free_kib=0):
    """One node as the kernel shows it."""
    node = root / f"node{number}"
    node.mkdir(parents=True)
    (node / "cpulist").write_text(f"{cpus}\n")
    (node / "meminfo").write_text(
        f"Node {number} MemTotal:       {total_kib} kB\n"
        f"Node {number} MemFree:        {free_kib} kB\n"
        f"Node {number} MemUsed:        {total_kib - free_kib} kB\n"
    )


@pytest.fixture
def place():
    """A path in shared memory."""
    path = SHARED_MEMORY / f"aura-test-numa-{os.getpid()}.arena"
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def bindable():
    """Skips where the kernel does not let this process bind memory to node 0."""
    if not (NODES / "node0").is_dir():
        pytest.skip("the kernel shows no NUMA nodes")
    with mmap.mmap(-1, mmap.PAGESIZE) as probe:
        error = numa._mbind(probe, [0])
    if error:
        pytest.skip(f"mbind to node 0: {os.strerror(error)}")


def test_nodes_with_memory_and_without_cpus_are_found_in_order(tmp_path):
    write_node(tmp_path, 0, "0-3,8-11", 1 << 20, 1 << 19)
    write_node(tmp_path, 1, "4-7", 0)
    write_node(tmp_path, 10, "", 1 << 21, 1 << 20)
    write_node(tmp_path, 2, "", 1 << 20, 1000)
    write_node(tmp_path, 3, "", 0)
    (tmp_path / "node4").mkdir()
    (tmp_path / "nodes").mkdir()
    (tmp_path / "has_cpu").write_text("0-1\n")
    assert memory_only_nodes(tmp_path) == (MemoryNode(2, 1000 << 10), MemoryNode(10, 1 << 30))


def test_without_numa_there_are_no_nodes(tmp_path):
    assert memory_only_nodes(tmp_path / "missing") == ()


def test_an_arena_without_nodes_is_bound_to_none(place):
    arena = Arena(place, SIZE)
    assert bound_nodes(arena._map) == ()
    assert memory_of(place) == "shared memory"
    arena.close()
    assert memory_of(place) == "shared memory"


def test_a_bound_arena_is_bound_for_every_process_and_its_pages_are_on_the_node(place, tmp_path, bindable):
    arena = Arena(place, SIZE, [ROOMY])
    assert bound_nodes(arena._map) == (0,)
    code = "import sys, pathlib, aura.tiers.numa as numa; print(numa.memory_of(pathlib.Path(sys.argv[1])))"
    said = subprocess.run([sys.executable, "-c", code, place], capture_output=True, text=True, check=True).stdout
    assert said == "shared memory, NUMA node 0\n"
    arena.write(0, b"x" * SIZE)
    (pages,) = [line for line in Path("/proc/self/numa_maps").read_text().splitlines() if str(place) in line]
    assert "bind:0" in pages
    assert f"N0={SIZE // mmap.PAGESIZE} " in pages
    write_node(tmp_path, 0, "", 1 << 20)
    assert memory_of(place, tmp_path) == "shared memory, NUMA node 0 (no CPUs: CXL or other expander)"
    arena.close()


def test_memory_that_is_taken_by_fallocate_follows_the_policy_of_the_mapping(place, bindable):
    """One node is enough to see it: the kernel counts the pages that interleaving gave."""
    calls, interleave = numa._CALLS[platform.machine()], 3
    file = os.open(place, os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(file, SIZE)
    with mmap.mmap(file, SIZE) as mapping:
        mask = ctypes.c_ulong(1)
        address, length = ctypes.c_void_p(numa._address(mapping)), ctypes.c_ulong(SIZE)
        assert numa._syscall(calls.mbind, address, length, interleave, ctypes.byref(mask), ctypes.c_ulong(65), 0) == 0
        before = interleaved()
        os.posix_fallocate(file, 0, SIZE)
        assert interleaved() - before >= SIZE // mmap.PAGESIZE
    os.close(file)


def interleaved():
    counts = dict(line.split() for line in (NODES / "node0" / "numastat").read_text().splitlines())
    return int(counts["interleave_hit"])


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([MemoryNode(1023, 1 << 40)], "not bound to NUMA node 1023: Invalid argument. See that the kernel has NUMA"),
        ([MemoryNode(0, 100), MemoryNode(2, 100)], "NUMA nodes 0, 2, which has 0 MiB free: lower tiers.arena_bytes"),
    ],
)
def test_what_the_kernel_refuses_or_cannot_fit_is_a_warning_and_the_arena_works(place, caplog, bindable, nodes, reason):
    with caplog.at_level(logging.WARNING):
        arena = Arena(place, SIZE, nodes)
    assert reason in caplog.text
    assert bound_nodes(arena._map) == ()
    arena.write(100, b"hello")
    assert arena._map[100:105] == b"hello"
    arena.close()


def test_an_architecture_whose_system_calls_are_not_known_binds_nothing(place, caplog, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    with caplog.at_level(logging.WARNING):
        arena = Arena(place, SIZE, [ROOMY])
    assert "Function not implemented" in caplog.text
    assert memory_of(place) == "shared memory"
    arena.close()


def test_an_arena_on_a_disk_is_never_bound(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("aura.tiers.arena.SHARED_MEMORY", tmp_path / "missing")
    monkeypatch.setattr("aura.tiers.arena.memory_only_nodes", lambda: (ROOMY,))
    arena = open_arena("test-numa-disk", tmp_path, SIZE)
    assert arena.path.parent == tmp_path
    assert bound_nodes(arena._map) == ()
    assert caplog.text == ""
    arena.close()


def test_an_arena_in_shared_memory_is_bound_to_the_nodes_that_are_found(tmp_path, monkeypatch, bindable):
    monkeypatch.setattr("aura.tiers.arena.memory_only_nodes", lambda: (ROOMY,))
    arena = open_arena("test-numa-found", tmp_path, SIZE)
    assert arena.path.parent == SHARED_MEMORY
    assert bound_nodes(arena._map) == (0,)
    arena.close()


def test_binding_to_nothing_asks_the_kernel_nothing(caplog):
    with mmap.mmap(-1, SIZE) as mapping:
        assert bind(mapping, ()) is False
    assert caplog.text == ""
