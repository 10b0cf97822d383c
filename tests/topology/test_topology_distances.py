"""Distances between diagrams agree with closed forms, brute force and other packages, and are metrics."""

import functools
import itertools
import math

import numpy as np
import persim
import pytest
from gudhi import hera
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from aura.topology import assignment, distances
from aura.topology.distances import DistanceError, bottleneck, pairwise, wasserstein
from aura.topology.engine import rips_bars

NOTHING = np.empty((0, 2))


def diagram(*bars):
    return np.array(bars, dtype=float).reshape(-1, 2)


def random_diagram(count, seed, length=0.2):
    rng = np.random.default_rng(seed)
    birth = rng.random(count)
    return np.column_stack((birth, birth + rng.exponential(length, count)))


def brute_force(a, b, order):
    """Smallest cost over every way to pair points, by enumeration."""
    best = math.inf
    half_a, half_b = (a[:, 1] - a[:, 0]) / 2, (b[:, 1] - b[:, 0]) / 2
    for size in range(min(len(a), len(b)) + 1):
        for rows in itertools.combinations(range(len(a)), size):
            for columns in itertools.permutations(range(len(b)), size):
                pairs = np.abs(a[list(rows)] - b[list(columns)]).max(axis=1, initial=0.0)
                costs = np.concatenate((pairs, np.delete(half_a, rows), np.delete(half_b, columns)))
                best = min(best, float(np.linalg.norm(costs, ord=order)) if len(costs) else 0.0)
    return best


finite_bars = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda bar: (bar[0] / 4, (bar[0] + bar[1]) / 4))
small_diagrams = st.lists(finite_bars, max_size=4).map(lambda bars: diagram(*bars))
orders = st.sampled_from([1.0, 1.5, 2.0, 3.0])


def test_two_bars_against_one():
    a, b = diagram((0, 4), (1, 2)), diagram((0, 3))
    assert bottleneck(a, b) == 1.0
    assert wasserstein(a, b) == 1.5
    assert wasserstein(a, b, order=2) == pytest.approx(math.sqrt(1.25))
    assert wasserstein(a, b, order=math.inf) == 1.0


def test_against_nothing_every_bar_costs_half_its_length():
    a = diagram((0, 4), (1, 2))
    assert bottleneck(a, NOTHING) == bottleneck(NOTHING, a) == 2.0
    assert wasserstein(a, NOTHING) == wasserstein(NOTHING, a) == 2.5
    assert wasserstein(a, np.array([]), order=2) == pytest.approx(math.sqrt(4.25))
    assert bottleneck(NOTHING, NOTHING) == wasserstein(NOTHING, NOTHING) == 0.0


def test_bars_that_never_end_are_matched_in_the_order_of_their_births():
    a, b = diagram((3, np.inf), (0, np.inf)), diagram((1, np.inf), (5, np.inf))
    assert bottleneck(a, b) == 2.0
    assert wasserstein(a, b) == 3.0
    assert wasserstein(a, b, order=2) == pytest.approx(math.sqrt(5))
    assert wasserstein(np.vstack((a, [[0, 4]])), b) == 5.0


def test_bars_that_were_always_there_are_matched_by_their_deaths():
    assert bottleneck(diagram((-np.inf, 1)), diagram((-np.inf, 4))) == 3.0
    assert bottleneck(diagram((-np.inf, np.inf)), diagram((-np.inf, np.inf))) == 0.0


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (diagram((0, np.inf)), NOTHING),
        (diagram((0, np.inf)), diagram((0, 9))),
        (diagram((0, np.inf)), diagram((-np.inf, 0))),
        (diagram((-np.inf, np.inf)), NOTHING),
        (diagram((0, np.inf), (0, np.inf)), diagram((0, np.inf))),
    ],
)
def test_without_a_partner_that_never_ends_the_distance_is_infinite(a, b):
    assert bottleneck(a, b) == bottleneck(b, a) == math.inf
    assert wasserstein(a, b) == wasserstein(b, a, order=2) == math.inf


def test_points_on_the_diagonal_are_nothing():
    a = diagram((0, 4), (1, 1), (7, 7), (np.inf, np.inf), (-np.inf, -np.inf))
    assert bottleneck(a, diagram((0, 3))) == 1.0
    assert wasserstein(a, diagram((0, 3), (2, 2))) == 1.0


@given(small_diagrams, small_diagrams, orders)
@settings(deadline=None)
def test_tiny_diagrams_agree_with_enumeration(a, b, order):
    assert bottleneck(a, b) == pytest.approx(brute_force(a, b, np.inf), abs=1e-12)
    assert wasserstein(a, b, order) == pytest.approx(brute_force(a, b, order), abs=1e-12)


@given(small_diagrams, small_diagrams, small_diagrams, orders)
@settings(deadline=None)
def test_both_are_metrics(a, b, c, order):
    for distance in (bottleneck, functools.partial(wasserstein, order=order)):
        assert distance(a, a) == 0
        assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-12)
        assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-9
        off_a, off_b = (sorted(map(tuple, d[d[:, 0] < d[:, 1]])) for d in (a, b))
        assert (distance(a, b) == 0) == (off_a == off_b)


@given(small_diagrams, small_diagrams)
@settings(deadline=None)
def test_a_higher_order_is_not_farther_and_the_bottleneck_is_nearest(a, b):
    found = [wasserstein(a, b, order) for order in (1, 2, 4, math.inf)]
    assert all(nearer <= farther + 1e-9 for farther, nearer in itertools.pairwise(found))


@pytest.mark.parametrize("count", [1, 10, 60, 250])
def test_larger_diagrams_agree_with_hera_and_persim(count):
    a, b = random_diagram(count, 1), random_diagram(count + count // 2, 2)
    assert bottleneck(a, b) == pytest.approx(hera.bottleneck_distance(a, b, delta=0.0), rel=1e-12)
    assert bottleneck(a, b) == pytest.approx(persim.bottleneck(a, b), rel=1e-12)
    for order in (1.0, 2.0):
        theirs = hera.wasserstein_distance(a, b, order=order, internal_p=np.inf, delta=1e-4)
        assert wasserstein(a, b, order) == pytest.approx(theirs, rel=1.1e-4)
    # persim's ground metric is the Euclidean one: between ours and sqrt(2) times ours.
    assert wasserstein(a, b) <= persim.wasserstein(a, b) <= 1.0000001 * math.sqrt(2) * wasserstein(a, b)


@given(small_diagrams, small_diagrams, orders, st.sampled_from([0.0, 1.0]))
@settings(deadline=None)
def test_every_solver_agrees_with_enumeration(a, b, order, sparse_share):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "MANY_POINTS", 1)
        patch.setattr(assignment, "SPARSE_SHARE", sparse_share)
        patch.setattr(assignment, "NEIGHBOURS", 2)
        assert wasserstein(a, b, order) == pytest.approx(brute_force(a, b, order), abs=1e-12)


@pytest.mark.parametrize(("rows", "columns"), [(300, 300), (300, 200), (200, 300)])
@pytest.mark.parametrize("factor", [1e-200, 1.0, 1e200])
@pytest.mark.parametrize("sparse_share", [0.0, 1.0])
def test_all_solvers_agree_on_larger_diagrams(monkeypatch, rows, columns, factor, sparse_share):
    a, b = factor * random_diagram(rows, 11), factor * random_diagram(columns, 12)
    plain = wasserstein(a, b), wasserstein(a, b, 2)
    monkeypatch.setattr(assignment, "MANY_POINTS", 1)
    monkeypatch.setattr(assignment, "SPARSE_SHARE", sparse_share)
    assert plain == pytest.approx((wasserstein(a, b), wasserstein(a, b, 2)), rel=1e-12)


def enumerated(a, b, order):
    """Least cost over all complete matchings of points and diagonals, in extended precision and units of its size."""
    count = len(a)
    bars = [d.astype(np.longdouble) for d in (a, b)]
    costs = np.zeros((count + len(b), count + len(b)), dtype=np.longdouble)
    costs[:count, : len(b)] = np.abs(bars[0][:, None] - bars[1]).max(axis=2)
    costs[:count, len(b) :] = ((bars[0][:, 1] - bars[0][:, 0]) / 2)[:, None]
    costs[count:, : len(b)] = (bars[1][:, 1] - bars[1][:, 0]) / 2
    found = [costs[np.arange(len(costs)), list(columns)] for columns in itertools.permutations(range(len(costs)))]
    return float(min((each**order).sum() for each in found) ** (1 / np.longdouble(order)))


@given(st.integers(0, 10_000), st.integers(0, 9), st.sampled_from([2.0, 2.5, 3.0, 4.0, 5.0]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_small_difference_between_long_bars_is_exact_in_every_order(seed, digits, order, on_the_line):
    rng = np.random.default_rng(seed)
    near = 10.0**-digits * rng.random((2, 3, 2)) * (0 if on_the_line else 1, 1)
    a, b = np.array([0.0, 1.0]) + near
    # A short bar more on one side, as far from the diagonal as the others are from each other or nearer.
    b = np.vstack((b, [[0, 10.0**-digits * rng.random() ** 4]]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "LINE_POINTS", 1 if on_the_line else 100)
        found = wasserstein(a, b, order)
        assert found == pytest.approx(enumerated(a, b, order), rel=1e-13, abs=0)
        assert wasserstein(b, a, order) == pytest.approx(found, rel=1e-13, abs=0)


@pytest.mark.parametrize("order", [2.0, 3.0, 5.0, 200.0])
@pytest.mark.parametrize("near", [1e-4, 1e-8])
@pytest.mark.parametrize("many_points", [100, 700])
def test_many_nearly_equal_long_bars_are_paired_exactly(monkeypatch, order, near, many_points):
    """They all find a partner, so the assignment of the pairs alone, in units of their distances, is exact."""
    monkeypatch.setattr(assignment, "MANY_POINTS", many_points)
    a, b = np.array([0.0, 1.0]) + near * np.random.default_rng(9).random((2, 120, 2))
    unit = bottleneck(a, b)
    costs = (np.abs(a[:, None] - b).max(axis=2) / unit) ** order
    exact = unit * costs[linear_sum_assignment(costs)].sum() ** (1 / order)
    assert wasserstein(a, b, order) == pytest.approx(exact, rel=1e-12, abs=0)
    assert wasserstein(b, a, order) == pytest.approx(exact, rel=1e-12, abs=0)
    assert wasserstein(a, a, order) == 0


@pytest.mark.parametrize("order", [2.0, 5.0])
def test_many_nearly_equal_bars_of_one_birth_are_paired_in_their_order(order):
    rng = np.random.default_rng(10)
    a, b = (np.column_stack((np.zeros(300), 1 + 1e-8 * rng.random(300))) for _ in range(2))
    exact = 1e-8 * np.linalg.norm(1e8 * (np.sort(a[:, 1]) - np.sort(b[:, 1])), ord=order)
    assert wasserstein(a, b, order) == pytest.approx(exact, rel=1e-12, abs=0)
    assert wasserstein(b, a, order) == pytest.approx(exact, rel=1e-12, abs=0)


lengths = st.lists(st.integers(1, 40), min_size=1, max_size=4)


@given(lengths, lengths, orders)
@settings(max_examples=60, deadline=None)
def test_bars_of_one_birth_agree_with_enumeration_on_the_line(a, b, order):
    first, second = (np.column_stack((np.full(len(d), 0.25), 0.25 + np.array(d) / 4)) for d in (a, b))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "LINE_POINTS", 1)
        assert wasserstein(first, second, order) == pytest.approx(brute_force(first, second, order), abs=1e-12)
        assert bottleneck(first, second) == pytest.approx(brute_force(first, second, np.inf), abs=1e-12)
        assert wasserstein(first, first, order) == bottleneck(first, first) == 0


@pytest.mark.parametrize("order", [1.0, 2.0])
@pytest.mark.parametrize("factor", [1e-200, 1.0, 1e200])
def test_many_bars_of_one_birth_agree_with_the_assignment(monkeypatch, order, factor):
    rng = np.random.default_rng(8)
    a, b = (factor * np.column_stack((np.ones(n), 1 + rng.gamma(20, 0.05, n))) for n in (250, 220))
    on_the_line = wasserstein(a, b, order), bottleneck(a, b)
    monkeypatch.setattr(distances, "LINE_POINTS", 1000)
    assert on_the_line == pytest.approx((wasserstein(a, b, order), bottleneck(a, b)), rel=1e-12)


def test_persim_agrees_where_both_ground_metrics_do():
    """Bars of one birth that all find a near partner: every distance is a difference of deaths."""
    deaths = np.linspace(5, 9, 40)
    moved = deaths + np.random.default_rng(0).uniform(-0.05, 0.05, 40)
    a, b = (np.column_stack((np.zeros(40), ends)) for ends in (deaths, moved))
    assert wasserstein(a, b) == pytest.approx(persim.wasserstein(a, b), rel=1e-9)
    assert wasserstein(a, b) == pytest.approx(np.abs(deaths - moved).sum(), rel=1e-12)


@given(st.integers(0, 1000), st.floats(0.001, 0.3))
@settings(max_examples=20, deadline=None)
def test_a_cloud_that_moves_a_little_has_a_diagram_that_moves_at_most_twice_as_far(seed, noise):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(18, 2))
    moved = points + rng.uniform(-noise, noise, size=(18, 2))
    bars = [rips_bars(np.linalg.norm(x[:, None] - x, axis=2), 1) for x in (points, moved)]
    shift = np.linalg.norm(points - moved, axis=1).max()
    for dimension in (0, 1):
        first, second = (b[b[:, 0] == dimension, 1:] for b in bars)
        assert bottleneck(first, second) <= 2 * shift + 1e-9


@pytest.mark.parametrize("factor", [1e-200, 1e-9, 1e9, 1e200])
def test_coordinates_of_any_size_scale_the_distance(factor):
    a, b = random_diagram(30, 3), random_diagram(25, 4)
    for order in (1.0, 2.0):
        assert wasserstein(factor * a, factor * b, order) == pytest.approx(factor * wasserstein(a, b, order), rel=1e-9)
    assert bottleneck(factor * a, factor * b) == pytest.approx(factor * bottleneck(a, b), rel=1e-12)


def test_far_from_the_origin_short_bars_keep_their_distance():
    a, b = random_diagram(30, 3), random_diagram(25, 4)
    far = [2.0**20 + np.round(d * 2**20) / 2**20 for d in (a, b)]
    near = [d - 2.0**20 for d in far]
    assert wasserstein(*far) == pytest.approx(wasserstein(*near), rel=1e-12)
    assert bottleneck(*far) == bottleneck(*near)


@pytest.mark.parametrize("factor", [1e-200, 1.0, 1e200])
def test_beyond_the_exact_sizes_hera_answers_within_its_error(monkeypatch, factor):
    a, b = factor * random_diagram(200, 5), factor * random_diagram(150, 6)
    exact = [wasserstein(a, b), wasserstein(a, b, 2), bottleneck(a, b)]
    monkeypatch.setattr(distances, "EXACT_PAIRS", 0)
    monkeypatch.setattr(distances, "BOTTLENECK_PAIRS", 0)
    assert wasserstein(a, b) == pytest.approx(exact[0], rel=distances.RELATIVE_ERROR)
    assert wasserstein(a, b, 2) == pytest.approx(exact[1], rel=distances.RELATIVE_ERROR)
    assert bottleneck(a, b) == pytest.approx(exact[2], rel=1e-12)
    assert wasserstein(a, a) == bottleneck(a, a) == 0


@pytest.mark.parametrize(("near", "order"), [(1e-15, 1.0), (1e-8, 2.0), (1e-5, 3.0), (1e-2, 100.0)])
def test_diagrams_too_near_for_hera_are_refused_beyond_the_exact_sizes(monkeypatch, near, order):
    monkeypatch.setattr(distances, "EXACT_PAIRS", 0)
    a, b = np.array([0.0, 1.0]) + near * np.random.default_rng(7).random((2, 60, 2))
    with pytest.raises(DistanceError, match=f"60 and 60 points, about .* in the order {order:g} .*bottleneck"):
        wasserstein(a, b, order)


def test_a_list_of_diagrams_gives_a_symmetric_matrix():
    diagrams = [random_diagram(count, count) for count in (0, 3, 8, 5)]
    matrix = pairwise(diagrams, bottleneck)
    assert matrix.shape == (4, 4)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diag(matrix), 0)
    assert matrix[1, 2] == bottleneck(diagrams[1], diagrams[2])
    across = pairwise(diagrams[:1], others=diagrams[1:])
    assert across.shape == (1, 3)
    assert across[0, 2] == wasserstein(diagrams[0], diagrams[3])
    assert pairwise([]).shape == (0, 0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((2, 3)), r"diagram b has shape \(2, 3\), expected \[m, 2\]"),
        (diagram((0, 1), (2, 1)), r"the bar \(2.0, 1.0\) in row 1, expected birth <= death"),
        (diagram((0, np.nan)), "no NaN"),
    ],
)
def test_what_is_no_diagram_is_refused(bad, message):
    for distance in (bottleneck, wasserstein):
        with pytest.raises(DistanceError, match=message):
            distance(diagram((0, 1)), bad)


@pytest.mark.parametrize("order", [0.5, 0, -1, math.nan])
def test_an_order_below_one_is_refused(order):
    with pytest.raises(DistanceError, match="has the order 1 or more"):
        wasserstein(NOTHING, NOTHING, order)
