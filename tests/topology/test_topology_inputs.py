"""Distances, graphs and images are checked and brought to the form of their filtration, and traps are stepped over."""

import numpy as np
import pytest
from gudhi import SimplexTree
from gudhi.hera import bottleneck_distance
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array, csr_matrix
from scipy.spatial.distance import pdist, squareform

from aura.topology.cloud import CloudError
from aura.topology.engines.task import Engine, compute
from aura.topology.inputs import GraphError, ImageError, MatrixError, WeightedGraph, checked_distances
from aura.topology.landmarks import landmarks_of_distances
from aura.topology.problem import problem_of


def problem(**options):
    defaults = {
        "points": None,
        "distances": None,
        "graph": None,
        "image": None,
        "max_dimension": 1,
        "metric": "euclidean",
        "threshold": None,
        "epsilon": 0.5,
        "direction": "sublevel",
        "vertices": "edge",
        "seed": 0,
    }
    return problem_of(**{**defaults, **options})


def bars(engine=Engine.RIPS, **options):
    posed = problem(**options)
    return posed.in_units(compute(posed.task(engine), posed.all_of_it().arrays))


def ring(weights):
    """A ring of vertices with these weights on its edges."""
    n = len(weights)
    return WeightedGraph(n, np.array([[i, (i + 1) % n] for i in range(n)]), np.asarray(weights, dtype=float))


def matrix(n=12, seed=0):
    return squareform(pdist(np.random.default_rng(seed).normal(size=(n, 3))))


@pytest.mark.parametrize("engine", [Engine.RIPS, Engine.SIMPLEX_TREE])
def test_a_ring_is_one_loop_without_an_end_in_either_direction(engine):
    graph = ring([1.0, 3.0, 2.0, 5.0, 4.0])
    up = bars(engine, graph=graph)
    np.testing.assert_array_equal(up, [[0, 1, np.inf], [0, 2, 3], [1, 5, np.inf]])
    down = bars(engine, graph=graph, direction="superlevel")
    np.testing.assert_array_equal(down, [[0, -5, np.inf], [0, -3, -2], [1, -1, np.inf]])


def test_vertices_at_zero_are_there_before_their_edges():
    found = bars(graph=ring([1.0, 2.0, 3.0, 4.0]), vertices="zero")
    np.testing.assert_array_equal(found, [[0, 0, 1], [0, 0, 2], [0, 0, 3], [0, 0, np.inf], [1, 4, np.inf]])


def test_a_vertex_without_edges_enters_at_zero_or_never():
    graph = WeightedGraph(3, np.array([[0, 1]]), np.array([2.0]))
    np.testing.assert_array_equal(bars(graph=graph), [[0, 2, np.inf]])
    np.testing.assert_array_equal(bars(graph=graph, vertices="zero"), [[0, 0, 2], [0, 0, np.inf], [0, 0, np.inf]])


def test_an_edge_of_weight_zero_is_an_edge():
    graph = WeightedGraph(4, np.array([[0, 1], [1, 2], [2, 3], [0, 3]]), np.array([0.0, 1.0, 1.0, 1.0]))
    np.testing.assert_array_equal(
        bars(graph=graph, vertices="zero"), [[0, 0, 1], [0, 0, 1], [0, 0, np.inf], [1, 1, np.inf]]
    )
    stored = coo_array((graph.weights, tuple(graph.edges.T)), shape=(4, 4))
    np.testing.assert_array_equal(bars(graph=stored), bars(graph=graph))


def test_a_threshold_of_a_graph_is_a_weight_in_both_directions():
    graph = ring([1.0, 2.0, 3.0, 4.0, 5.0])
    np.testing.assert_array_equal(bars(graph=graph, threshold=3.0), [[0, 1, np.inf]])
    np.testing.assert_array_equal(bars(graph=graph, threshold=3.5), [[0, 1, np.inf]])
    found = bars(graph=graph, threshold=4.0, direction="superlevel")
    np.testing.assert_array_equal(found, [[0, -5, np.inf]])


@given(seed=st.integers(0, 10**6), n=st.integers(2, 18), share=st.floats(0.05, 1.0), up=st.booleans())
@settings(max_examples=40, deadline=None)
def test_graphs_get_the_diagrams_of_their_clique_complex(seed, n, share, up):
    rng = np.random.default_rng(seed)
    edges = np.argwhere(np.triu(rng.random((n, n)) < share, 1))
    weights = rng.integers(-3, 4, size=len(edges)).astype(float)
    graph = WeightedGraph(n, edges, weights)
    tree = SimplexTree()
    for (i, j), weight in zip(edges.tolist(), (weights if up else -weights).tolist(), strict=True):
        tree.insert([i, j], weight)
    # A vertex enters with its first edge.
    for (i,), _ in list(tree.get_skeleton(0)):
        tree.assign_filtration([i], min((f for s, f in tree.get_cofaces([i], 1)), default=0.0))
    tree.expansion(3)
    expected = sorted((k, *bar) for k, bar in tree.persistence(persistence_dim_max=True) if k <= 2 and bar[1] > bar[0])
    direction = "sublevel" if up else "superlevel"
    for engine in (Engine.RIPS, Engine.SIMPLEX_TREE):
        found = bars(engine, graph=graph, max_dimension=2, direction=direction)
        np.testing.assert_array_equal(found.reshape(-1, 3), np.array(expected).reshape(-1, 3))


@pytest.mark.parametrize("form", [csr_matrix, coo_array])
def test_symmetric_and_triangular_matrices_of_weights_are_one_graph(form):
    weights = np.array([[0, 1.5, 0, 4], [1.5, 0, 2, 0], [0, 2, 0, 3], [4, 0, 3, 0]])
    whole = bars(graph=form(weights))
    np.testing.assert_array_equal(whole, bars(graph=form(np.triu(weights))))
    np.testing.assert_array_equal(whole, bars(graph=form(np.tril(weights))))
    assert len(whole[whole[:, 0] == 1]) == 1


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (csr_matrix(np.array([[0, 1, 0], [2, 0, 1], [0, 1, 0.0]])), r"\(0, 1\) has the weight 1.0 and back 2.0"),
        (csr_matrix(np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0.0]])), "some edges go one way only"),
        (csr_matrix(np.array([[3.0, 1], [1, 0]])), "vertex 0 has an edge to itself"),
        (csr_matrix(np.array([[0, np.nan], [0, 0]])), r"\(0, 1\) has the weight nan"),
        (csr_matrix((2, 3)), r"\[n, n\], got shape \(2, 3\)"),
        (np.zeros((2, 2)), "got ndarray"),
        (coo_array(([1.0, 2.0], ([0, 0], [1, 1])), shape=(2, 2)), "an edge occurs twice"),
    ],
)
def test_a_malformed_graph_is_refused(graph, message):
    with pytest.raises(GraphError, match=message):
        problem(graph=graph)


@pytest.mark.parametrize(
    ("vertices", "edges", "weights", "message"),
    [
        (0, np.empty((0, 2), int), [], "0 vertices"),
        (2, np.array([[0, 2]]), [1.0], "ends at vertex 2, expected 0 to 1"),
        (2, np.array([[0, 1]]), [1.0, 2.0], r"expected \[m, 2\] and \[m\]"),
        (2, np.array([[0.0, 1.0]]), [1.0], "dtype float64, expected integers"),
        (3, np.array([[0, 1], [1, 0]]), [1.0, 1.0], "occurs twice"),
    ],
)
def test_malformed_edges_are_refused(vertices, edges, weights, message):
    with pytest.raises(GraphError, match=message):
        WeightedGraph(vertices, edges, np.array(weights))


def test_lists_of_numbers_are_arrays():
    np.testing.assert_array_equal(bars(points=[[0.0, 0.0], [3.0, 4.0]]), [[0, 0, 5], [0, 0, np.inf]])
    np.testing.assert_array_equal(bars(distances=[[0.0, 5.0], [5.0, 0.0]]), [[0, 0, 5], [0, 0, np.inf]])
    np.testing.assert_array_equal(bars(Engine.CUBICAL, image=[1, 3, 0]), [[0, 0, np.inf], [0, 1, 3]])
    with pytest.raises(CloudError, match="dtype int64, expected float32 or float64: convert it first"):
        problem(points=[[0, 0]])
    with pytest.raises(MatrixError, match="dtype int64, expected float32 or float64: convert them"):
        problem(distances=[[0]])


def test_vertices_cannot_enter_at_zero_after_their_edges():
    with pytest.raises(GraphError, match='vertices="edge"'):
        problem(graph=ring([1.0, 2.0, 3.0]), direction="superlevel", vertices="zero")


def test_a_graph_without_edges_has_no_bars_or_only_its_vertices():
    graph = WeightedGraph(2, np.empty((0, 2), int), np.empty(0))
    assert len(bars(graph=graph)) == 0
    np.testing.assert_array_equal(bars(graph=graph, vertices="zero"), [[0, 0, np.inf]] * 2)


def test_a_picture_has_its_basins_and_rings_in_both_directions():
    picture = np.array([[2, 2, 2, 2], [2, 0, 5, 2], [2, 2, 2, 2], [3, 3, 3, 3.0]])
    np.testing.assert_array_equal(bars(Engine.CUBICAL, image=picture), [[0, 0, np.inf], [1, 2, 5]])
    found = bars(Engine.CUBICAL, image=picture, direction="superlevel")
    np.testing.assert_array_equal(found, [[0, -5, np.inf], [0, -3, -2], [1, -2, 0]])


def test_a_signal_and_a_volume_are_images_too():
    signal = np.array([1.0, 3.0, 0.0, 2.0])
    np.testing.assert_array_equal(bars(Engine.CUBICAL, image=signal), [[0, 0, np.inf], [0, 1, 3]])
    volume = np.ones((3, 3, 3))
    volume[1, 1, 1] = 4
    found = bars(Engine.CUBICAL, image=volume, max_dimension=2)
    np.testing.assert_array_equal(found, [[0, 1, np.inf], [2, 1, 4]])


def test_a_threshold_cuts_the_bars_of_an_image():
    signal = np.array([1.0, 3.0, 0.0, 2.0, 1.5])
    np.testing.assert_array_equal(bars(Engine.CUBICAL, image=signal, threshold=1.2), [[0, 0, np.inf], [0, 1, np.inf]])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.array([[1.0, np.nan]]), r"holds nan at \(0, 1\)"),
        (np.empty((0, 3)), "at least one cell"),
        (np.zeros((1,) * 5), "1 to 4 axes"),
        (np.array(["a"]), "expected numbers"),
    ],
)
def test_a_malformed_image_is_refused(image, message):
    with pytest.raises(ImageError, match=message):
        problem(image=image)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ((3, 1), np.nan, "distance of 3 and 1 is nan"),
        ((0, 2), np.inf, "distance of 0 and 2 is inf"),
        ((4, 5), -1.0, "distance of 4 and 5 is -1.0"),
        ((4, 4), 0.5, "item 4 has the distance 0.5 to itself"),
        ((4, 5), 9.0, "from 4 to 5 is 9.0 and back|from 5 to 4 is .* and back 9.0"),
    ],
)
def test_a_matrix_with_an_entry_that_is_no_distance_is_refused(place, value, message):
    distances = matrix()
    distances[place] = value
    with pytest.raises(MatrixError, match=message):
        problem(distances=distances)


@pytest.mark.parametrize(
    ("distances", "message"),
    [
        (np.empty((0, 0)), "empty"),
        (np.zeros((2, 3)), r"shape \(2, 3\)"),
        (np.zeros((2, 2), dtype=int), "float32 or float64"),
    ],
)
def test_an_array_that_is_no_distance_matrix_is_refused(distances, message):
    with pytest.raises(MatrixError, match=message):
        problem(distances=distances)


@pytest.mark.parametrize("engine", [Engine.RIPS, Engine.SIMPLEX_TREE])
@pytest.mark.parametrize("seed", range(3))
def test_an_asymmetry_by_rounding_moves_no_diagram(engine, seed):
    symmetric = matrix(60, seed)
    rounded = symmetric * (1 + 1e-15 * np.random.default_rng(seed).integers(0, 2, size=symmetric.shape))
    assert 0 < np.abs(rounded - rounded.T).max() < 1e-14
    one, other = bars(engine, distances=symmetric), bars(engine, distances=rounded)
    assert one.shape == other.shape
    for k in (0, 1):
        pair = [each[(each[:, 0] == k) & np.isfinite(each[:, 2]), 1:] for each in (one, other)]
        assert bottleneck_distance(*pair, 0.0) < 1e-13


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_rounding_of_a_matrix_product_is_symmetrised_among_near_duplicates_too(dtype):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(120, 384))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    points = np.vstack((points, points[:20] + 1e-9 * rng.normal(size=(20, 384)))).astype(dtype)
    norms = np.vecdot(points, points)
    distances = np.sqrt(np.maximum(norms[:, None] + norms - 2 * points @ points.T, 0))
    # A product may come out symmetric; its rounding depends on the machine.
    distances[np.tril_indices(140, -1)] = np.sqrt(
        distances[np.tril_indices(140, -1)] ** 2 + 4 * np.finfo(dtype).eps, dtype=dtype
    )
    np.fill_diagonal(distances, 0)
    assert np.abs(distances - distances.T).max() > 1e-8
    checked = checked_distances(distances)
    np.testing.assert_array_equal(checked, np.maximum(distances, distances.T))


@pytest.mark.parametrize(("dtype", "share"), [(np.float32, 1e-4), (np.float64, 1e-10)])
def test_an_asymmetry_beyond_rounding_is_refused_whatever_the_scale(dtype, share):
    for scale in (1e-30, 1.0, 1e30):
        distances = (scale * matrix()).astype(dtype)
        distances[np.unravel_index(distances.argmax(), distances.shape)] *= 1 + share
        with pytest.raises(MatrixError, match="symmetrise the matrix as its meaning demands"):
            checked_distances(distances)


def test_distances_that_break_the_triangle_inequality_have_their_diagrams():
    distances = np.array([[0, 1, 9, 1], [1, 0, 1, 9], [9, 1, 0, 1], [1, 9, 1, 0.0]])
    found = bars(distances=distances)
    np.testing.assert_array_equal(found[found[:, 0] == 1], [[1, 1, 9]])
    with pytest.raises(MatrixError, match=r"is 9\.0, and by way of . it is 2\.0.*triangle inequality"):
        problem(distances=distances).check_engine(Engine.SPARSE_RIPS, allow_gpl=False)


def test_items_at_distance_zero_are_one_component():
    points = np.repeat(np.random.default_rng(0).normal(size=(6, 2)), 3, axis=0)
    distances = squareform(pdist(points))
    for engine in (Engine.RIPS, Engine.SIMPLEX_TREE):
        assert (bars(engine, distances=distances)[:, 0] == 0).sum() == 6
    assert len(bars(Engine.SPANNING_TREE, distances=distances, max_dimension=0)) == 6


@given(seed=st.integers(0, 10**6), n=st.integers(6, 50), share=st.floats(0.1, 0.9), metric=st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_distortion_bounds_the_error_with_and_without_the_triangle_inequality(seed, n, share, metric):
    rng = np.random.default_rng(seed)
    distances = matrix(n, seed)
    if not metric:
        distances = np.triu(distances * rng.uniform(0.3, 1.7, size=(n, n)), 1)
        distances += distances.T
    marks = landmarks_of_distances(distances, max(1, int(share * n)), seed=seed)
    assert marks.covering_radius == pytest.approx(distances[:, marks.indices].min(axis=1).max())
    if metric:
        assert marks.distortion <= 2 * marks.covering_radius * (1 + 1e-12)
    full, some = bars(distances=distances), bars(distances=distances[np.ix_(marks.indices, marks.indices)])
    for k in (0, 1):
        pair = [each[(each[:, 0] == k) & np.isfinite(each[:, 2]), 1:] for each in (full, some)]
        assert bottleneck_distance(*pair, 0.0) <= marks.distortion * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "the input is missing: pass one of points, distances, graph, image"),
        ({"points": np.ones((2, 2)), "image": np.ones(3)}, "the input is points and image"),
        ({"points": np.ones((2, 2)), "metric": "cosine"}, "metric 'cosine'.*pass distances"),
        ({"points": np.ones((2, 2)), "direction": "superlevel"}, "direction 'superlevel' of points"),
        ({"points": np.ones((2, 2)), "threshold": -1.0}, "threshold -1.0 of points"),
        ({"graph": ring([1.0, 2.0, 3.0]), "vertices": "none"}, "vertices 'none'"),
        ({"points": np.ones((2, 2)), "max_dimension": -1}, "max_dimension -1"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        problem(**options)


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        (Engine.ALPHA, {"points": np.ones((2, 2))}, "GPL.*allow_gpl=True"),
        (Engine.ALPHA, {"points": np.ones((2, 4)), "allow_gpl": True}, "up to 3 coordinates, got 4"),
        (Engine.CUBICAL, {"points": np.ones((2, 4))}, "cubical does not work on a points"),
        (Engine.SPANNING_TREE, {"points": np.ones((2, 4))}, "components alone"),
        (Engine.SPARSE_RIPS, {"points": np.ones((2, 4)), "epsilon": 1.0}, "epsilon 1.0"),
    ],
)
def test_an_engine_that_cannot_do_it_is_refused_before_it_starts(engine, options, message):
    allow_gpl = options.pop("allow_gpl", False)
    with pytest.raises(ValueError, match=message):
        problem(**options).check_engine(engine, allow_gpl=allow_gpl)
