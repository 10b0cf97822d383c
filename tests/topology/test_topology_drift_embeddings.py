"""Drift of embeddings: what each test sees, what neither sees, when there is none, and the values that are kept."""

import dataclasses
import functools
import math
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from aura.tiers.values import StoredValue
from aura.topology.cloud import CloudError, EmptyCloudError
from aura.topology.drift.checks import drift_was_tested, no_drift
from aura.topology.drift.embeddings import DriftReference, DriftReferenceError, embedding_drift
from aura.topology.drift.plots import drift_plot
from aura.topology.drift.report import Decided, DriftReport, DriftReportError, Unavailable, Verdict
from aura.topology.drift.routing import routing_drift
from aura.topology.drift.samples import SampleError
from aura.topology.drift.settings import DriftSettings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTINGS = DriftSettings(false_alarms=0.05)
DIMENSION = 32


def clusters(count, seed, *, loop=0.0):
    """Six clusters near the unit sphere; a share of the items lies on a circle between them instead."""
    centres = np.random.default_rng(99).normal(size=(6, DIMENSION)) / math.sqrt(DIMENSION)
    rng = np.random.default_rng(seed)
    points = centres[rng.integers(0, 6, count)]
    angle = rng.uniform(0, 2 * np.pi, count)
    circle = np.zeros((count, DIMENSION))
    circle[:, 0], circle[:, 1] = np.cos(angle), np.sin(angle)
    points = np.where((rng.random(count) < loop)[:, None], circle, points)
    return (points + 0.1 * rng.normal(size=points.shape) / math.sqrt(DIMENSION)).astype(np.float32)


def ids(count, prefix="r"):
    return [f"{prefix}{number}" for number in range(count)]


def reference(vectors, names=None, **more):
    names = ids(len(vectors)) if names is None else names
    return DriftReference.take(names, vectors, model="a model", fingerprint="f00", made_at=NOON, **more)


def drift(before, vectors, names=None, settings=SETTINGS):
    names = ids(len(vectors), "c") if names is None else names
    return embedding_drift(before, names, vectors, model="a model", fingerprint="f00", made_at=NOON, settings=settings)


def rotation(seed=5):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(DIMENSION, DIMENSION)))[0]


def test_a_loop_is_found_by_topology_in_h1():
    report = drift(reference(clusters(400, 1)), clusters(400, 2, loop=0.9))
    assert report.topology.alarm
    by_name = {part.name: part.score for part in report.topology.components}
    assert by_name["H1"] > report.topology.threshold


def test_a_rotated_space_is_seen_by_the_plain_test_and_not_by_topology():
    before = clusters(600, 1)
    report = drift(reference(before), before @ rotation().astype(np.float32), ids(600))
    assert report.shared == 600
    assert report.verdict is Verdict.PLAIN_ALONE
    assert report.drifted


def test_topology_gives_the_same_answer_before_and_after_a_rotation():
    before, now = clusters(400, 1), clusters(400, 2)
    straight = drift(reference(before), now).topology
    turned = drift(reference(before), now @ rotation().astype(np.float32)).topology
    assert straight.p_value == turned.p_value
    assert straight.statistic == pytest.approx(turned.statistic, rel=1e-3)


def test_neither_test_raises_more_false_alarms_than_its_share():
    """At levels of 1/5 each: within four standard deviations of 50 trials, and the whole within as much of the budget.

    A rate of twice the level, or of none, would pass: the rates themselves are measured by `benchmarks/drift.py`.
    """
    trials, settings = 50, DriftSettings(false_alarms=0.4, smallest_block=10, largest_block=10, blocks=8, most_blocks=8)
    reports = [drift(reference(clusters(150, 2 * t)), clusters(150, 2 * t + 1), None, settings) for t in range(trials)]
    width = 4 * math.sqrt(0.2 * 0.8 / trials)
    for name in ("topology", "plain"):
        assert abs(np.mean([getattr(report, name).alarm for report in reports]) - 0.2) < width
    assert np.mean([report.drifted for report in reports]) < 0.4 + width


def test_the_same_items_again_are_no_drift():
    """They are split in two halves of one population: 20 seeds at 1 in 20 each, and six alarms would be one in 3000."""
    vectors = clusters(400, 1)
    alarms = 0
    for seed in range(20):
        settings = DriftSettings(
            false_alarms=0.05, smallest_block=10, largest_block=10, blocks=8, most_blocks=8, seed=seed
        )
        alarms += drift(reference(vectors), vectors, ids(400), settings).drifted
    assert alarms < 6


def test_the_order_of_the_items_does_not_change_the_report():
    before, now = clusters(300, 1), clusters(300, 2)
    order = np.random.default_rng(0).permutation(300)
    names = ids(300, "c")
    straight = drift(reference(before), now, names)
    mixed_reference = reference(before[order], [ids(300)[row] for row in order])
    mixed = drift(mixed_reference, now[order], [names[row] for row in order])
    assert mixed == straight


def test_a_report_is_the_same_at_every_repetition():
    before, now = reference(clusters(300, 1)), clusters(300, 2)
    assert drift(before, now) == drift(before, now)


def test_too_few_items_are_unavailable_with_the_reason_and_no_p_value():
    report = drift(reference(clusters(400, 1)), clusters(12, 2))
    assert isinstance(report.topology, Unavailable)
    assert "20 blocks of 20 items of the reference and 0 now" in report.topology.reason
    assert isinstance(report.plain, Decided)
    alone = drift(reference(clusters(400, 1)), clusters(1, 2))
    assert isinstance(alone.plain, Unavailable)
    assert alone.verdict is Verdict.UNDECIDED
    assert not alone.drifted
    assert "Undecided" in alone.sentence


def test_blocks_that_cannot_reach_the_level_are_unavailable():
    """Three blocks against three can be told apart in ten ways: no p-value is below 1/10."""
    report = drift(reference(clusters(60, 1)), clusters(60, 2))
    assert isinstance(report.topology, Unavailable)
    assert "less than 0.1" in report.topology.reason


def test_vectors_of_another_dimension_leave_the_test_of_shape():
    wider = np.concatenate((clusters(400, 2), np.zeros((400, 3), np.float32)), axis=1)
    report = drift(reference(clusters(400, 1)), wider)
    assert isinstance(report.plain, Unavailable)
    assert "32 coordinates and the current ones 35" in report.plain.reason
    assert isinstance(report.topology, Decided)
    assert not report.topology.alarm


def test_items_that_are_all_the_same_are_no_drift():
    same = np.ones((300, DIMENSION), np.float32)
    report = drift(reference(same), same)
    assert (report.topology.p_value, report.plain.p_value) == (1.0, 1.0)


def test_duplicates_are_drift_where_there_were_none():
    now = clusters(400, 2)
    assert drift(reference(clusters(400, 1)), np.repeat(now[:20], 20, axis=0)).topology.alarm


def test_a_vector_that_is_not_finite_is_refused_with_its_row():
    bad = clusters(30, 1)
    bad[7, 3] = np.nan
    with pytest.raises(CloudError, match="row 7"):
        reference(bad)
    with pytest.raises(CloudError, match="row 7"):
        drift(reference(clusters(30, 1)), bad)
    with pytest.raises(EmptyCloudError):
        drift(reference(clusters(30, 1)), clusters(0, 2))


def test_coordinates_that_float32_rounds_are_rounded_on_both_sides():
    """Far from the origin float32 tells few values apart: one side so and the other not would differ by that alone."""
    vectors = 1e6 + 0.01 * np.random.default_rng(0).normal(size=(600, 3))
    report = drift(reference(vectors), vectors, ids(600))
    assert report.verdict is Verdict.NONE
    assert drift(reference(vectors), vectors.astype(np.float32), ids(600)) == report
    weights = 1000 + 0.001 * np.random.default_rng(1).normal(size=(400, 6))
    route = functools.partial(routing_drift, reference(weights), ids(400), model="a", fingerprint="", window=10)
    assert route(weights) == route(weights.astype(np.float32))


def test_coordinates_beyond_float32_are_refused_with_their_row():
    bad = clusters(30, 1).astype(np.float64)
    bad[7, 3] = 1e60
    before = reference(clusters(30, 1))
    with pytest.raises(CloudError, match=r"row 7 of the cloud holds the coordinate 1e\+60.*3\.4e\+38.*divide"):
        reference(bad)
    with pytest.raises(CloudError, match="row 7"):
        drift(before, bad)
    with pytest.raises(CloudError, match="row 7"):
        routing_drift(before, ids(30), bad, model="a", fingerprint="", window=10)
    with pytest.raises(DriftReferenceError, match=r"'r7' in row 7 is not finite"):
        dataclasses.replace(before, vectors=np.where(np.arange(30)[:, None] == 7, np.float32(np.inf), before.vectors))


def test_ids_that_do_not_match_are_refused():
    with pytest.raises(DriftReferenceError, match="3 ids and 30 vectors"):
        drift(reference(clusters(30, 1)), clusters(30, 2), ids(3))
    with pytest.raises(SampleError, match="'r0' twice"):
        drift(reference(clusters(30, 1)), clusters(2, 2), ["r0", "r0"])


def test_a_large_reference_keeps_a_random_sample_that_does_not_depend_on_order():
    vectors = clusters(300, 1)
    kept = reference(vectors, most=50)
    backwards = reference(vectors[::-1], ids(300)[::-1], most=50)
    assert len(kept.ids) == 50
    assert set(kept.ids) == set(backwards.ids)
    assert kept.side.items == 300
    np.testing.assert_array_equal(kept.vectors[0], vectors[int(kept.ids[0][1:])])


def test_a_reference_comes_back_from_its_parts():
    kept = reference(clusters(30, 1), most=20, seed=4)
    assert isinstance(kept, StoredValue)
    again = DriftReference.from_parts(kept.to_parts())
    assert (again.ids, again.side, again.seed) == (kept.ids, kept.side, kept.seed)
    np.testing.assert_array_equal(again.vectors, kept.vectors)


@pytest.mark.parametrize("count", [0, 1, 12, 300])
def test_a_report_comes_back_from_its_parts(count):
    before = reference(clusters(300, 1))
    report = drift(before, clusters(max(count, 1), 2))
    assert isinstance(report, StoredValue)
    assert DriftReport.from_parts(report.to_parts()) == report


def test_parts_of_something_else_are_refused():
    table = pa.table({"x": [1]})
    for parts in ({}, {"drift": table}, {"drift": b""}):
        with pytest.raises(DriftReportError, match="'drift'"):
            DriftReport.from_parts(parts)
    for parts in ({}, {"reference": table}, {"reference": table.replace_schema_metadata({"aura": "{}"})}):
        with pytest.raises(DriftReferenceError):
            DriftReference.from_parts(parts)
    bare = drift(reference(clusters(30, 1)), clusters(30, 2)).to_parts()["drift"]
    with pytest.raises(DriftReportError, match="metadata"):
        DriftReport.from_parts({"drift": bare.replace_schema_metadata(None)})
    with pytest.raises(DriftReportError, match="malformed"):
        DriftReport.from_parts({"drift": bare.replace_schema_metadata({"aura": "{}"})})


def test_the_check_fails_on_drift_and_says_which_test_found_it():
    report = drift(reference(clusters(400, 1)), clusters(400, 2, loop=0.9))
    result = no_drift(report)
    assert not result.passed
    assert result.description == report.sentence
    assert result.figures["topology_p_value"] == report.topology.p_value
    assert result.figures["plain_threshold"] == report.plain.threshold
    assert drift_was_tested(report).passed


def test_the_check_says_what_could_not_be_tested():
    report = drift(reference(clusters(400, 1)), clusters(12, 2))
    result = drift_was_tested(report)
    assert not result.passed
    assert "topology: too little" in result.description
    assert "topology_p_value" not in no_drift(report).figures


@pytest.mark.parametrize("count", [12, 300])
def test_the_picture_is_a_png(count):
    assert drift_plot(drift(reference(clusters(300, 1)), clusters(count, 2))).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"false_alarms": 0}, "false_alarms 0"),
        ({"false_alarms": 1.5}, "false_alarms 1.5"),
        ({"false_alarms": 1e-6}, "false_alarms 1e-06: expected a probability from 0.0001"),
        ({"distance": "euclidean"}, "distance 'euclidean'"),
        ({"max_dimension": 3}, "max_dimension 3"),
        ({"smallest_block": 200}, "blocks of 200 to 100"),
        ({"blocks": 40}, "40 to 25 blocks"),
        ({"plain_items": 1}, "plain_items 1"),
        ({"most_nodes": 1}, "most_nodes 1"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        DriftSettings(**settings)
