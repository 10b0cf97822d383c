"""How often objects will be read: two moving averages, weighed by what they would have foretold."""

import numpy as np
import pytest

from aura.tiers.planning.expected import expected_accesses
from aura.tiers.records import Access, Entry, Tier


def entry(number):
    return Entry(f"values/v/-/0/p/{number}", number, "bytes", 1024, Tier.L3)


def access(*numbers):
    keys = tuple(str(number) for number in range(1 + max(numbers, default=0)))
    return Access(np.array(numbers, dtype=np.int32), keys, len(numbers))


def shares_of(numbers, *, objects=4, short=100, long=10_000):
    found = expected_accesses(
        [entry(number) for number in range(objects)], access(*numbers), short_half_life=short, long_half_life=long
    )
    assert found.short_share + found.long_share + found.uniform_share == pytest.approx(1)
    return found


def test_as_many_accesses_are_expected_as_the_log_has():
    found = shares_of([0, 0, 1, 1, 2])
    assert found.accesses == 5
    assert found.weights.sum() == pytest.approx(5)


def test_with_a_short_log_both_averages_weigh_about_the_same_and_the_latest_access_counts_most():
    found = shares_of([0, 0, 1, 1], short=2, long=4)
    assert found.short_share == pytest.approx(found.long_share, abs=0.1)
    assert found.weights[1] > found.weights[0] > found.weights[2]


def test_the_average_that_foretold_better_weighs_more():
    rng = np.random.default_rng(0)
    steady = rng.choice(50, 20_000, p=(chances := 1 / np.arange(1, 51)) / chances.sum())
    assert shares_of(steady, objects=50).long_share > 0.7
    # Every 4000 accesses five other objects are the only ones that are read.
    phases = np.concatenate([rng.integers(0, 5, 4000) + 5 * (phase % 10) for phase in range(10)])
    assert shares_of(phases, objects=50).short_share > 0.7


def test_objects_that_nobody_has_read_are_expected_as_often_as_new_ones_turned_up():
    every_time_another = list(range(400))
    assert shares_of(every_time_another, objects=400).uniform_share > 0.8
    always_the_same = [0, 1] * 400
    found = shares_of(always_the_same, objects=400)
    assert found.uniform_share < 0.01
    assert found.weights[0] == pytest.approx(400, rel=0.02)


def test_accesses_of_other_objects_do_not_count():
    found = expected_accesses([entry(3)], access(9, 3, 9, 3, 0), short_half_life=10, long_half_life=1000)
    assert found.accesses == 2
    assert found.weights.tolist() == pytest.approx([2.0])
    nothing = expected_accesses([entry(3), entry(12)], access(9, 9), short_half_life=10, long_half_life=1000)
    assert (nothing.weights.tolist(), nothing.accesses) == ([1.0, 1.0], 0)
    assert len(expected_accesses([], access(1), short_half_life=1, long_half_life=1).weights) == 0
