"""Cycles of the longest H1 bars: closed forms, and an independent check over two elements that they stand for a bar."""

import itertools
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aura.tiers.values import StoredValue
from aura.topology.cycles import PART, Cycle, CycleError, RepresentativeCycles, representative_cycles
from aura.topology.engine import rips_bars


def euclidean(points):
    return np.linalg.norm(points[:, None] - points, axis=2)


def polygon(count):
    angles = 2 * np.pi * np.arange(count) / count
    return np.column_stack((np.cos(angles), np.sin(angles)))


def wedge(first, second):
    """Two metric spaces glued at the point 0 of either; a path between them leads over it."""
    across = first[:, [0]] + second[[0], 1:]
    return np.block([[first, across], [across.T, second[1:, 1:]]])


def torus(count, seed):
    rng = np.random.default_rng(seed)
    angles = rng.uniform(0, 2 * np.pi, (count, 2))
    around, across = angles.T
    ring = 2 + np.cos(across)
    return np.column_stack((ring * np.cos(around), ring * np.sin(around), np.sin(across))), angles


def windings(angles, vertices):
    """How often a closed walk goes around the torus in either direction."""
    steps = np.roll(angles[list(vertices)], -1, axis=0) - angles[list(vertices)]
    return np.abs(np.round(((steps + np.pi) % (2 * np.pi) - np.pi).sum(axis=0) / (2 * np.pi))).astype(int).tolist()


def rank(rows):
    """Rank over two elements of vectors that are given as integers."""
    basis = {}
    for row in rows:
        rest = row
        while rest.bit_length() in basis:
            rest ^= basis[rest.bit_length()]
        if rest:
            basis[rest.bit_length()] = rest
    return len(basis)


class Complex:
    """All edges and triangles of a small Rips filtration; chains of edges are bits of integers."""

    def __init__(self, distances):
        self.distances, count = distances, len(distances)
        self.bit = {edge: 1 << n for n, edge in enumerate(itertools.combinations(range(count), 2))}
        self.triangles = [
            (max(distances[a, b], distances[a, c], distances[b, c]), self.chain([a, b, c]))
            for a, b, c in itertools.combinations(range(count), 3)
        ]

    def chain(self, vertices):
        edges = [tuple(sorted(edge)) for edge in zip(vertices, [*vertices[1:], vertices[0]], strict=True)]
        return sum(self.bit[edge] for edge in edges)

    def boundaries(self, scale):
        return [chain for diameter, chain in self.triangles if diameter <= scale]

    def cycles_before(self, scale):
        """A basis of all cycles among the edges shorter than a scale: one for every edge off a spanning forest."""
        found = []
        shorter = [edge for edge in self.bit if self.distances[edge] < scale]
        component = {vertex: {vertex: 0} for vertex in range(len(self.distances))}
        for a, b in shorter:
            if component[a] is component[b]:
                found.append(component[a][a] ^ component[a][b] ^ self.bit[a, b])
                continue
            joined, offset = component[a], component[a][a] ^ self.bit[a, b] ^ component[b][b]
            for vertex, path in list(component[b].items()):
                joined[vertex] = path ^ offset
                component[vertex] = joined
        return found

    def is_filled(self, cycle, scale):
        boundaries = self.boundaries(scale)
        return rank([*boundaries, cycle]) == rank(boundaries)

    def is_older(self, cycle, birth, scale):
        """Whether at a scale the cycle is homologous to one that was there before the birth."""
        older = [*self.boundaries(scale), *self.cycles_before(birth)]
        return rank([*older, cycle]) == rank(older)


def check(cycle, distances):
    """Born at the birth, older or nothing from the death on and not before; filled at the death if it says so."""
    complex_ = Complex(distances)
    edges = zip(cycle.vertices, [*cycle.vertices[1:], cycle.vertices[0]], strict=True)
    lengths = [distances[edge] for edge in edges]
    assert max(lengths) == cycle.birth
    assert sum(lengths) == pytest.approx(cycle.perimeter)
    chain = complex_.chain(list(cycle.vertices))
    scales = np.unique(distances)
    last_alive = scales[scales < cycle.death].max()
    assert not complex_.is_older(chain, cycle.birth, cycle.birth)
    assert not complex_.is_older(chain, cycle.birth, last_alive)
    assert complex_.is_older(chain, cycle.birth, cycle.death)
    assert complex_.is_filled(chain, cycle.death) == cycle.exact


@pytest.mark.parametrize("count", [4, 5, 6, 7, 12, 30, 31])
def test_the_loop_of_a_polygon_is_all_its_vertices_in_order(count):
    (cycle,) = representative_cycles(euclidean(polygon(count)), count=1).cycles
    assert cycle.vertices == tuple(range(count))
    assert cycle.exact
    assert cycle.birth == pytest.approx(2 * math.sin(math.pi / count))
    assert cycle.death == pytest.approx(2 * math.sin(math.pi * math.ceil(count / 3) / count))
    assert cycle.perimeter == pytest.approx(count * cycle.birth)


def test_a_figure_eight_has_its_two_loops():
    distances = wedge(euclidean(polygon(9)), 2 * euclidean(polygon(7)))
    large, small = representative_cycles(distances, count=2).cycles
    assert large.vertices == (0, *range(9, 15))
    assert small.vertices == tuple(range(9))
    assert large.exact
    assert small.exact


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_two_longest_loops_of_a_torus_are_independent(seed):
    points, angles = torus(300, seed)
    found = representative_cycles(euclidean(points), count=2)
    (a, b), (c, d) = (windings(angles, cycle.vertices) for cycle in found.cycles)
    assert (a * d - b * c) % 2 == 1
    assert all(cycle.exact for cycle in found.cycles)
    assert found.provenance.bars > 2


@given(st.integers(0, 10**6), st.integers(6, 12), st.integers(2, 3))
@settings(max_examples=40, deadline=None)
def test_cycles_of_random_clouds_stand_for_their_bars(seed, count, dimension):
    distances = euclidean(np.random.default_rng(seed).normal(size=(count, dimension)))
    for cycle in representative_cycles(distances).cycles:
        check(cycle, distances)


@given(st.integers(0, 10**6), st.integers(5, 11), st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_cycles_under_many_equal_distances_stand_for_their_bars(seed, count, largest):
    """Whole numbers as distances, also without a triangle inequality: every order among ties has to do."""
    whole = np.triu(np.random.default_rng(seed).integers(1, largest + 1, (count, count)), 1).astype(float)
    distances = whole + whole.T
    for cycle in representative_cycles(distances, count=20).cycles:
        check(cycle, distances)


def test_a_lattice_on_a_flat_torus_has_loops_both_ways():
    apart = np.abs(np.subtract.outer(np.arange(8), np.arange(8)))
    around = np.minimum(apart, 8 - apart)
    column, row = np.divmod(np.arange(64), 8)
    distances = np.maximum(around[np.ix_(column, column)], around[np.ix_(row, row)]).astype(float)
    found = representative_cycles(distances, count=3).cycles
    assert [(cycle.birth, cycle.death, len(cycle.vertices)) for cycle in found] == [(1, 3, 8), (1, 3, 8)]
    angles = np.column_stack((column, row)) * 2 * np.pi / 8
    (a, b), (c, d) = (windings(angles, cycle.vertices) for cycle in found)
    assert (a * d - b * c) % 2 == 1


def test_every_bar_has_a_cycle_of_its_own():
    distances = euclidean(np.random.default_rng(5).normal(size=(60, 3)))
    bars = rips_bars(distances, 1)
    bars = bars[bars[:, 0] == 1, 1:]
    found = representative_cycles(distances, count=1000)
    assert found.provenance.bars == len(bars) == len(found.cycles)
    np.testing.assert_array_equal(
        sorted((cycle.birth, cycle.death) for cycle in found.cycles), sorted(map(tuple, bars))
    )
    lengths = [cycle.death - cycle.birth for cycle in found.cycles]
    assert lengths == sorted(lengths, reverse=True)
    assert len({cycle.vertices for cycle in found.cycles}) == len(bars)


def test_duplicate_points_do_not_disturb():
    (cycle,) = representative_cycles(euclidean(np.repeat(polygon(6), 2, axis=0)), count=1).cycles
    assert {vertex // 2 for vertex in cycle.vertices} == set(range(6))
    assert cycle.exact


def test_the_numbers_of_landmarks_are_reported():
    rows = np.array([90, 80, 70, 60, 50])
    (cycle,) = representative_cycles(euclidean(polygon(5)), rows=rows, metric="cosine").cycles
    assert cycle.vertices == (90, 80, 70, 60, 50)


def test_an_asymmetry_by_rounding_changes_nothing():
    distances = euclidean(polygon(6))
    tilted = distances.copy()
    tilted[np.tril_indices(6, -1)] -= 1e-15
    assert representative_cycles(tilted) == representative_cycles(distances)


def test_a_network_without_all_edges_has_loops_that_never_end():
    distances = np.full((5, 5), np.inf)
    np.fill_diagonal(distances, 0)
    for one in range(5):
        distances[one, (one + 1) % 5] = distances[(one + 1) % 5, one] = 1.0

    def engine(matrix, max_dimension):
        return np.array([[0, 0, np.inf], [1, 1.0, np.inf]])

    (cycle,) = representative_cycles(distances, engine=engine).cycles
    assert cycle.vertices == (0, 1, 2, 3, 4)
    assert cycle.exact
    assert cycle.death == math.inf


def test_without_steps_the_cycles_are_still_born_with_their_bars_but_not_decided():
    points, _ = torus(150, 1)
    distances = euclidean(points)
    found = representative_cycles(distances, most_steps=10).cycles
    assert found[0].exact is None
    for cycle in found:
        edges = zip(cycle.vertices, [*cycle.vertices[1:], cycle.vertices[0]], strict=True)
        assert max(distances[edge] for edge in edges) == cycle.birth


@pytest.mark.parametrize("points", [np.zeros((1, 2)), np.zeros((4, 2)), np.eye(3)])
def test_a_cloud_without_a_loop_has_no_cycles(points):
    found = representative_cycles(euclidean(points))
    assert found.cycles == ()
    assert RepresentativeCycles.from_parts(found.to_parts()) == found


@pytest.mark.parametrize(
    ("distances", "message"),
    [
        (np.zeros((2, 3)), r"shape \(2, 3\)"),
        (np.zeros((0, 0)), "m >= 1"),
        (np.array([[0, np.nan], [np.nan, 0]]), "NaN or negative"),
        (np.array([[0.0, -1.0], [-1.0, 0.0]]), "NaN or negative"),
    ],
)
def test_what_is_no_distance_matrix_is_refused(distances, message):
    with pytest.raises(CycleError, match=message):
        representative_cycles(distances)


def test_arguments_out_of_range_are_refused():
    distances = euclidean(polygon(5))
    with pytest.raises(CycleError, match="-1 cycles"):
        representative_cycles(distances, count=-1)
    with pytest.raises(CycleError, match="expected a number for each of 5 points"):
        representative_cycles(distances, rows=np.arange(4))
    with pytest.raises(CycleError, match=r"no edge of length 0\.5 bears a loop"):
        representative_cycles(distances, engine=lambda matrix, top: np.array([[1, 0.5, 0.75]]))


def test_cycles_survive_being_taken_apart():
    points, _ = torus(80, 1)
    for steps in (10, 10**6):
        value = representative_cycles(euclidean(points), most_steps=steps)
        assert isinstance(value, StoredValue)
        assert RepresentativeCycles.from_parts(value.to_parts()) == value


def malformed():
    part = representative_cycles(euclidean(polygon(5))).to_parts()[PART]
    (row,) = part.to_pylist()

    def changed(**fields):
        return pa.Table.from_pylist([{**row, **fields}], schema=part.schema)

    return [
        ({}, "got the parts"),
        ({PART: part.drop_columns(["exact"])}, "expected\nbirth"),
        ({PART: part.replace_schema_metadata(None)}, "not written as cycles"),
        ({PART: part.replace_schema_metadata({b"aura": b"1"})}, "malformed provenance"),
        ({PART: changed(birth=None)}, r"nulls in \['birth'\]"),
        ({PART: changed(vertices=None)}, r"nulls in \['vertices'\]"),
        ({PART: changed(vertices=[0, 1])}, "expected 3 different"),
        ({PART: changed(vertices=[0, 1, 1])}, "expected 3 different"),
        ({PART: changed(vertices=[0, -1, 1])}, "expected 3 different"),
        ({PART: changed(death=0.1)}, "birth < death"),
        ({PART: changed(perimeter=math.nan)}, "birth <= perimeter"),
    ]


@pytest.mark.parametrize(("parts", "message"), malformed())
def test_malformed_parts_are_refused(parts, message):
    assert Cycle(1.0, 2.0, 4.0, exact=None, vertices=(0, 1, 2, 3)).exact is None
    with pytest.raises(CycleError, match=message):
        RepresentativeCycles.from_parts(parts)
