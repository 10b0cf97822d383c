"""The allocator never overlaps slots nor loses space; the arena keeps what was written and leaves nothing behind."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura.tiers.access_log import BATCH, AccessLog
from aura.tiers.arena import ALIGNMENT, SHARED_MEMORY, Allocator, ArenaView, open_arena, rounded
from aura.tiers.counts import Counts
from aura.tiers.errors import CapacityError, StorageError
from aura.tiers.records import Operation, Tier


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


def kept_log(limit=3000):
    """A log, and what it keeps by number."""
    log, kept = AccessLog(limit=limit), {}

    def keep(added, dropped):
        kept[added.number] = added
        for old in dropped:
            del kept[old]

    log.id_of, log.keep = int, keep
    return log, kept


@pytest.mark.parametrize("every", [1, 100, 5 * BATCH])
def test_the_access_log_keeps_order_and_bound(every):
    log, kept = kept_log()
    for number in range(5 * BATCH):
        log.pending.append(f"{number}")
        if (number + 1) % every == 0:
            log.tick()
            assert sum(len(batch.ids) for batch in kept.values()) <= 3000 + BATCH
            assert number + 1 - max((int(batch.ids[-1]) + 1 for batch in kept.values()), default=0) < BATCH
    assert all(len(batch.ids) <= BATCH for batch in kept.values())
    log.close()
    assert log.settle() == 5 * BATCH
    assert log.read()[0].tolist() == list(range(5 * BATCH - 3000, 5 * BATCH))
    assert AccessLog(kept.values(), limit=3000).read()[0].tolist() == log.read()[0].tolist()
    log.pending += ["7"] * BATCH
    log.tick()
    assert all(7 not in batch.ids for batch in kept.values()), "nothing is kept after the end"


@pytest.mark.parametrize("keep_last", [0, 10, BATCH, 2 * BATCH, 2 * BATCH + 1, 2800, 5000])
def test_what_is_trimmed_does_not_come_back(keep_last):
    log, kept = kept_log()
    log.pending += [f"{number}" for number in range(2800)]
    log.tick()
    log.trim(keep_last)
    expected = list(range(max(0, 2800 - keep_last), 2800))
    again = AccessLog(kept.values(), limit=3000)
    for each in (log, again):
        assert each.read()[0].tolist() == expected
    assert log.read()[1] == 2800
    log.pending += ["9", "9"]
    log.tick(whole_batch=False)
    assert AccessLog(kept.values(), limit=3000).read()[0].tolist() == log.read()[0].tolist() == [*expected, 9, 9]


def test_what_cannot_be_kept_stays_in_memory_and_a_refused_trim_changes_nothing(caplog):
    log, kept = kept_log()
    keep = log.keep

    def refuse(added, dropped):
        raise StorageError("Cannot write the access log", cause="No space left")

    log.keep = refuse
    log.pending += ["1"] * 3000
    log.tick()
    assert "stays in memory only" in caplog.text
    with pytest.raises(StorageError, match="No space left"):
        log.trim(10)
    assert log.read()[0].tolist() == [1] * 3000
    log.keep = keep
    kept.update(dict.fromkeys(range(3)))
    log.trim(10)
    assert AccessLog(kept.values()).read()[0].tolist() == log.read()[0].tolist() == [1] * 10


def test_a_batch_is_kept_before_the_log_is_trimmed_by_another_thread():
    log, kept = kept_log()
    keep, begun, go_on, trimmed = log.keep, threading.Event(), threading.Event(), threading.Event()

    def slowly(added, dropped):
        begun.set()
        assert go_on.wait(60)
        keep(added, dropped)

    log.keep = slowly
    log.pending += ["1"] * BATCH
    folding = threading.Thread(target=log.tick)
    folding.start()
    assert begun.wait(60)
    trimming = threading.Thread(target=lambda: (log.trim(0), trimmed.set()))
    trimming.start()
    assert not trimmed.wait(0.1)
    go_on.set()
    folding.join()
    trimming.join()
    assert AccessLog(kept.values()).read()[0].tolist() == log.read()[0].tolist() == []


def test_every_get_is_counted_once_also_that_of_an_object_that_is_gone():
    log, counts = AccessLog(), Counts()
    log.id_of, log.count = {"a": 1}.get, counts.take
    log.pending += ["a", "gone", (1, Tier.L3, 500), (2, Tier.L3, 700), (1, None, 0), (1, Tier.L1, 2000)]
    assert log.settle() == log.settle() == 5
    assert log.read()[0].tolist() == [1, 1, 2, 1, 1]
    assert counts.of_gets(Tier.L3) == (2, 1200 / 1e9)
    assert counts.of_gets(Tier.L1) == (3, None)
    counts.time_live(4, 400)
    assert counts.of_gets(Tier.L1) == (3, (2000 + 2 * 100) / 1e9)
    log.pending += ["a"]
    log.settle()
    counts.time_live(1, 50)
    counts.time_live(0, 0)
    assert counts.of_gets(Tier.L1) == (4, (2000 + 2 * 100 + 50) / 1e9)


def test_operations_and_the_keys_of_deleted_objects_are_kept_within_bounds(monkeypatch):
    monkeypatch.setattr("aura.tiers.counts.KEPT", 10)
    monkeypatch.setattr("aura.tiers.counts.DELETED_KEPT", 3)
    counts = Counts()
    for number in range(25):
        counts.note(Operation.PUT, number, Tier.L3)
    for number in range(5):
        counts.note_delete(number, f"k{number}")
    rows, total = counts.operations_after(0)
    assert total == 30
    assert rows[:, 0].tolist() == [*range(20, 25), *range(5)][-len(rows) :]
    assert 10 <= len(rows) < 20
    assert counts.deleted_keys(rows) == {2: "k2", 3: "k3", 4: "k4"}
    assert counts.deleted_keys(counts.operations_after(29)[0]) == {4: "k4"}
    assert counts.of[Operation.DELETE, Tier.L3] == 5
