"""The multiple-choice knapsack: feasible, never below its bound, close to the optimum."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aura.tiers.knapsack import PlacementProblemError, relative_gap, solve_costs, solve_placement


def crossing_instance(n, seed):
    """Objects of 4 to 256 KiB, skewed accesses, and tiers whose order differs from object to object."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(4 << 10, 256 << 10, n)
    weights = rng.zipf(1.5, n).clip(max=10_000)
    line = np.array([2e-6, 1e-6, 8e-6, 30e-6]) + sizes[:, None] * np.array([1e-12, 1e-10, 1e-10, 3e-10])
    latencies = line * rng.uniform(0.3, 3, (n, 4))
    capacities = [int(sizes.sum() * share) for share in (0.05, 0.15, 0.25)] + [None]
    return sizes, weights, latencies, capacities


def brute_force(sizes, costs, capacities):
    rows = np.arange(len(sizes))
    limits = np.array([np.inf if limit is None else limit for limit in capacities])
    choices = (np.array(choice) for choice in itertools.product(range(len(capacities)), repeat=len(sizes)))
    used = ((choice, np.bincount(choice, weights=sizes, minlength=len(capacities))) for choice in choices)
    return min(costs[rows, choice].sum() for choice, total in used if np.all(total <= limits))


def used_bytes(sizes, assignment, tiers):
    return np.bincount(assignment, weights=sizes, minlength=tiers)


small_instances = st.integers(1, 6).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 1000), min_size=n, max_size=n),
        st.lists(
            st.lists(st.one_of(st.floats(0, 1e3), st.just(float("inf"))), min_size=2, max_size=2).map(tuple),
            min_size=n,
            max_size=n,
        ),
        st.lists(st.floats(0, 1e3), min_size=n, max_size=n),
        st.lists(st.integers(0, 2000), min_size=2, max_size=2),
    )
)


@given(small_instances)
@settings(max_examples=150, deadline=None)
def test_small_instances_are_feasible_and_bracket_the_optimum(instance):
    sizes, fast, slow, limits = instance
    costs = np.column_stack([np.array(fast), np.array(slow)])
    capacities = [*limits, None]
    solution = solve_costs(sizes, costs, capacities)
    assert np.all(used_bytes(sizes, solution.assignment, 3)[:2] <= limits)
    assert solution.cost == pytest.approx(costs[np.arange(len(sizes)), solution.assignment].sum())
    best = brute_force(np.array(sizes), np.where(np.isinf(costs), 1e30, costs), capacities)
    noise = 1e-9 * (best + 1)
    assert solution.lower_bound <= best + noise
    assert best <= solution.cost + noise
    assert solution.cost <= best * 1.002 + noise


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n", [50, 300, 800])
def test_gap_is_below_one_percent_with_crossing_costs(n, seed):
    sizes, weights, latencies, capacities = crossing_instance(n, seed)
    solution = solve_placement(sizes, weights, latencies, capacities)
    assert np.all(used_bytes(sizes, solution.assignment, 4)[:3] <= capacities[:3])
    assert 0 <= solution.gap <= 0.01
    assert solution.cost >= solution.lower_bound


def test_objects_that_share_one_tier_without_limit_all_go_where_they_are_cheapest():
    latencies = np.array([[3.0, 1.0], [1.0, 3.0]])
    solution = solve_placement([10, 10], [1, 1], latencies, [None, None])
    assert solution.assignment.tolist() == [1, 0]
    assert solution.cost == solution.lower_bound == 2.0


def test_a_tier_that_is_nominally_faster_but_measured_slower_stays_empty():
    solution = solve_placement([10] * 4, [1] * 4, [[5.0, 2.0]] * 4, [100, None])
    assert solution.assignment.tolist() == [1] * 4


def test_an_object_larger_than_a_tier_goes_elsewhere():
    solution = solve_placement([200, 50], [1, 1], [[1.0, 9.0], [1.0, 9.0]], [100, None])
    assert solution.assignment.tolist() == [1, 0]


def test_objects_that_are_never_accessed_cost_nothing():
    solution = solve_placement([10, 10], [0, 0], [[1.0, np.inf], [1.0, 2.0]], [None, None])
    assert solution.cost == solution.lower_bound == solution.gap == 0.0
    assert solution.assignment[0] == 0


def test_nothing_to_place_is_a_solution():
    solution = solve_placement([], [], np.empty((0, 2)), [10, None])
    assert (len(solution.assignment), solution.cost, solution.lower_bound) == (0, 0.0, 0.0)


def test_the_same_problem_has_the_same_answer():
    first, second = (solve_placement(*crossing_instance(200, 5)) for _ in range(2))
    assert np.array_equal(first.assignment, second.assignment)
    assert first[1:] == second[1:]


@pytest.mark.parametrize(
    ("sizes", "weights", "latencies", "capacities", "message"),
    [
        ([10], [1], [[1.0, 1.0]], [5, 5], "give one tier no limit"),
        ([10, 10], [1, 1], [[1.0], [1.0]], [15], "fits the tiers' capacities"),
        ([10], [1, 2], [[1.0]], [None], "do not fit"),
        ([10], [1], [[1.0]], [None, None], "want"),
        ([-1], [1], [[1.0]], [None], "sizes must be"),
        ([10], [-1], [[1.0]], [None], "weights must be"),
        ([10], [1], [[float("nan")]], [None], "costs must be"),
    ],
)
def test_an_impossible_or_malformed_problem_is_refused_with_its_reason(sizes, weights, latencies, capacities, message):
    with pytest.raises(PlacementProblemError, match=message):
        solve_placement(sizes, weights, latencies, capacities)


def test_the_gap_is_relative_to_the_bound():
    assert relative_gap(1.5, 1.0) == 0.5
    assert relative_gap(0.0, 0.0) == 0.0
    assert relative_gap(1.0, 0.0) == float("inf")
