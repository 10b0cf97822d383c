"""Every engine gives the diagrams that are known in closed form, and all of them the same ones."""

import math

import numpy as np
import pytest
from gudhi.hera import bottleneck_distance
from hypothesis import given, settings
from hypothesis import strategies as st
from ripser import ripser
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist, pdist, squareform

from aura.topology.engines.spanning_tree import PRIM_POINTS, boruvka
from aura.topology.engines.task import Engine, Kind, Task, compute

EXACT = [Engine.RIPS, Engine.SIMPLEX_TREE]
"""The engines of the Vietoris-Rips filtration."""


def of_distances(engine, distances, max_dimension):
    return compute(Task(engine, Kind.DISTANCES, max_dimension), [distances])


def of_points(engine, points, max_dimension, **options):
    return compute(Task(engine, Kind.POINTS, max_dimension, **options), [np.asarray(points, dtype=float)])


def as_graph(distances):
    """The same filtration as a graph with all edges, by the ranks of the distances."""
    pairs = np.argwhere(np.triu(np.ones_like(distances), 1))
    lengths = distances[tuple(pairs.T)]
    values, ranks = np.unique(lengths, return_inverse=True)
    return [pairs, ranks + 1.0, np.zeros(len(distances))], np.append(0.0, values)


def dimension(bars, k, longer_than=1e-12):
    """Bars of one dimension; equal lengths differ by rounding, which leaves bars of length 1e-16."""
    found = bars[bars[:, 0] == k, 1:]
    return found[found[:, 1] - found[:, 0] > longer_than]


def polygon(n):
    angles = 2 * np.pi * np.arange(n) / n
    return np.column_stack((np.cos(angles), np.sin(angles)))


def chord(n, steps):
    return 2 * math.sin(math.pi * steps / n)


@pytest.mark.parametrize("engine", EXACT)
@pytest.mark.parametrize("n", [5, 6, 7, 9, 12, 30, 31, 100])
def test_a_regular_polygon_has_one_loop(engine, n):
    loops = dimension(of_points(engine, polygon(n), 1), 1)
    np.testing.assert_allclose(loops, [[chord(n, 1), chord(n, math.ceil(n / 3))]], atol=1e-12)


@pytest.mark.parametrize("n", [5, 6, 7, 12, 31, 100])
def test_alpha_values_of_a_regular_polygon_are_radii_and_not_their_squares(n):
    bars = of_points(Engine.ALPHA, polygon(n), 1)
    np.testing.assert_allclose(dimension(bars, 1, 1e-7), [[math.sin(math.pi / n), 1]], atol=1e-7)
    np.testing.assert_allclose(dimension(bars, 0)[:-1, 1], [math.sin(math.pi / n)] * (n - 1), atol=1e-7)


@pytest.mark.parametrize("engine", EXACT)
def test_the_geodesic_circle_becomes_a_three_sphere(engine):
    # Adamaszek and Adams, 2017; at a third of the circumference it is a wedge of n/3 - 1 spheres (Adamaszek, 2013).
    steps = np.abs(np.subtract.outer(np.arange(21), np.arange(21)))
    bars = of_distances(engine, np.minimum(steps, 21 - steps) / 21, 3)
    np.testing.assert_allclose(dimension(bars, 1), [[1 / 21, 7 / 21]], atol=1e-12)
    np.testing.assert_allclose(dimension(bars, 2), [[7 / 21, 8 / 21]] * 6, atol=1e-12)
    np.testing.assert_allclose(dimension(bars, 3), [[8 / 21, 9 / 21]], atol=1e-12)


@pytest.mark.parametrize("engine", EXACT)
@pytest.mark.parametrize("d", [2, 3, 4])
def test_a_cross_polytope_is_a_sphere_until_its_antipodes_meet(engine, d):
    bars = of_points(engine, np.vstack((np.eye(d), -np.eye(d))), d - 1)
    np.testing.assert_allclose(bars[bars[:, 0] > 0], [[d - 1, math.sqrt(2), 2]], atol=1e-15)


@pytest.mark.parametrize("engine", EXACT)
def test_the_unit_cube_has_five_loops_and_a_three_sphere(engine):
    cube = [[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    bars = of_points(engine, cube, 3)
    np.testing.assert_allclose(dimension(bars, 1), [[1, math.sqrt(2)]] * 5, atol=1e-15)
    assert len(dimension(bars, 2)) == 0
    np.testing.assert_allclose(dimension(bars, 3), [[math.sqrt(2), math.sqrt(3)]], atol=1e-15)


@pytest.mark.parametrize("engine", EXACT)
def test_the_torus_as_a_product_with_the_maximum_metric_obeys_kuenneth(engine):
    # With the maximum metric the Vietoris-Rips complex of a product is the product of those of its factors, so a bar of
    # the product is the intersection of one bar of each (Adamaszek and Adams, 2017; Carlsson and Filippenko, 2020).
    factors = [squareform(pdist(polygon(n))) for n in (10, 7)]
    torus = np.maximum(np.repeat(np.repeat(factors[0], 7, axis=0), 7, axis=1), np.tile(factors[1], (10, 10)))
    bars = of_distances(engine, torus, 2)
    expected = {0: [], 1: [], 2: []}
    parts = [[(0, *bar) for bar in [(0.0, chord(n, 1))] * (n - 1) + [(0.0, math.inf)]] for n in (10, 7)]
    parts = [[*part, (1, chord(n, 1), chord(n, math.ceil(n / 3)))] for part, n in zip(parts, (10, 7), strict=True)]
    for i, b, d in parts[0]:
        for j, c, e in parts[1]:
            birth, death = max(b, c), min(d, e)
            if death - birth > 1e-12:
                expected[i + j].append([birth, death])
    for k, wanted in expected.items():
        found = dimension(bars, k)
        np.testing.assert_allclose(found[np.lexsort(found.T[::-1])], sorted(wanted), atol=1e-12)


@pytest.mark.parametrize("engine", EXACT)
def test_a_figure_eight_has_the_loops_of_both_of_its_circles(engine):
    # Two polygons glued at one point, with the distance by way of that point (Adamaszek et al., 2020).
    first, second = (squareform(pdist(polygon(n))) for n in (11, 8))
    size = 11 + 7
    eight = np.empty((size, size))
    eight[:11, :11] = first
    eight[11:, 11:] = 1.5 * second[1:, 1:]
    eight[:11, 11:] = first[:, :1] + 1.5 * second[:1, 1:]
    eight[11:, :11] = eight[:11, 11:].T
    expected = sorted([[chord(n, 1) * s, chord(n, math.ceil(n / 3)) * s] for n, s in ((11, 1.0), (8, 1.5))])
    np.testing.assert_allclose(dimension(of_distances(engine, eight, 1), 1), expected, atol=1e-12)


def fibonacci_sphere(n):
    heights = 1 - (2 * np.arange(n) + 1) / n
    angles = np.pi * (1 + math.sqrt(5)) * np.arange(n)
    return np.vstack((np.sqrt(1 - heights**2) * np.array([np.cos(angles), np.sin(angles)]), heights)).T


def test_the_cavity_of_a_sphere_is_filled_near_the_side_of_the_inscribed_tetrahedron():
    cavities = dimension(of_points(Engine.RIPS, fibonacci_sphere(120), 2), 2, 0.5)
    assert len(cavities) == 1
    assert cavities[0, 1] == pytest.approx(math.sqrt(8 / 3), abs=0.05)


def test_the_cavity_of_a_sphere_is_filled_at_its_radius_in_the_alpha_filtration():
    cavities = dimension(of_points(Engine.ALPHA, fibonacci_sphere(400), 2), 2, 0.5)
    assert len(cavities) == 1
    assert cavities[0, 1] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("engine", [*EXACT, Engine.SPANNING_TREE])
@pytest.mark.parametrize(("n", "d"), [(40, 2), (150, 384)])
def test_components_end_at_the_weights_of_a_minimum_spanning_tree(engine, n, d):
    points = np.random.default_rng(n).normal(size=(n, d))
    weights = np.sort(minimum_spanning_tree(squareform(pdist(points))).data)
    components = dimension(of_points(engine, points, 0), 0)
    np.testing.assert_allclose(components[:-1, 1], weights, rtol=1e-14)
    assert components[-1, 1] == np.inf


@pytest.mark.parametrize("d", [2, 3, 12, 40])
@pytest.mark.parametrize("clusters", [1, 9, 250])
def test_the_spanning_tree_without_all_distances_is_the_one_with_them(d, clusters):
    rng = np.random.default_rng(d * clusters)
    points = 30 * rng.normal(size=(clusters, d))[rng.integers(clusters, size=900)] + rng.normal(size=(900, d))
    weights = np.sort(minimum_spanning_tree(squareform(pdist(points))).data)
    np.testing.assert_allclose(np.sort(boruvka(points)), weights, rtol=1e-9)


def test_a_grid_in_which_all_distances_are_equal_has_its_spanning_tree():
    grid = np.array([[x, y] for x in range(25) for y in range(25)], dtype=float)
    np.testing.assert_array_equal(boruvka(grid), np.ones(len(grid) - 1))


def test_copies_of_points_add_no_components():
    points = np.random.default_rng(3).normal(size=(PRIM_POINTS + 40, 9))
    once = of_points(Engine.SPANNING_TREE, points, 0)
    twice = of_points(Engine.SPANNING_TREE, np.repeat(points, 2, axis=0), 0)
    np.testing.assert_array_equal(once, twice)


@pytest.mark.parametrize("metric", ["cityblock", "chebyshev"])
@pytest.mark.parametrize("engine", EXACT)
def test_other_metrics_are_those_of_scipy(engine, metric):
    points = np.random.default_rng(1).normal(size=(40, 5))
    expected = of_distances(Engine.RIPS, squareform(pdist(points, metric)), 1)
    np.testing.assert_allclose(of_points(engine, points, 1, metric=metric), expected, rtol=1e-12)
    components = of_points(Engine.SPANNING_TREE, points, 0, metric=metric)
    np.testing.assert_allclose(components, expected[expected[:, 0] == 0], rtol=1e-12)


def off_diagonal(bars):
    return bars[(bars[:, 1] > bars[:, 0]) & np.isfinite(bars[:, 1])]


@given(seed=st.integers(0, 10**6), n=st.integers(4, 45), d=st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_all_engines_agree_with_ripser(seed, n, d):
    distances = squareform(pdist(np.random.default_rng(seed).normal(size=(n, d))))
    theirs = ripser(distances, maxdim=1, distance_matrix=True, coeff=2)["dgms"]
    arrays, values = as_graph(distances)
    for engine in EXACT:
        ranks = compute(Task(engine, Kind.EDGES, 1), arrays)
        finite = np.isfinite(ranks[:, 2])
        ranks[finite, 1:] = values[ranks[finite, 1:].astype(int)]
        for ours in (of_distances(engine, distances, 1), ranks):
            for k in (0, 1):
                mine = ours[ours[:, 0] == k, 1:]
                assert np.isinf(mine[:, 1]).sum() == np.isinf(theirs[k][:, 1]).sum()
                difference = bottleneck_distance(off_diagonal(mine), off_diagonal(theirs[k].astype(float)), 0.0)
                assert difference <= 1e-6 * distances.max()


@pytest.mark.parametrize("max_dimension", [0, 1, 2])
@pytest.mark.parametrize("threshold", [0.8, 1.5, 50.0])
def test_a_threshold_leaves_the_bars_before_it_and_opens_those_that_cross_it(max_dimension, threshold):
    points = np.random.default_rng(4).normal(size=(40, 3))
    whole = of_points(Engine.RIPS, points, max_dimension)
    expected = whole[whole[:, 1] <= threshold]
    expected[expected[:, 2] > threshold, 2] = np.inf
    expected = expected[np.lexsort((expected[:, 2], expected[:, 1], expected[:, 0]))]
    for engine in EXACT:
        found = of_points(engine, points, max_dimension, threshold=threshold)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        found = compute(Task(engine, Kind.DISTANCES, max_dimension, threshold=threshold), [cdist(points, points)])
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("steps", [1.0, math.sqrt(2), 2.0, math.sqrt(5), math.sqrt(8)])
@pytest.mark.parametrize("side", [1.0, 0.1])
def test_an_edge_as_long_as_the_threshold_belongs_to_the_filtration(side, steps):
    lattice = side * np.array([[x, y] for x in range(4) for y in range(4)], dtype=float)
    distances = squareform(pdist(lattice))
    # The length of an edge, rounded as the distances are.
    threshold = distances.flat[np.argmin(np.abs(distances - side * steps))]
    expected = of_distances(Engine.RIPS, np.where(distances <= threshold, distances, 10.0), 1)
    expected[expected[:, 2] > threshold, 2] = np.inf
    expected = expected[expected[:, 1] <= threshold]
    for engine in (Engine.RIPS, Engine.SIMPLEX_TREE):
        np.testing.assert_array_equal(of_points(engine, lattice, 1, threshold=threshold), expected)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_a_threshold_that_is_an_edge_gives_points_what_it_gives_their_distances(seed):
    rng = np.random.default_rng(seed)
    points = rng.random((7, 2))
    threshold = float(rng.choice(np.sort(pdist(points))[:7]))
    expected = compute(Task(Engine.RIPS, Kind.DISTANCES, 1, threshold=threshold), [squareform(pdist(points))])
    for engine in (Engine.RIPS, Engine.SIMPLEX_TREE):
        np.testing.assert_array_equal(of_points(engine, points, 1, threshold=threshold), expected)


@given(seed=st.integers(0, 10**6), n=st.integers(5, 40), epsilon=st.floats(0.05, 0.9))
@settings(max_examples=30, deadline=None)
def test_sparse_diagrams_are_within_their_factor(seed, n, epsilon):
    points = np.random.default_rng(seed).normal(size=(n, 2))
    full = of_points(Engine.RIPS, points, 1)
    sparse = of_points(Engine.SPARSE_RIPS, points, 1, epsilon=epsilon)
    for k in (0, 1):
        one, other = (off_diagonal(bars[bars[:, 0] == k, 1:]) for bars in (full, sparse))
        if k == 0:
            # All are born at 0, whose logarithm is no number: compare the deaths, as many as there are points.
            assert len(one) == len(other)
            factors = np.sort(other[:, 1]) / np.sort(one[:, 1])
            assert factors.max() <= 1 / (1 - epsilon) * (1 + 1e-9)
            assert factors.min() >= (1 - epsilon) * (1 - 1e-9)
        else:
            difference = bottleneck_distance(np.log(one), np.log(other), 0.0)
            assert difference <= math.log(1 / (1 - epsilon)) + 1e-9


def test_an_engine_refuses_what_it_cannot_compute():
    with pytest.raises(ValueError, match="alpha does not work on distances"):
        of_distances(Engine.ALPHA, np.zeros((1, 1)), 1)
    with pytest.raises(ValueError, match="components alone, asked for dimension 1"):
        of_points(Engine.SPANNING_TREE, [[0.0], [1.0]], 1)


@pytest.mark.parametrize("engine", [*EXACT, Engine.ALPHA, Engine.SPARSE_RIPS])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_up_to_three_points_have_components_alone(engine, n):
    points = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])[:n]
    bars = of_points(engine, points, 2)
    assert bars[:, 0].max() == 0
    assert len(bars) == n
    assert np.isinf(bars[:, 2]).sum() == 1
