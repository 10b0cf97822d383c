"""Averaged landscapes: what they average, how often their band is right, how far they are from the whole cloud."""

import itertools
import math

import numpy as np
import pyarrow as pa
import pytest

from aura.tiers.values import StoredValue
from aura.topology.cloud import CloudError
from aura.topology.engine import rips_bars
from aura.topology.subsamples import (
    PART,
    AveragedLandscapes,
    SubsampleError,
    averaged_landscapes,
    band_half_width,
)
from aura.topology.vectorise import landscapes

RANGES = ((0.0, 2.5), (0.0, 2.5))


def circle(count, seed=0, noise=0.1):
    rng = np.random.default_rng(seed)
    angles = rng.uniform(0, 2 * np.pi, count)
    return np.column_stack((np.cos(angles), np.sin(angles))) + rng.normal(0, noise, (count, 2))


def landscape_of(cloud, scales, dimension, layers=3):
    bars = rips_bars(np.linalg.norm(cloud[:, None] - cloud, axis=2), 1)
    return landscapes(bars[bars[:, 0] == dimension, 1:], scales, layers)


class Reader:
    """Points that are read by row, and a note of how many were asked for at once."""

    def __init__(self, points):
        self.points, self.asked = points, []

    def __len__(self):
        return len(self.points)

    def __getitem__(self, rows):
        assert (np.diff(rows) > 0).all()
        self.asked.append(len(rows))
        return self.points[rows].astype(np.float32)


def within_binomial(hits, trials, probability):
    """Whether a count is within four standard deviations of what the probability says."""
    return abs(hits - trials * probability) <= 4 * math.sqrt(trials * probability * (1 - probability))


def test_subsamples_of_all_points_have_the_landscape_of_the_cloud_and_no_band():
    cloud = circle(40)
    value = averaged_landscapes(cloud, size=40, count=3, seed=1, ranges=RANGES, bound_bias=True)
    np.testing.assert_allclose(value.mean(1), landscape_of(cloud, value.scales(1), 1), atol=1e-12)
    np.testing.assert_allclose(value.mean(0), landscape_of(cloud, value.scales(0), 0), atol=1e-12)
    assert value.provenance.half_widths == pytest.approx((0, 0), abs=1e-12)
    assert value.provenance.bias_bound == 0


def test_the_loop_of_a_circle_is_seen_by_the_average():
    value = averaged_landscapes(circle(2000), size=60, count=30, seed=1)
    lower, upper = value.band(1)
    assert lower[0].max() > 0.3  # the loop is there in 60 points
    assert upper[1].max() < 0.2  # and there is one
    assert (lower <= value.mean(1)).all()
    assert (value.deviation(1)[0].max()) > 0


def test_the_bound_of_the_bias_holds():
    for seed in range(5):
        cloud = circle(150, seed)
        value = averaged_landscapes(cloud, size=60, count=5, seed=seed, ranges=RANGES, bound_bias=True)
        for dimension in (0, 1):
            away = np.abs(value.mean(dimension) - landscape_of(cloud, value.scales(dimension), dimension)).max()
            assert away <= value.provenance.bias_bound
        assert value.provenance.bias_bound < 1.5  # and says something


def test_the_same_seed_gives_the_same_value_and_another_seed_another():
    cloud = circle(100)
    first, again, other = (averaged_landscapes(cloud, size=20, count=4, seed=seed) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_a_reader_gives_what_the_array_gives_and_is_never_asked_for_more_than_a_subsample():
    cloud = circle(5000).astype(np.float32)
    reader = Reader(cloud)
    value = averaged_landscapes(reader, size=25, count=4, seed=2)
    assert value == averaged_landscapes(cloud, size=25, count=4, seed=2)
    assert reader.asked == [25] * 4


def test_a_memory_map_is_read(tmp_path):
    cloud = circle(300)
    np.save(tmp_path / "cloud.npy", cloud)
    mapped = np.load(tmp_path / "cloud.npy", mmap_mode="r")
    assert averaged_landscapes(mapped, size=25, count=4, seed=2) == averaged_landscapes(cloud, size=25, count=4, seed=2)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_band_holds_the_mean_of_a_known_population_as_often_as_it_says(alpha):
    """The population is a finite set of landscapes, so its mean is known exactly."""
    rng = np.random.default_rng(3)
    scales = np.linspace(0, 2.5, 60)
    population = np.stack([landscape_of(circle(15, seed), scales, 1, layers=2).ravel() for seed in range(600)])
    trials = 400
    hits = 0
    for _ in range(trials):
        drawn = population[rng.integers(len(population), size=50)]
        half_width = band_half_width(drawn, alpha=alpha, resamples=400, generator=rng)
        hits += bool(np.abs(drawn.mean(axis=0) - population.mean(axis=0)).max() <= half_width)
    assert within_binomial(hits, trials, 1 - alpha), hits / trials


def test_the_whole_path_covers_the_exact_mean_over_all_subsamples():
    """Ten points have 210 subsamples of six: the expected landscape is their mean, without any estimate."""
    cloud = circle(10, seed=4, noise=0.2)
    scales = np.linspace(*RANGES[0], 40)
    subsets = [cloud[list(rows)] for rows in itertools.combinations(range(10), 6)]
    truth = [np.mean([landscape_of(each, scales, dimension) for each in subsets], axis=0) for dimension in (0, 1)]
    trials, hits = 120, np.zeros(2)
    for seed in range(trials):
        value = averaged_landscapes(
            cloud, size=6, count=40, seed=seed, resolution=40, ranges=RANGES, alpha=0.1, resamples=300
        )
        for dimension in (0, 1):
            lower, upper = value.band(dimension)
            hits[dimension] += bool(((lower <= truth[dimension]) & (truth[dimension] <= upper)).all())
    assert within_binomial(hits[0], trials, 0.9), hits / trials
    assert within_binomial(hits[1], trials, 0.9), hits / trials


def test_bars_that_a_given_range_cuts_are_counted():
    cloud = circle(200)
    value = averaged_landscapes(cloud, size=30, count=4, seed=1, ranges=((0.0, 0.01), (0.0, 5.0)))
    assert value.provenance.outside[0] > 0
    assert value.provenance.outside[1] == 0
    fitted = averaged_landscapes(cloud, size=30, count=4, seed=1)
    assert fitted.provenance.outside == (0, 0)


def test_points_without_any_finite_bar_have_flat_landscapes():
    value = averaged_landscapes(np.zeros((5, 2)), size=1, count=2, seed=0)
    assert value.provenance.ranges == ((0.0, 1.0), (0.0, 1.0))
    np.testing.assert_array_equal(value.mean(0), 0)


def test_the_guarantee_says_what_is_known():
    cloud = circle(100)
    without = averaged_landscapes(cloud, size=20, count=4, seed=1).provenance.guarantee
    assert without.startswith("With 95% confidence for each dimension")
    assert without.endswith("is not bounded.")
    bounded = averaged_landscapes(cloud, size=20, count=4, seed=1, bound_bias=True).provenance.guarantee
    assert "nowhere farther than" in bounded


def test_averaged_landscapes_survive_being_taken_apart():
    for bound_bias in (False, True):
        value = averaged_landscapes(circle(60), size=20, count=4, seed=1, bound_bias=bound_bias)
        assert isinstance(value, StoredValue)
        assert AveragedLandscapes.from_parts(value.to_parts()) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "subsamples of 0 points of 60: expected 1 to 60"),
        ({"size": 61}, "subsamples of 61 points of 60"),
        ({"count": 1}, "1 subsamples: expected at least 2"),
        ({"layers": 0}, "0 layers"),
        ({"resolution": 1}, "1 scales"),
        ({"resamples": 0}, "0 resamples"),
        ({"alpha": 0.0}, r"alpha 0\.0"),
        ({"alpha": math.nan}, "alpha nan"),
        ({"ranges": [(0, 1)]}, "1 ranges for the dimensions 0 to 1"),
        ({"ranges": [(0, 1), (1, 1)]}, r"range from 1\.0 to 1\.0"),
    ],
)
def test_arguments_out_of_range_are_refused(change, message):
    with pytest.raises(SubsampleError, match=message):
        averaged_landscapes(circle(60), **{"size": 20, "count": 4, "seed": 1, **change})


def test_a_cloud_with_nan_is_refused():
    with pytest.raises(CloudError, match="nan"):
        averaged_landscapes(np.full((5, 2), np.nan), size=3, count=2, seed=0)


def test_a_dimension_that_was_not_computed_is_refused():
    with pytest.raises(SubsampleError, match="asked for 2"):
        averaged_landscapes(circle(60), size=20, count=4, seed=1).mean(2)


def malformed():
    part = averaged_landscapes(circle(60), size=20, count=4, seed=1).to_parts()[PART]

    def changed(name, value):
        column = part[name].to_pylist()
        column[0] = value
        field = part.schema.field(name)
        return part.set_column(part.schema.get_field_index(name), field, pa.array(column, field.type))

    metadata = part.schema.metadata[b"aura"]
    return [
        ({}, "got the parts"),
        ({PART: part.replace_schema_metadata(None)}, "not written as averaged landscapes"),
        ({PART: part.replace_schema_metadata({b"aura": b"[]"})}, "malformed provenance"),
        ({PART: part.replace_schema_metadata({b"aura": metadata.replace(b'"count":4', b'"count":1')})}, "1 subsamples"),
        ({PART: part.drop_columns(["layer"])}, "expected\ndimension"),
        ({PART: part.slice(1)}, "the column dimension"),
        ({PART: changed("scale", 7.0)}, "the column scale"),
        ({PART: changed("mean", math.nan)}, "the column mean"),
        ({PART: changed("deviation", -1.0)}, "the column deviation"),
        ({PART: changed("mean", None)}, "the column mean"),
    ]


@pytest.mark.parametrize(("parts", "message"), malformed())
def test_malformed_parts_are_refused(parts, message):
    with pytest.raises(SubsampleError, match=message):
        AveragedLandscapes.from_parts(parts)
