"""The engine is the one of the regime, memory is predicted before it starts, and the diagrams say what they are."""

import numpy as np
import pytest
from gudhi.hera import bottleneck_distance
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from aura.topology.checks import births_before_deaths, finite_h1
from aura.topology.diagrams import DiagramError, Guarantee, GuaranteeKind, PersistenceDiagrams
from aura.topology.dispatch import vietoris_rips, without_landmarks
from aura.topology.engines.task import METRICS, Engine, Kind, Task, compute
from aura.topology.inputs import WeightedGraph
from aura.topology.memory import Size, most_simplices, predicted_bytes
from aura.topology.outlook import (
    outlook_of_distances,
    outlook_of_points,
    rips_cpu_seconds,
    simplex_tree_cpu_seconds,
)
from aura.topology.persistence import Caps, EngineError, persistence

GENEROUS = Caps(cpu_seconds=60.0, memory_bytes=4 * 2**30)


def unit(points):
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def structureless(n, seed=0):
    return unit(np.random.default_rng(seed).normal(size=(n, 384)))


def clustered(n, seed=0):
    """Twelve clusters of eight dimensions on the sphere in 384."""
    rng = np.random.default_rng(seed)
    spread = rng.normal(size=(12, 8, 384))
    of = rng.integers(12, size=n)
    noise = np.einsum("nk,nkd->nd", 0.3 * rng.normal(size=(n, 8)) / np.sqrt(8), spread[of] / np.sqrt(384))
    return unit(unit(rng.normal(size=(12, 384)))[of] + noise)


def torus(n, seed=0):
    around, along = np.random.default_rng(seed).uniform(0, 2 * np.pi, size=(2, n))
    radius = 2 + np.cos(around)
    return np.column_stack((radius * np.cos(along), radius * np.sin(along), np.sin(around)))


def ball(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 384))


def first_choice(points, caps=GENEROUS):
    seen = outlook_of_points(points, "euclidean", np.inf, 0)
    return vietoris_rips(Size(Kind.POINTS, len(points), points.shape[1]), 1, caps, seen)[0].engine


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [350, 500])
def test_noise_in_high_dimension_goes_to_the_explicit_complex_and_structure_does_not(n, seed):
    assert first_choice(structureless(n, seed)) is Engine.SIMPLEX_TREE
    for cloud in (clustered, torus, ball):
        assert first_choice(cloud(n, seed)) is Engine.RIPS


def test_few_items_go_to_the_engine_that_starts_fast():
    assert first_choice(torus(63)) is Engine.SIMPLEX_TREE
    assert first_choice(torus(64)) is Engine.RIPS
    graph = Size(Kind.EDGES, 63, edges=63 * 31)
    assert vietoris_rips(graph, 1, GENEROUS, None)[0].engine is Engine.SIMPLEX_TREE
    # 120 million simplices in 63 items.
    assert vietoris_rips(graph, 5, GENEROUS, None)[0].engine is Engine.RIPS


@given(seed=st.integers(0, 10**6), n=st.integers(1, 63), d=st.integers(1, 5), metric=st.sampled_from(METRICS))
@settings(max_examples=25, deadline=None)
def test_few_items_get_the_same_bars_from_either_engine(seed, n, d, metric):
    points = np.random.default_rng(seed).normal(size=(n, d)).round(1)
    one, other = (compute(Task(each, Kind.POINTS, 1, metric), [points]) for each in (Engine.RIPS, Engine.SIMPLEX_TREE))
    np.testing.assert_array_equal(one, other)


def test_without_the_memory_for_simplices_the_implicit_reduction_is_tried():
    assert first_choice(structureless(500), Caps()) is Engine.RIPS


def test_a_sample_of_points_and_of_their_distances_says_the_same():
    points = clustered(300)
    one = outlook_of_points(points, "euclidean", np.inf, 0)
    other = outlook_of_distances(squareform(pdist(points)), np.inf, 0)
    assert one.spread == pytest.approx(other.spread, rel=1e-6)
    assert one.additivity == pytest.approx(other.additivity, rel=1e-6)
    assert one.reach == pytest.approx(other.reach, rel=1e-6)


@pytest.mark.parametrize("points", [np.ones((1, 3)), np.ones((2, 3)), np.eye(100)], ids=["one", "two", "equal"])
def test_where_nothing_varies_nothing_is_slow(points):
    assert rips_cpu_seconds(outlook_of_points(points, "euclidean", np.inf, 0)) == 0.0


def test_a_lower_threshold_is_less_work():
    points = structureless(400)
    assert rips_cpu_seconds(outlook_of_points(points, "euclidean", 1.38, 0)) < rips_cpu_seconds(
        outlook_of_points(points, "euclidean", np.inf, 0)
    )


def test_components_alone_get_a_spanning_tree_and_low_dimensions_alpha_if_allowed():
    points = Size(Kind.POINTS, 1000, coordinates=3)
    options = {"metric": "euclidean", "allow_gpl": True}
    assert without_landmarks(points, 0, GENEROUS, **options).engine is Engine.SPANNING_TREE
    assert without_landmarks(points, 1, GENEROUS, **options).engine is Engine.ALPHA
    assert without_landmarks(points, 1, GENEROUS, metric="euclidean", allow_gpl=False) is None
    assert without_landmarks(points, 1, GENEROUS, metric="cityblock", allow_gpl=True) is None
    assert without_landmarks(Size(Kind.POINTS, 1000, coordinates=4), 1, GENEROUS, **options) is None


def test_a_spanning_tree_that_would_take_hours_is_not_started():
    candidate = without_landmarks(
        Size(Kind.POINTS, 10**6, 384), 0, Caps(memory_bytes=2**40), metric="euclidean", allow_gpl=False
    )
    assert "not started: predicted" in candidate.objection
    assert "s CPU, limit 30 s" in candidate.objection


def test_simplices_are_counted_as_many_as_there_can_be():
    assert most_simplices(Size(Kind.POINTS, 5), 1) == 5 + 10 + 10
    assert most_simplices(Size(Kind.EDGES, 7, edges=10), 1) == 7 + 10 + 10
    assert most_simplices(Size(Kind.POINTS, 1), 3) == 1


@pytest.mark.parametrize("engine", list(Engine))
def test_more_items_are_predicted_to_take_more_memory(engine):
    (kind, *_) = sorted(engine.takes)
    sizes = [Size(kind, n, coordinates=3, edges=4 * n) for n in (10, 1000, 100_000)]
    found = [predicted_bytes(engine, size, 1) for size in sizes]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_a_cloud_gets_its_engine_with_the_reason_and_the_memory():
    value = persistence(points=clustered(150), seed=1)
    provenance = value.provenance
    assert provenance.engine.startswith("gudhi")
    assert provenance.reason.startswith("Structure: distances vary by")
    assert provenance.guarantee == Guarantee(GuaranteeKind.EXACT)
    assert provenance.filtration == "Vietoris-Rips"
    assert provenance.scale == "diameter (longest edge, euclidean distance)"
    assert provenance.predicted_bytes > 2**20
    assert value.measured.peak_bytes < 2 * provenance.predicted_bytes
    again = PersistenceDiagrams.from_parts(value.to_parts())
    assert again == value
    assert again.measured is None
    assert simplex_tree_cpu_seconds(Size(Kind.POINTS, 150, 384), 1) > value.measured.cpu_seconds


def test_points_in_space_get_the_alpha_filtration_if_its_licence_is_accepted():
    angles = 2 * np.pi * np.arange(6) / 6
    hexagon = np.column_stack((np.cos(angles), np.sin(angles)))
    value = persistence(points=np.vstack((hexagon, hexagon)), allow_gpl=True)
    np.testing.assert_allclose(value.bars(1)[-1:], [[0.5, 1.0]], atol=1e-7)
    assert (value.provenance.filtration, value.provenance.points, value.provenance.landmarks) == ("alpha", 12, 6)
    assert "radius" in value.provenance.scale
    with pytest.raises(DiagramError, match="filtration 'alpha' and 'Vietoris-Rips' cannot be compared"):
        value.provenance.require_comparable(persistence(points=hexagon).provenance)


def test_a_graph_says_what_its_values_are_and_may_keep_open_loops():
    graph = WeightedGraph(4, np.array([[0, 1], [1, 2], [2, 3], [3, 0]]), np.array([1.0, 2.0, 3.0, 4.0]))
    value = persistence(graph=graph, direction="superlevel")
    np.testing.assert_array_equal(value.bars(1), [[-1, np.inf]])
    assert value.provenance.filtration == "clique, vertices with their first edge, superlevel"
    assert value.provenance.scale == "minus the weight"
    assert births_before_deaths(value).passed
    assert finite_h1(value).passed


def test_graphs_whose_vertices_enter_by_another_rule_are_not_compared():
    graph = WeightedGraph(3, np.array([[0, 1], [1, 2]]), np.array([1.0, 2.0]))
    edge, zero = (persistence(graph=graph, vertices=rule).provenance for rule in ("edge", "zero"))
    with pytest.raises(
        DiagramError, match="'clique, vertices with their first edge, sublevel' and 'clique, vertices at"
    ):
        edge.require_comparable(zero)


def test_an_image_has_its_filtration():
    value = persistence(image=np.array([1.0, 3.0, 0.0]), max_dimension=0)
    np.testing.assert_array_equal(value.bars(0), [[0, np.inf], [1, 3]])
    assert (value.provenance.source, value.provenance.points, value.provenance.metric) == ("image", 3, "given")


def test_all_points_of_a_large_cloud_have_their_components():
    points = np.random.default_rng(0).normal(size=(3000, 4))
    value = persistence(points=points, max_dimension=0, landmarks=10)
    assert value.provenance.landmarks == 3000
    assert value.provenance.engine == "minimum spanning tree"
    assert value.provenance.guarantee.kind is GuaranteeKind.EXACT
    assert len(value.bars(0)) == 3000


def test_landmarks_of_distances_are_certified_by_their_distortion():
    distances = squareform(pdist(torus(200)))
    value = persistence(distances=distances, landmarks=80)
    provenance = value.provenance
    assert provenance.guarantee.kind is GuaranteeKind.LANDMARKS
    assert 0 < provenance.bottleneck_bound == provenance.distortion <= 2 * provenance.covering_radius
    full = compute(Task(Engine.RIPS, Kind.DISTANCES, 1), [distances])
    error = bottleneck_distance(full[full[:, 0] == 1, 1:], value.bars(1), 0.0)
    assert error <= provenance.bottleneck_bound
    lengths = np.diff(value.bars(1))[:, 0]
    np.testing.assert_array_equal(value.certified(1), lengths > 2 * provenance.bottleneck_bound)


def test_sparse_diagrams_say_their_factor():
    value = persistence(points=torus(80), engine=Engine.SPARSE_RIPS, epsilon=0.5)
    guarantee = value.provenance.guarantee
    assert (guarantee.kind, guarantee.factor) == (GuaranteeKind.SPARSE, 2.0)
    assert "within a factor of 2" in guarantee.sentence
    assert value.provenance.bottleneck_bound == np.inf
    bars = value.bars(1)
    np.testing.assert_array_equal(value.certified(1), bars[:, 1] > 4 * bars[:, 0])


def test_an_engine_that_passes_its_box_is_followed_by_the_other_one(monkeypatch):
    monkeypatch.setattr("aura.topology.dispatch.BOX", 0.0)
    monkeypatch.setattr("aura.topology.dispatch.BOX_SECONDS", 0.01)
    # All edges of a cloud without structure, of which a graph says nothing beforehand.
    edges = np.argwhere(np.triu(np.ones((140, 140)), 1))
    graph = WeightedGraph(140, edges, pdist(structureless(140)))
    value = persistence(graph=graph)
    first, second = value.provenance.attempts
    assert (first.engine, first.outcome) == ("rips", "passed the time limit of 0.01 s CPU")
    assert (second.engine, second.outcome) == ("simplex_tree", "done")
    assert value.provenance.reason == "The implicit reduction passed its caps."
    stopped, finished = value.runs
    assert stopped.cpu_seconds == 0.01
    assert finished is value.measured
    assert PersistenceDiagrams.from_parts(value.to_parts()).runs == ()


def test_an_input_that_does_not_fit_the_memory_is_not_started():
    with pytest.raises(EngineError, match=r"not started: predicted .* bytes, limit 1000.*raise them"):
        persistence(image=np.zeros((50, 50)), caps=Caps(memory_bytes=1000))


@pytest.mark.parametrize("arguments", [{"bound": -1.0}, {"factor": 0.5}, {"bound": np.inf}, {"bound": 1.0}])
def test_a_guarantee_that_guarantees_nothing_is_refused(arguments):
    with pytest.raises(DiagramError):
        Guarantee(GuaranteeKind.EXACT, **arguments)
