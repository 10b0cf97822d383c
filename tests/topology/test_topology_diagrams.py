"""Diagrams keep their bars, their provenance and what is certain about them, and refuse what is malformed."""

import math

import numpy as np
import pyarrow as pa
import pytest
from gudhi.representations import BettiCurve, Entropy
from hypothesis import given
from hypothesis import strategies as st

from aura.tiers.values import StoredValue
from aura.topology.checks import births_before_deaths, finite_h1
from aura.topology.diagrams import Attempt, DiagramError, DiagramProvenance, PersistenceDiagrams
from aura.topology.plots import barcode, betti_curves, persistence_diagram
from aura.topology.vectorise import betti_curve, persistence_entropy

BARS = np.array([[0, 0, 0.5], [0, 0, 1.0], [0, 0, np.inf], [1, 1.0, 1.2], [1, 1.5, 3.5]])


def provenance(covering_radius=0.1, max_dimension=1):
    return DiagramProvenance(
        points=10,
        landmarks=3,
        covering_radius=covering_radius,
        metric="euclidean",
        engine="a test",
        seed=7,
        max_dimension=max_dimension,
        attempts=(Attempt(6, "passed the memory limit of 1 bytes"), Attempt(3, "done")),
    )


def diagrams(bars=BARS, covering_radius=0.1, max_dimension=1):
    return PersistenceDiagrams.from_bars(bars, provenance(covering_radius, max_dimension))


bar_lists = st.lists(
    st.tuples(st.floats(0, 100), st.floats(0.001, 100)).map(lambda bar: (bar[0], bar[0] + bar[1])), min_size=1
).map(np.array)


def test_a_finite_bar_is_certified_when_it_is_longer_than_four_covering_radii():
    value = diagrams(covering_radius=0.2)
    np.testing.assert_array_equal(value.certified(0), [False, True, False])
    np.testing.assert_array_equal(value.certified(1), [False, True])


def test_every_finite_bar_is_certified_when_the_diagrams_are_exact():
    value = diagrams(covering_radius=0.0)
    np.testing.assert_array_equal(value.certified(0), [True, True, False])
    np.testing.assert_array_equal(value.certified(1), [True, True])
    assert value.provenance.bottleneck_bound == 0.0


def test_the_bound_is_twice_the_covering_radius():
    assert provenance(covering_radius=0.25).bottleneck_bound == 0.5


def test_bars_come_back_by_dimension():
    np.testing.assert_array_equal(diagrams().bars(1), [[1.0, 1.2], [1.5, 3.5]])
    np.testing.assert_array_equal(diagrams().bars(0)[:, 1], [0.5, 1.0, np.inf])


def test_totals_and_entropy_leave_the_essential_class_out():
    value = diagrams()
    assert value.total_persistence(0) == 1.5
    assert value.entropy(0) == pytest.approx(-(math.log(1 / 3) / 3 + 2 * math.log(2 / 3) / 3))


def test_a_dimension_that_was_not_computed_is_refused():
    with pytest.raises(DiagramError, match="asked for 2: compute them with a higher max_dimension"):
        diagrams().bars(2)


def test_diagrams_survive_being_taken_apart():
    value = diagrams()
    assert isinstance(value, StoredValue)
    again = PersistenceDiagrams.from_parts(value.to_parts())
    assert again == value
    assert again.provenance.attempts[0].outcome.startswith("passed the memory limit")


def test_the_same_diagrams_have_the_same_bytes():
    def encoded(value):
        sink = pa.BufferOutputStream()
        table = value.to_parts()["bars"]
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue().to_pybytes()

    chunked = pa.concat_tables([diagrams(BARS[:2]).table, diagrams(BARS[2:]).table])
    assert encoded(diagrams()) == encoded(PersistenceDiagrams(chunked, provenance()))


def test_a_single_point_has_diagrams_with_one_endless_bar_and_survives():
    value = diagrams(np.array([[0.0, 0.0, np.inf]]), covering_radius=0.0)
    assert PersistenceDiagrams.from_parts(value.to_parts()) == value
    assert value.bars(1).shape == (0, 2)
    assert value.total_persistence(1) == value.entropy(1) == 0.0


def test_parts_that_are_no_diagrams_are_refused():
    good = diagrams().to_parts()["bars"]
    with pytest.raises(DiagramError, match="got the parts"):
        PersistenceDiagrams.from_parts({"weights": b""})
    with pytest.raises(DiagramError, match="no metadata"):
        PersistenceDiagrams.from_parts({"bars": good.replace_schema_metadata(None)})
    with pytest.raises(DiagramError, match="malformed provenance"):
        PersistenceDiagrams.from_parts({"bars": good.replace_schema_metadata({b"aura": b'{"points": 3, "form": 2}'})})
    with pytest.raises(DiagramError, match="the form 1, expected 2: compute the diagrams again"):
        PersistenceDiagrams.from_parts({"bars": good.replace_schema_metadata({b"aura": b'{"points": 3}'})})
    with pytest.raises(DiagramError, match="have the columns"):
        PersistenceDiagrams.from_parts({"bars": good.drop_columns(["death"])})


def test_bars_that_contradict_the_provenance_are_refused():
    with pytest.raises(DiagramError, match="bar of dimension 1, expected 0 to 0"):
        diagrams(max_dimension=0)
    with pytest.raises(DiagramError, match="certified does not follow"):
        PersistenceDiagrams(diagrams(covering_radius=0.0).table, provenance(covering_radius=0.2))


def test_nulls_are_refused():
    table = diagrams().table
    nulls = pa.array([None] * len(table), pa.float64())
    with pytest.raises(DiagramError, match=r"nulls in \['death'\]"):
        PersistenceDiagrams(table.set_column(2, "death", nulls), provenance())


@pytest.mark.parametrize("radius", [-1.0, math.nan, math.inf])
def test_a_covering_radius_that_is_no_distance_is_refused(radius):
    with pytest.raises(DiagramError, match="covering radius"):
        provenance(covering_radius=radius)


def test_the_checks_pass_on_good_bars():
    assert births_before_deaths(diagrams()).passed
    assert finite_h1(diagrams()).passed
    assert finite_h1(diagrams()).figures == {"h1_bars": 2.0, "without_end": 0.0}


def test_a_bar_that_dies_before_its_birth_fails_the_check():
    result = births_before_deaths(diagrams(np.array([[0, 0, np.inf], [1, 2.0, 1.0], [1, np.nan, 1.0]])))
    assert not result.passed
    assert result.figures == {"bars": 3.0, "violations": 2.0}


def test_a_loop_that_never_dies_fails_the_check():
    result = finite_h1(diagrams(np.array([[0, 0, np.inf], [1, 1.0, np.inf]])))
    assert not result.passed
    assert result.figures["without_end"] == 1.0


@given(bar_lists)
def test_entropy_is_gudhis(bars):
    assert persistence_entropy(bars) == pytest.approx(
        float(Entropy(mode="scalar", normalized=False).fit_transform([bars])[0, 0]), rel=1e-6, abs=1e-6
    )


@given(bar_lists)
def test_betti_curves_are_gudhis(bars):
    scales = np.linspace(-1, 201, 57)
    reference = BettiCurve(predefined_grid=scales).fit_transform([bars])[0]
    np.testing.assert_array_equal(betti_curve(bars, scales), reference)


def test_equally_long_bars_have_the_largest_entropy():
    assert persistence_entropy(np.array([[0.0, 1.0]] * 8)) == pytest.approx(math.log(8))


@pytest.mark.parametrize("plot", [barcode, persistence_diagram, betti_curves])
@pytest.mark.parametrize(
    "value",
    [
        diagrams(),
        diagrams(covering_radius=0.0),
        diagrams(covering_radius=9.0),
        diagrams(np.array([[0.0, 0.0, np.inf]])),
        diagrams(np.column_stack((np.ones(3000), np.linspace(0, 1, 3000), np.linspace(1, 3, 3000)))),
    ],
    ids=["bound", "exact", "vacuous", "point", "many"],
)
def test_plots_are_small_pictures(plot, value):
    png = plot(value)
    assert png.startswith(b"\x89PNG\r\n")
    assert len(png) < 60_000


def test_the_picture_of_certified_bars_differs_from_that_of_doubtful_ones():
    assert barcode(diagrams(covering_radius=0.0)) != barcode(diagrams(covering_radius=9.0))
    assert persistence_diagram(diagrams(covering_radius=0.0)) != persistence_diagram(diagrams(covering_radius=0.1))
