"""Vectors of diagrams: closed forms, GUDHI's up to its factors, a grid that stays, and refusals of malformed parts."""

import math

import numpy as np
import pyarrow as pa
import pytest
from gudhi.representations import Landscape, PersistenceImage, Silhouette
from hypothesis import given, settings
from hypothesis import strategies as st

from aura.tiers.values import StoredValue
from aura.topology import vectorise
from aura.topology.diagrams import Attempt, DiagramError, DiagramProvenance, PersistenceDiagrams
from aura.topology.distances import bottleneck
from aura.topology.vectorise import landscapes, persistence_image, silhouette
from aura.topology.vectors import (
    KINDS,
    PART,
    SCHEMA,
    DimensionGrid,
    TopologyVectors,
    VectorError,
    VectorParameters,
)

SCALES = np.linspace(0.0, 5.0, 51)
BARS = np.array([[0, 0, 0.5], [0, 0, 1.0], [0, 0, np.inf], [1, 1.0, 1.2], [1, 1.5, 3.5]])


def diagrams(bars=BARS, max_dimension=1, metric="euclidean", **fields):
    attempts = (Attempt(3, "done"),)
    provenance = DiagramProvenance(10, 3, 0.0, metric, "a test", 7, max_dimension, attempts, **fields)
    return PersistenceDiagrams.from_bars(np.array(bars, dtype=float).reshape(-1, 3), provenance)


def random_bars(count, seed):
    rng = np.random.default_rng(seed)
    birth = rng.uniform(0, 2, count)
    return np.column_stack((birth, birth + rng.uniform(0, 2, count)))


finite_bars = st.lists(
    st.tuples(st.floats(0, 4), st.floats(0, 2)).map(lambda bar: (bar[0], bar[0] + bar[1])), min_size=0, max_size=6
).map(lambda bars: np.array(bars, dtype=float).reshape(-1, 2))


def test_the_landscape_of_one_bar_is_a_tent_of_half_its_length():
    first, second = landscapes(np.array([[1.0, 3.0]]), SCALES, 2)
    np.testing.assert_allclose(first, np.maximum(0, 1 - np.abs(SCALES - 2)), atol=1e-12)
    assert np.trapezoid(first, SCALES) == pytest.approx(1.0)  # sqrt(2) with GUDHI
    np.testing.assert_array_equal(second, 0)


def test_layers_of_a_landscape_are_ordered_tents():
    bars = np.array([[0.0, 4.0], [1.0, 3.0], [0.0, np.inf]])
    found = landscapes(bars, np.array([0.5, 2.0, 3.5]), 3)
    np.testing.assert_allclose(found, [[0.5, 2.0, 0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])


def test_landscapes_and_silhouettes_are_gudhis_without_the_square_root_of_two(monkeypatch):
    monkeypatch.setattr(vectorise, "BLOCK_VALUES", 700)  # several blocks
    bars = random_bars(40, 1)
    theirs = Landscape(num_landscapes=4, resolution=51, sample_range=[0, 5], keep_endpoints=True)(bars)
    np.testing.assert_allclose(landscapes(bars, SCALES, 4).ravel(), theirs / math.sqrt(2), atol=1e-12)
    theirs = Silhouette(
        weight=lambda bar: (bar[1] - bar[0]) ** 2, resolution=51, sample_range=[0, 5], keep_endpoints=True
    )(bars)
    np.testing.assert_allclose(silhouette(bars, SCALES, 2.0), theirs / math.sqrt(2), atol=1e-12)


@given(finite_bars, finite_bars)
@settings(deadline=None)
def test_landscapes_move_no_farther_than_the_diagrams(a, b):
    moved = np.abs(landscapes(a, SCALES, 3) - landscapes(b, SCALES, 3)).max()
    assert moved <= bottleneck(a, b) + 1e-9


def test_the_silhouette_of_equal_bars_is_their_tent():
    bars = np.array([[1.0, 3.0], [1.0, 3.0], [0.0, np.inf]])
    np.testing.assert_allclose(silhouette(bars, SCALES), np.maximum(0, 1 - np.abs(SCALES - 2)), atol=1e-12)
    np.testing.assert_array_equal(silhouette(np.array([[1.0, 1.0]]), SCALES), 0)
    np.testing.assert_array_equal(silhouette(np.empty((0, 2)), SCALES), 0)


def test_an_image_adds_up_to_the_weights_of_its_bars(monkeypatch):
    monkeypatch.setattr(vectorise, "BLOCK_VALUES", 100)
    bars = np.vstack((random_bars(30, 2) + np.array([2, 4]), [[1, np.inf]]))
    edges = np.linspace(-5, 15, 33)
    image = persistence_image(bars, edges, edges, bandwidth=0.3, full_weight=4.0)
    assert image.sum() == pytest.approx((bars[:-1, 1] - bars[:-1, 0]).sum() / 4.0, rel=1e-12)


def test_a_bar_appears_in_the_row_of_its_length_and_the_column_of_its_birth():
    edges = np.arange(0.0, 11.0)
    image = persistence_image(np.array([[2.5, 9.0]]), edges, edges, bandwidth=0.05, full_weight=6.5)
    assert image[6, 2] == pytest.approx(1.0)


def test_images_of_small_pixels_are_gudhis_density():
    bars, count = random_bars(30, 3), 200
    edges = np.linspace(0, 5, count + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    side = edges[1]
    theirs = PersistenceImage(
        bandwidth=0.4,
        weight=lambda point: point[1],
        resolution=[count, count],
        im_range=[centres[0], centres[-1], centres[0], centres[-1]],
    )(bars)
    ours = persistence_image(bars, edges, edges, bandwidth=0.4, full_weight=1.0)
    np.testing.assert_allclose(ours.ravel() / side**2, theirs, atol=1e-3 * theirs.max())


@given(st.integers(0, 100), st.floats(0.0, 0.2))
@settings(max_examples=25, deadline=None)
def test_a_bar_that_appears_near_the_diagonal_hardly_changes_the_image(seed, length):
    bars, edges = random_bars(10, seed), np.linspace(0, 5, 21)
    with_noise = np.vstack((bars, [[1.0, 1.0 + length]]))
    images = [persistence_image(each, edges, edges, bandwidth=0.25, full_weight=2.0) for each in (bars, with_noise)]
    assert np.abs(images[0] - images[1]).sum() <= length / 2.0 + 1e-12


def test_the_grid_has_headroom_around_what_it_was_fitted_on_and_no_negative_scales():
    parameters = VectorParameters.fit([diagrams(), diagrams([[1, 2.0, 4.0]])], fitted_on="2026-01", pixels=10)
    assert parameters.grids[0] == DimensionGrid(start=0.0, stop=1.25, longest=1.25, bandwidth=0.125)
    assert parameters.grids[1].start == pytest.approx(0.25)
    assert parameters.grids[1].stop == pytest.approx(4.75)
    assert parameters.grids[1].longest == pytest.approx(2.5)
    assert parameters.grids[1].bandwidth == pytest.approx(0.45)


def test_a_filtration_with_negative_values_keeps_them_and_a_dimension_without_bars_borrows_a_grid():
    parameters = VectorParameters.fit([diagrams([[0, -2, -1], [0, -1, 2]])], fitted_on="x")
    assert parameters.grids[0].start == -3
    assert (parameters.grids[1].start, parameters.grids[1].stop) == (-3, 3)
    VectorParameters.fit([diagrams([])], fitted_on="nothing at all")
    VectorParameters.fit([diagrams([[0, 0, np.inf], [1, 2, 2]])], fitted_on="one point")


@pytest.mark.parametrize("value", [1e20, -1e20, 1e-20, 0.0])
def test_a_single_scale_of_any_size_gets_a_grid_around_it(value):
    (grid,) = VectorParameters.fit([diagrams([[0, value, np.inf]], max_dimension=0)], fitted_on="x").grids
    assert grid.start <= value < grid.stop


def test_what_is_outside_of_the_grid_is_counted_and_the_rest_keeps_its_place():
    parameters = VectorParameters.fit([diagrams()], fitted_on="first")
    later = diagrams([[0, 0, 0.5], [0, 0, 9.0], [0, 0, np.inf], [1, 0.1, 0.2], [1, 1.5, 3.5]])
    value = TopologyVectors.of(later, parameters)
    counts = value.provenance.counts
    assert (counts[0].bars, counts[0].endless, counts[0].outside) == (3, 1, 1)
    assert (counts[1].bars, counts[1].endless, counts[1].outside) == (2, 0, 1)
    assert value.provenance.parameters.fitted_on == "first"
    np.testing.assert_array_equal(value.vector(0, "betti")[-1], 2)


def test_vectors_have_the_shapes_that_their_parameters_say():
    parameters = VectorParameters.fit([diagrams()], fitted_on="x", resolution=16, pixels=4, layers=3)
    value = TopologyVectors.of(diagrams(), parameters)
    assert [value.vector(1, kind).shape for kind in KINDS] == [(4, 4), (3, 16), (16,), (16,), (1,)]
    bars, scales = diagrams().bars(1), parameters.scales(1)
    np.testing.assert_array_equal(value.vector(1, "landscapes"), landscapes(bars, scales, 3))
    assert value.vector(1, "entropy")[0] == pytest.approx(diagrams().entropy(1))


def test_vectors_survive_being_taken_apart():
    value = TopologyVectors.of(diagrams(), VectorParameters.fit([diagrams()], fitted_on="2026-01"))
    assert isinstance(value, StoredValue)
    assert TopologyVectors.from_parts(value.to_parts()) == value


def test_diagrams_of_another_dimension_are_refused():
    parameters = VectorParameters.fit([diagrams()], fitted_on="x")
    with pytest.raises(VectorError, match=r"dimension 0 to 2 and parameters fitted on 'x' for 0 to 1"):
        TopologyVectors.of(diagrams(max_dimension=2), parameters)
    with pytest.raises(VectorError, match=r"max_dimensions \[1, 2\]"):
        VectorParameters.fit([diagrams(), diagrams(max_dimension=2)], fitted_on="x")
    with pytest.raises(VectorError, match=r"max_dimensions \[\]"):
        VectorParameters.fit([], fitted_on="x")
    with pytest.raises(VectorError, match="asked for 2"):
        parameters.scales(2)
    with pytest.raises(VectorError, match="no vectors of the kind 'atol'"):
        parameters.shape("atol")


def test_diagrams_of_another_filtration_are_refused():
    parameters = VectorParameters.fit([diagrams()], fitted_on="x")
    with pytest.raises(VectorError, match="the filtration 'alpha' and parameters fitted on 'x' with 'Vietoris-Rips'"):
        TopologyVectors.of(diagrams(filtration="alpha"), parameters)
    with pytest.raises(VectorError, match=r"the scale .*cosine"):
        TopologyVectors.of(diagrams(metric="cosine"), parameters)
    with pytest.raises(DiagramError, match="cannot be compared"):
        VectorParameters.fit([diagrams(), diagrams(metric="cosine")], fitted_on="x")


def test_diagrams_that_were_cut_elsewhere_are_refused():
    whole = VectorParameters.fit([diagrams()], fitted_on="x")
    with pytest.raises(VectorError, match=r"the threshold 5\.0 and parameters fitted on 'x' with None"):
        TopologyVectors.of(diagrams(threshold=5.0), whole)
    cut = VectorParameters.fit([diagrams(threshold=5.0)], fitted_on="x")
    with pytest.raises(VectorError, match=r"the threshold 6\.0 and parameters fitted on 'x' with 5\.0"):
        TopologyVectors.of(diagrams(threshold=6.0), cut)
    assert (
        TopologyVectors.from_parts(TopologyVectors.of(diagrams(threshold=5.0), cut).to_parts()).provenance.parameters
        == cut
    )


@pytest.mark.parametrize(
    "change",
    [{"resolution": 1}, {"pixels": 0}, {"layers": 0}, {"power": -1.0}, {"power": math.nan}],
)
def test_sizes_out_of_range_are_refused(change):
    with pytest.raises(VectorError, match=f"vectors with {next(iter(change))}"):
        VectorParameters.fit([diagrams()], fitted_on="x", **change)


def test_grids_out_of_range_are_refused():
    with pytest.raises(VectorError, match=r"grid from 1.0 to 1.0"):
        DimensionGrid(1.0, 1.0, 1.0, 1.0)
    with pytest.raises(VectorError, match=r"longest 0\.0"):
        DimensionGrid(0.0, 1.0, 0.0, 1.0)
    with pytest.raises(VectorError, match="bandwidth inf"):
        DimensionGrid(0.0, 1.0, 1.0, math.inf)


def malformed():
    part = TopologyVectors.of(diagrams(), VectorParameters.fit([diagrams()], fitted_on="x")).to_parts()[PART]
    rows = part.to_pylist()

    def changed(**fields):
        return pa.Table.from_pylist([{**rows[0], **fields}, *rows[1:]], schema=part.schema)

    vector = rows[0]["vector"]
    metadata = part.schema.metadata[b"aura"].replace(b'"outside":0', b'"outside":-1')
    return [
        ({}, "got the parts"),
        ({PART: b""}, "got the parts"),
        ({PART: part.replace_schema_metadata(None)}, "not written as vectors"),
        ({PART: part.replace_schema_metadata({b"aura": b"{}"})}, "malformed provenance"),
        (
            {PART: part.replace_schema_metadata({b"aura": metadata})},
            "expected",
        ),
        ({PART: part.drop_columns(["kind"])}, "expected\ndimension"),
        ({PART: part.slice(1)}, "vectors have the rows"),
        ({PART: changed(kind="atol")}, "vectors have the rows"),
        ({PART: changed(vector=vector[1:])}, "has 399 numbers, expected 20 x 20"),
        ({PART: changed(vector=[math.nan, *vector[1:]])}, "holds nan"),
        ({PART: changed(vector=[None, *vector[1:]])}, "holds nulls"),
        ({PART: changed(vector=None)}, "holds nulls"),
    ]


@pytest.mark.parametrize(("parts", "message"), malformed())
def test_malformed_parts_are_refused(parts, message):
    assert SCHEMA.names == ["dimension", "kind", "vector"]
    with pytest.raises(VectorError, match=message):
        TopologyVectors.from_parts(parts)
