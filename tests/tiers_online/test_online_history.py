"""A batch of reads teaches what its reads teach one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aura.tiers.gaps import FIRST_CHANCE, LONG, MEMORY, OCTAVES, SHORT, find_cycle
from aura.tiers.online.cycle import Cycle
from aura.tiers.online.history import NEVER, ONCE, History

READS = st.lists(st.integers(0, 9), min_size=1, max_size=200)


def fed(reads: list[int], batch: int, cycle: float | None = None) -> tuple[History, list[tuple[int, int]]]:
    """A history after these reads, and the (class, gap) of all that ended, sorted."""
    history = History()
    ids = np.array(reads, dtype=np.int32)
    ended = []
    for start in range(0, len(ids), batch):
        part = ids[start : start + batch]
        rows = history.add(part, np.full(len(part), 7))
        folded = history.fold(rows, cycle)
        ended += list(zip(folded.kinds.tolist(), folded.gaps.tolist(), strict=True))
    return history, sorted(ended)


@given(READS, st.integers(1, 60))
@settings(deadline=None)
def test_the_size_of_a_batch_makes_no_difference(reads: list[int], batch: int):
    one, ended = fed(reads, 1, cycle=10.0)
    many, ended_too = fed(reads, batch, cycle=10.0)
    rows = one.find(np.unique(reads).astype(np.int32))
    assert ended == ended_too
    assert (one.kind[rows] == many.kind[rows]).all()
    assert (one.last[rows] == many.last[rows]).all()
    assert (one.count[rows] == many.count[rows]).all()
    for column in ("average", "short", "long"):
        assert getattr(one, column)[rows] == pytest.approx(getattr(many, column)[rows], abs=0.02)


def test_the_class_is_of_the_last_gap_and_of_their_average():
    history, ended = fed([1, 2, 2, 2, 2, 1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 1], 16)
    row = history.find(np.array([1], dtype=np.int32))
    first, second = math.log2(5), math.log2(10)
    average = MEMORY * first + (1 - MEMORY) * second
    assert history.kind[row] == 1 + int(second) * (OCTAVES + 1) + int(average)
    assert history.average[row] == pytest.approx(average, abs=0.01)
    assert (ONCE, 5) in ended
    assert (1 + 2 * (OCTAVES + 1) + OCTAVES, 10) in ended


def test_the_chance_of_a_read_in_a_cycle_falls_with_each_cycle_that_passes():
    history, _ = fed([0] + [1] * 29 + [0], 40, cycle=10.0)
    row = history.find(np.array([0], dtype=np.int32))
    short, long = FIRST_CHANCE, FIRST_CHANCE
    for cycles in (1, 3):
        short, long = short * (1 - SHORT) ** cycles + SHORT, long * (1 - LONG) ** cycles + LONG
    assert history.short[row] == pytest.approx(short, abs=0.002)
    assert history.long[row] == pytest.approx(long, abs=0.002)


def test_ids_and_rows_belong_together_however_far_apart_the_ids_are():
    history = History()
    ids = np.array([0, 255, 256, 1_000_000, 12, 2**31 - 1], dtype=np.int32)
    rows = history.add(ids, np.arange(6))
    assert (history.ids(rows) == ids).all()
    assert (history.find(ids) == rows).all()
    assert (history.find(np.array([1, -5, 999_999], dtype=np.int32)) == NEVER).all()
    assert history.size[rows].tolist() == [1, 1, 2, 3, 4, 5]


def test_rows_of_objects_that_are_gone_are_used_again():
    history = History()
    for generation in range(50):
        ids = np.arange(generation * 4096, (generation + 1) * 4096, dtype=np.int32)
        history.remove(history.add(ids, np.ones(4096)))
    assert history.rows <= 3 * 4096
    assert not history.known.any()


def test_a_negative_id_is_refused():
    with pytest.raises(ValueError, match="-3"):
        History().add(np.array([-3], dtype=np.int32), np.ones(1))


def test_a_cycle_is_found_in_gaps_that_are_its_multiples():
    gaps = np.array([100, 200, 101, 99, 300, 100, 100] * 20, dtype=np.float64)
    assert find_cycle(gaps) == pytest.approx(100, abs=1)
    assert find_cycle(np.random.default_rng(0).uniform(32, 5000, 1000)) is None


def test_without_a_cycle_there_is_nothing_to_wait_for():
    with pytest.raises(ValueError, match="no cycle"):
        Cycle().wait(History(), np.zeros(1, dtype=np.int64))
