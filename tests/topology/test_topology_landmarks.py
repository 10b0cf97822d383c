"""Landmarks cover the cloud within the radius that they state."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.spatial.distance import cdist

from aura.topology.cloud import CloudError, EmptyCloudError
from aura.topology.landmarks import farthest_point_landmarks

clouds = arrays(
    np.float64,
    array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=15),
    elements=st.floats(-1e3, 1e3).map(lambda x: round(x, 3)),
)


@given(points=clouds, count=st.integers(1, 18), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_the_stated_radius_is_the_largest_distance_to_the_nearest_landmark(points, count, seed):
    landmarks = farthest_point_landmarks(points, count, seed=seed)
    farthest = cdist(points, points[landmarks.indices]).min(axis=1).max()
    assert landmarks.covering_radius == pytest.approx(farthest, rel=1e-6, abs=1e-4)
    assert landmarks.covering_radius >= farthest * (1 - 1e-12)


@given(points=clouds, count=st.integers(1, 18), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_landmarks_are_as_many_different_points_as_asked_for_or_all_there_are(points, count, seed):
    landmarks = farthest_point_landmarks(points, count, seed=seed)
    distinct = len(np.unique(points, axis=0))
    assert len(landmarks.indices) == min(count, distinct)
    assert len(np.unique(points[landmarks.indices], axis=0)) == len(landmarks.indices)
    assert (landmarks.covering_radius == 0) == (count >= distinct)


def test_each_landmark_is_the_point_farthest_from_all_before_it():
    points = np.random.default_rng(3).normal(size=(200, 5))
    indices = farthest_point_landmarks(points, 40, seed=1).indices
    distances = cdist(points, points)
    for k in range(1, 40):
        assert indices[k] == np.argmax(distances[:, indices[:k]].min(axis=1))


def test_fewer_landmarks_are_a_prefix_of_more():
    points = np.random.default_rng(4).normal(size=(300, 16)).astype(np.float32)
    many = farthest_point_landmarks(points, 100, seed=9).indices
    few = farthest_point_landmarks(points, 50, seed=9).indices
    np.testing.assert_array_equal(many[:50], few)


def test_the_radius_is_within_twice_the_best_possible():
    # 4 tight clusters: four landmarks can cover within 0.01, so the greedy ones have to within 0.02.
    centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], dtype=float)
    offsets = np.random.default_rng(0).uniform(-0.005, 0.005, size=(4, 50, 2))
    points = (centres[:, None] + offsets).reshape(-1, 2)
    assert farthest_point_landmarks(points, 4, seed=0).covering_radius <= 0.02


def test_the_radius_keeps_its_digits_far_from_the_origin():
    offsets = np.array([[0.0, 0.0], [1e-3, 0.0], [3e-3, 0.0], [7e-3, 0.0]])
    points = offsets + 1e6
    landmarks = farthest_point_landmarks(points, 3, seed=0)
    assert landmarks.covering_radius == pytest.approx(1e-3, rel=1e-6)


def test_duplicates_are_covered_by_one_landmark_each():
    points = np.repeat(np.random.default_rng(1).normal(size=(7, 384)), 30, axis=0).astype(np.float32)
    landmarks = farthest_point_landmarks(points, 50, seed=0)
    assert len(landmarks.indices) == 7
    assert landmarks.covering_radius == 0.0


def test_positive_and_negative_zero_are_the_same_point():
    landmarks = farthest_point_landmarks(np.array([[0.0, 1.0], [-0.0, 1.0]]), 2, seed=0)
    assert len(landmarks.indices) == 1


def test_the_seed_decides_the_first_landmark_and_repeats_it():
    points = np.random.default_rng(2).normal(size=(500, 3))
    firsts = {int(farthest_point_landmarks(points, 2, seed=seed).indices[0]) for seed in range(8)}
    assert len(firsts) > 1
    np.testing.assert_array_equal(
        farthest_point_landmarks(points, 20, seed=5).indices, farthest_point_landmarks(points, 20, seed=5).indices
    )


def test_an_empty_cloud_is_refused():
    with pytest.raises(EmptyCloudError, match="no points"):
        farthest_point_landmarks(np.empty((0, 3)), 5, seed=0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200])
def test_a_coordinate_that_cannot_be_measured_is_refused_with_its_row(value):
    points = np.ones((5, 3))
    points[3, 1] = value
    with pytest.raises(CloudError, match="row 3 of the cloud holds the coordinate"):
        farthest_point_landmarks(points, 2, seed=0)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.ones(4), r"\[points, coordinates\]"),
        (np.ones((4, 0)), "at least one coordinate"),
        (np.ones((4, 2), dtype=np.int64), "expected float32 or float64"),
    ],
)
def test_an_array_that_is_no_cloud_is_refused(points, message):
    with pytest.raises(CloudError, match=message):
        farthest_point_landmarks(points, 2, seed=0)


def test_no_landmarks_at_all_are_refused():
    with pytest.raises(ValueError, match="expected at least 1"):
        farthest_point_landmarks(np.ones((4, 2)), 0, seed=0)
