"""The energy test: its statistic, its exact level, its indifference to order and to ties."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from aura.topology.drift.permutation import energy_test, neighbours_alike, permutations_for, smallest_p_value


def distances(points):
    return cdist(points, points)[None]


def energy(matrix, first):
    """Two-sample energy without bias, by its definition."""
    x, y = np.arange(first), np.arange(first, len(matrix))
    between = matrix[np.ix_(x, y)].mean()
    within = [matrix[a, b] for group in (x, y) for a, b in combinations(group, 2)]
    pairs_x = first * (first - 1) // 2
    return 2 * between - np.mean(within[:pairs_x]) - np.mean(within[pairs_x:])


def test_the_energy_is_that_of_its_definition():
    matrix = distances(np.random.default_rng(0).normal(size=(13, 3)))
    found = energy_test(matrix, 5, level=0.1, permutations=99, seed=0)
    assert found.energies[0] == pytest.approx(energy(matrix[0], 5))


def test_the_p_value_approaches_the_share_of_all_groupings():
    points = np.random.default_rng(1).normal(size=(8, 2))
    points[:4] += 0.8
    matrix = distances(points)
    observed = energy(matrix[0], 4)
    groupings = []
    for chosen in combinations(range(8), 4):
        order = [*chosen, *(set(range(8)) - set(chosen))]
        groupings.append(energy(matrix[0][np.ix_(order, order)], 4) >= observed - 1e-12)
    exact = np.mean(groupings)
    found = energy_test(matrix, 4, level=0.1, permutations=9999, seed=0)
    assert found.p_value == pytest.approx(exact, abs=4 * np.sqrt(exact / 9999))


def test_the_p_value_counts_the_observed_grouping_itself():
    points = np.concatenate((np.zeros((20, 1)), np.full((20, 1), 1000.0)))
    points += np.random.default_rng(2).normal(size=points.shape)
    assert energy_test(distances(points), 20, level=0.1, permutations=199, seed=0).p_value == 1 / 200


@given(st.integers(0, 10_000), st.sampled_from([0.01, 0.05, 0.1, 0.5]))
def test_an_alarm_is_a_statistic_beyond_the_threshold(seed, level):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 3, size=(12, 1)).astype(float)
    found = energy_test(distances(points), 5, level=level, permutations=199, seed=seed)
    assert (found.p_value <= level) == (found.statistic > found.threshold + 1e-9)


@pytest.mark.parametrize("components", [1, 2])
def test_the_level_is_exact_without_drift(components):
    """Over random samples the p-value is at most 1/5 one time in five: within four standard deviations."""
    rng = np.random.default_rng(3)
    trials = 600
    alarms = 0
    for trial in range(trials):
        points = rng.exponential(size=(14, 2))
        matrix = np.stack([cdist(points, points), cdist(points, points) ** 2])[:components]
        alarms += energy_test(matrix, 5, level=0.2, permutations=99, seed=trial).p_value <= 0.2
    assert abs(alarms / trials - 0.2) < 4 * np.sqrt(0.2 * 0.8 / trials)


def test_the_order_within_a_sample_does_not_matter_to_the_statistic():
    rng = np.random.default_rng(4)
    points = rng.normal(size=(20, 3))
    order = np.concatenate((rng.permutation(8), 8 + rng.permutation(12)))
    one = energy_test(distances(points), 8, level=0.1, permutations=999, seed=0)
    other = energy_test(distances(points[order]), 8, level=0.1, permutations=999, seed=0)
    np.testing.assert_allclose(one.energies, other.energies)
    assert one.p_value == pytest.approx(other.p_value, abs=0.06)


def test_units_that_are_all_alike_are_no_evidence():
    found = energy_test(np.zeros((2, 20, 20)), 10, level=0.1, permutations=99, seed=0)
    assert (found.statistic, found.p_value) == (0.0, 1.0)


def test_a_component_that_does_not_vary_leaves_the_others_their_say():
    points = np.concatenate((np.zeros((20, 1)), np.ones((20, 1)) * 50))
    points += np.random.default_rng(5).normal(size=points.shape)
    matrix = np.concatenate((np.zeros((1, 40, 40)), distances(points)))
    found = energy_test(matrix, 20, level=0.1, permutations=99, seed=0)
    assert found.p_value == 0.01
    assert found.scores[0] == 0


def test_a_component_in_other_units_has_the_same_say():
    rng = np.random.default_rng(6)
    one, other = distances(rng.normal(size=(20, 2))), distances(rng.normal(size=(20, 2)))
    found = [
        energy_test(np.concatenate((one, scale * other)), 10, level=0.1, permutations=199, seed=0).p_value
        for scale in (1.0, 1e-6, 1e6)
    ]
    assert found[0] == found[1] == found[2]


def test_the_observed_energy_grows_with_the_shift():
    points = np.random.default_rng(7).normal(size=(40, 2))
    scores = []
    for shift in (0.0, 1.0, 3.0):
        moved = points + np.r_[np.zeros(20), np.full(20, shift)][:, None]
        scores.append(energy_test(distances(moved), 20, level=0.1, permutations=99, seed=0).energies[0])
    assert scores[0] < scores[1] < scores[2]


def test_units_in_order_of_a_slow_path_are_like_their_neighbours():
    path = np.cumsum(np.random.default_rng(8).normal(size=(24, 2)), axis=0)
    assert neighbours_alike(distances(path), 12, permutations=199, seed=0) < 0.02


def test_drift_between_the_samples_is_no_likeness_of_neighbours():
    points = np.random.default_rng(9).normal(size=(24, 2))
    points[12:] += 1000
    assert neighbours_alike(distances(points), 12, permutations=199, seed=0) > 0.05


def test_the_test_of_neighbours_keeps_its_level():
    """Four standard deviations around one in five."""
    trials = 400
    rng = np.random.default_rng(10)
    found = [neighbours_alike(distances(rng.normal(size=(14, 2))), 6, permutations=49, seed=t) for t in range(trials)]
    assert abs(np.mean(np.array(found) <= 0.2) - 0.2) < 4 * np.sqrt(0.2 * 0.8 / trials)


def test_the_p_value_of_neighbours_approaches_the_share_of_all_orders():
    """More permutations than are computed in one go, and no multiple of them."""
    matrix = distances(np.random.default_rng(11).normal(size=(8, 2)))
    order = np.array([[*one, *other] for one in permutations(range(4)) for other in permutations(range(4, 8))])
    sums = matrix[0][order[:, :-1], order[:, 1:]].sum(axis=1) - matrix[0][order[:, 3], order[:, 4]]
    exact = np.mean(sums <= sums[0] + 1e-9)
    found = neighbours_alike(matrix, 4, permutations=5000, seed=0)
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 5000))


def test_units_that_are_all_alike_say_nothing_about_neighbours():
    assert neighbours_alike(np.zeros((2, 10, 10)), 5, permutations=99, seed=0) == 1.0


@pytest.mark.parametrize(("first", "second", "smallest"), [(1, 1, 1.0), (2, 2, 1 / 3), (2, 3, 0.1), (6, 6, 1 / 462)])
def test_the_smallest_p_value_is_one_over_the_groupings(first, second, smallest):
    assert smallest_p_value(first, second) == pytest.approx(smallest)


def test_the_smallest_p_value_of_large_samples_is_a_number():
    assert 0 <= smallest_p_value(5000, 5000) < 1e-200


@pytest.mark.parametrize("level", [0.5, 0.05, 0.025, 0.005, 0.0005])
def test_the_permutations_make_the_level_exact(level):
    permutations = permutations_for(level)
    assert (1 + permutations) * level == pytest.approx(10)


@pytest.mark.parametrize(
    ("matrix", "first", "permutations", "complaint"),
    [
        (np.zeros((1, 5, 5)), 1, 99, "samples of 1 and 4"),
        (np.zeros((1, 5, 5)), 4, 99, "samples of 4 and 1"),
        (np.full((1, 5, 5), np.inf), 2, 99, "not finite"),
        (np.zeros((1, 5, 5)), 2, 9, "cannot reach the level 0.05"),
    ],
)
def test_what_cannot_be_tested_is_refused(matrix, first, permutations, complaint):
    with pytest.raises(ValueError, match=complaint):
        energy_test(matrix, first, level=0.05, permutations=permutations, seed=0)
