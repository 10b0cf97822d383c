"""The allocator never overlaps slots nor loses space; the arena keeps what was written and leaves nothing behind."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura.tiers.access_log import BATCH, AccessLog
from aura.tiers.arena import ALIGNMENT, SHARED_MEMORY, Allocator, ArenaView, open_arena, rounded
from aura.tiers.errors import CapacityError


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 700)), max_size=60))
def test_slots_never_overlap_and_all_space_returns(steps):
    capacity = 4096
    allocator = Allocator(capacity)
    held: list[tuple[int, int]] = []
    for release, number in steps:
        if release and held:
            allocator.release(*held.pop(number % len(held)))
        else:
            start = allocator.allocate(number)
            if start is not None:
                held.append((start, number))
        ranges = sorted((start, start + rounded(length)) for start, length in held)
        assert all(end <= start for (_, end), (start, _) in pairwise(ranges))
        assert all(start % ALIGNMENT == 0 and end <= capacity for start, end in ranges)
        assert allocator.used_bytes == sum(end - start for start, end in ranges)
    for slot in held:
        allocator.release(*slot)
    assert allocator.used_bytes == 0
    assert allocator.allocate(capacity) == 0


def test_a_full_allocator_says_so():
    allocator = Allocator(128)
    assert allocator.allocate(128) == 0
    assert allocator.allocate(0) is None


def test_a_client_reads_what_the_owner_wrote(tmp_path):
    arena = open_arena("test-reads", tmp_path, 1 << 16)
    view = ArenaView(arena.path)
    arena.write(64, b"hello")
    assert view.read(64, 5) == b"hello"
    assert bytes(arena.view(64, 5)) == b"hello"
    assert arena.path.stat().st_mode & 0o777 == 0o600
    arena.close()
    assert not arena.path.exists()


def test_the_arena_tells_which_views_ended(tmp_path):
    arena = open_arena("test-views", tmp_path, 1 << 16)
    arena.write(128, b"hello")
    view = arena.view(128, 5)
    array = np.frombuffer(view, dtype=np.uint8)
    del view
    assert arena.unviewed() == []
    del array
    assert arena.unviewed() == [128]
    assert arena.view(0, 0).nbytes == 0
    arena.close()


def test_a_view_outlives_the_arena(tmp_path):
    arena = open_arena("test-outlives", tmp_path, 1 << 12)
    arena.write(0, b"hello")
    view = arena.view(0, 5)
    arena.close()
    assert bytes(view) == b"hello"


def test_an_arena_that_a_killed_owner_left_is_removed(tmp_path):
    left = SHARED_MEMORY / "aura-test-left-0123.arena"
    left.write_bytes(b"x")
    arena = open_arena("test-left", tmp_path, 1 << 12)
    assert not left.exists()
    arena.close()


def test_an_arena_larger_than_all_memory_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(CapacityError, match="Lower arena_bytes") as caught:
        open_arena("test-large", tmp_path, 1 << 50)
    assert str(1 << 50) in str(caught.value)


def test_the_access_log_keeps_order_and_bound():
    log = AccessLog(limit=3000, id_of=int)
    kept = {}
    for number in range(5 * BATCH):
        log.pending.append(f"{number}")
        folded = log.tick()
        if folded:
            kept[folded.added.number] = folded.added
            for old in folded.dropped:
                del kept[old]
    assert log.settle() == 5 * BATCH
    assert log.read()[0].tolist() == list(range(5 * BATCH - 3000, 5 * BATCH))
    assert AccessLog(kept.values(), limit=3000).read()[0].tolist() == log.read()[0].tolist()
    log.replace(keep_last=10)
    assert log.read()[0].tolist() == list(range(5 * BATCH - 10, 5 * BATCH))
    assert log.read()[1] == 5 * BATCH
