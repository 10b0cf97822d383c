"""A shift of the accesses is told from the noise of small samples."""

from __future__ import annotations

import numpy as np
import pytest

from aura.tiers.planning.shift import access_shift


def zipf(seed: int, accesses: int, offset: int = 0) -> dict[str, int]:
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, 201)
    keys, counts = np.unique(rng.choice(200, accesses, p=weights / weights.sum()), return_counts=True)
    return {f"object/{key + offset}": int(count) for key, count in zip(keys, counts, strict=True)}


def test_the_same_counts_are_no_shift():
    assert access_shift({"a": 3, "b": 1}, {"a": 300, "b": 100}).distance == 0


def test_other_objects_are_a_shift_of_one():
    assert access_shift({"a": 3}, {"b": 2}).distance == 1
    assert access_shift({}, {"b": 2}).distance == 1
    assert access_shift({}, {}).distance == 0


def test_the_distance_is_the_share_that_moved():
    shift = access_shift({"a": 80, "b": 20}, {"a": 50, "b": 50})
    assert shift.distance == pytest.approx(0.3)
    assert (shift.before, shift.after) == (100, 100)


def test_two_samples_of_one_distribution_differ_by_the_noise_and_no_more():
    shifts = [access_shift(zipf(seed, 500), zipf(seed + 100, 500)) for seed in range(20)]
    assert np.mean([shift.distance for shift in shifts]) == pytest.approx(np.mean([s.noise for s in shifts]), rel=0.1)
    assert max(shift.excess for shift in shifts) < 0.1
    assert access_shift(zipf(0, 500), zipf(1, 500, offset=100)).excess > 0.3
