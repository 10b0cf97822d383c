"""The advantage of a place in a fast tier is what a plain solution of the same game says."""

from __future__ import annotations

import numpy as np
import pytest

from aura.tiers.gaps import AGES
from aura.tiers.online.history import History
from aura.tiers.online.reuse import EDGES, Reuse, age_bins

PRICE = 1.5


def taught(reads: np.ndarray, capacity: int, passes: int = 1) -> tuple[History, Reuse]:
    """What is known after these reads of objects of one byte, learned from all of them."""
    history, reuse = History(), Reuse(np.array([PRICE]))
    sample = np.zeros(0, dtype=np.int64)
    for start in range(0, len(reads), 100):
        ids = reads[start : start + 100]
        sample = np.union1d(sample, history.add(ids, np.ones(len(ids))))
        folded = history.fold(history.find(ids), None)
        reuse.note(folded.kinds, folded.gaps)
        if reuse.due(history.now):
            for _ in range(passes):
                room = np.array([capacity])
                reuse.learn(history, sample, 1.0, capacities=room, used=room)
    return history, reuse


def stationary(seed: int, count: int, hot: int, cold: int) -> np.ndarray:
    """Half of the reads go to few hot objects, half to many cold ones, independently of the past."""
    rng = np.random.default_rng(seed)
    return np.where(
        rng.random(count) < 0.5, rng.integers(hot, size=count), hot + rng.integers(cold, size=count)
    ).astype(np.int32)


def test_bins_of_age_are_half_octaves():
    ages = np.array([0, 1, 2, 3, 4, 1000, 2**40])
    bins = age_bins(ages)
    assert bins.tolist() == [0, 0, 2, 3, 4, 19, AGES - 1]
    assert (ages[1:-1] >= np.floor(EDGES[bins[1:-1]])).all()
    assert (ages[1:-1] < EDGES[bins[1:-1] + 1]).all()


def test_hot_objects_are_worth_a_move_and_cold_ones_are_not():
    history, reuse = taught(stationary(0, 30_000, 50, 5000), 60)
    worth = reuse.advantages(history, history.find(np.arange(5050, dtype=np.int32)))[0]
    assert np.mean(worth[:50] > PRICE) > 0.9
    assert np.mean(worth[50:] > PRICE) < 0.05


def test_room_for_everything_costs_no_rent_and_scarce_room_does():
    _, roomy = taught(stationary(1, 20_000, 50, 500), 5000)
    _, scarce = taught(stationary(1, 20_000, 50, 500), 20)
    assert roomy.rents[0] < 1e-6
    assert scarce.rents[0] > 100 * roomy.rents[0]


def test_objects_worth_the_room_fill_it():
    # The rent settles where about as many are worth their room as there is room for.
    ranks = (1000 * np.random.default_rng(2).random(60_000) ** 3).astype(np.int32)
    history, reuse = taught(ranks, 100)
    worth = reuse.advantages(history, history.find(np.arange(1000, dtype=np.int32)))[0]
    assert 50 <= (worth > PRICE / 2).sum() <= 200
    assert np.median(np.flatnonzero(worth > PRICE / 2)) < 150


def test_free_room_becomes_cheaper():
    history, reuse = taught(stationary(5, 30_000, 50, 5000), 60)
    rent = reuse.rents[0]
    sample = history.find(np.arange(5050, dtype=np.int32))
    reuse.learn(history, sample[sample >= 0], 1.0, capacities=np.array([60]), used=np.array([10]))
    assert reuse.rents[0] < 0.1 * rent


def test_an_object_that_was_never_read_has_no_advantage():
    history, reuse = taught(stationary(3, 5000, 10, 100), 20)
    row = history.add(np.array([99_999], dtype=np.int32), np.ones(1))
    assert reuse.advantages(history, row)[0] == pytest.approx(0.0)


def test_an_object_grows_less_worthy_while_it_is_not_read():
    history, reuse = taught(stationary(4, 30_000, 50, 5000), 60)
    row = history.find(np.array([0], dtype=np.int32))
    fresh = float(reuse.advantages(history, row)[0, 0])
    history.last[row] -= 20_000
    assert float(reuse.advantages(history, row)[0, 0]) < fresh
