"""The multiple-choice knapsack: feasible, never below its bound, close to the optimum. HiGHS is the oracle."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse import csr_array

from aura.tiers.planning.choices import Choices, PlacementProblemError
from aura.tiers.planning.knapsack import relative_gap, solve_costs, solve_placement
from aura.tiers.planning.prices import dual_prices
from aura.tiers.planning.repair import assign


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


def relaxed_optimum(choices):
    """Value of the linear relaxation by HiGHS: what the best prices can prove."""
    n, k = choices.costs.shape
    allowed = np.isfinite(choices.costs)
    costs = np.where(allowed, choices.costs, 0.0)
    scale = costs.max() or 1.0
    variables = np.arange(n * k)
    one_tier_each = csr_array((np.ones(n * k), (variables // k, variables)), shape=(n, n * k))
    within, limits = None, None
    if len(choices.limited):
        within, limits = np.zeros((len(choices.limited), n, k)), np.ones(len(choices.limited))
        for row, tier in enumerate(choices.limited):
            within[row, :, tier] = choices.sizes / choices.capacities[tier]
        within = within.reshape(len(limits), -1)
    bounds = np.column_stack([np.zeros(n * k), allowed.ravel()])
    result = linprog((costs / scale).ravel(), within, limits, one_tier_each, np.ones(n), bounds, method="highs-ds")
    return None if result.status else result.fun * scale


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


@st.composite
def instances(draw):
    """Up to 40 objects in up to 4 tiers: costs that cross or not, ties, forbidden tiers, tight and empty capacities."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    n, k = draw(st.integers(1, 40)), draw(st.integers(2, 4))
    sizes = np.full(n, 100) if draw(st.booleans()) else rng.integers(0, 1000, n)
    weights = draw(st.sampled_from([rng.pareto(1, n), np.ones(n), rng.integers(0, 2, n)]))
    latencies = rng.uniform(0.1, 3, (n, k))
    order = draw(st.sampled_from(["crossing", "monotone", "equal", "forbidden"]))
    if order == "monotone":
        latencies.sort(axis=1)
    elif order == "equal":
        latencies[:] = latencies[0]
    elif order == "forbidden":
        latencies[:, :-1][rng.random((n, k - 1)) < 0.4] = np.inf
    costs = np.where(np.isinf(latencies), np.inf, weights[:, None] * np.where(np.isinf(latencies), 0, latencies))
    shares = draw(st.lists(st.sampled_from([0.0, 0.01, 0.1, 0.3, 1.0]), min_size=k - 1, max_size=k - 1))
    return sizes, costs, [int(share * sizes.sum()) for share in shares] + [None]


@given(instances())
@settings(max_examples=150, deadline=None)
def test_prices_prove_what_the_linear_relaxation_does(instance):
    choices = Choices.of(*instance)
    best = relaxed_optimum(choices)
    assert choices.bound(dual_prices(choices)) == pytest.approx(best, rel=1e-6, abs=1e-9)


@given(instances(), st.lists(st.floats(0, 10), min_size=4, max_size=4))
@settings(max_examples=100, deadline=None)
def test_the_bound_holds_for_whatever_prices(instance, prices):
    choices = Choices.of(*instance)
    best = relaxed_optimum(choices)
    limited = np.where(np.isfinite(choices.capacities), prices[: len(choices.capacities)], 0.0)
    assert choices.bound(limited) <= best + 1e-6 * (best + 1)


@given(instances(), st.lists(st.floats(0, 10), min_size=4, max_size=4))
@settings(max_examples=100, deadline=None)
def test_whatever_prices_give_an_assignment_that_fits(instance, prices):
    choices = Choices.of(*instance)
    assignment = assign(choices, np.array(prices[: len(choices.capacities)]))
    assert np.all(choices.room(assignment) >= 0)
    assert np.isfinite(choices.cost(assignment))


@given(instances())
@settings(max_examples=100, deadline=None)
def test_a_solution_fits_and_is_within_a_thousandth_of_a_bound_that_no_assignment_beats(instance):
    sizes, costs, capacities = instance
    solution = solve_costs(sizes, costs, capacities)
    choices = Choices.of(sizes, costs, capacities)
    assert np.all(choices.room(solution.assignment) >= 0)
    assert solution.cost == pytest.approx(choices.cost(solution.assignment))
    assert 0 <= solution.gap <= 1e-3 + 1e-9
    assert solution.lower_bound >= relaxed_optimum(choices) * (1 - 1e-6) - 1e-9


@pytest.mark.parametrize("order", ["crossing", "monotone"])
@pytest.mark.parametrize("shares", [(0.05, 0.15, 0.25), (0.001, 0.01, 0.02), (0.3, 0.0, 0.6)])
def test_many_objects_are_within_a_thousandth_of_the_bound(order, shares):
    sizes, weights, latencies, _ = crossing_instance(20_000, 7)
    if order == "monotone":
        latencies = np.sort(latencies, axis=1)
    capacities = [*(int(share * sizes.sum()) for share in shares), None]
    solution = solve_placement(sizes, weights, latencies, capacities)
    assert np.all(used_bytes(sizes, solution.assignment, 4)[:3] <= capacities[:3])
    assert 0 <= solution.gap <= 1e-3


def test_many_equal_objects_fill_the_tiers_to_the_last_one():
    capacities = [1_000_050, 2_000_050, None]
    solution = solve_costs(np.full(50_000, 100), np.tile([1.0, 2.0, 4.0], (50_000, 1)), capacities)
    assert np.bincount(solution.assignment).tolist() == [10_000, 20_000, 20_000]
    assert solution.gap <= 1e-3


def test_objects_that_fit_only_when_packed_are_packed():
    sizes, capacities = [60, 50, 50, 40, 40], [100, 100, 40]
    solution = solve_costs(sizes, np.ones((5, 3)), capacities)
    assert np.all(used_bytes(sizes, solution.assignment, 3) <= capacities)
    with pytest.raises(PlacementProblemError, match="finds no room"):
        solve_costs([60, 60, 60], np.ones((3, 2)), [100, 100])


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
