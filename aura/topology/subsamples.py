"""Averaged landscapes: what the persistence landscapes of small random subsamples are on average, with a band.

Chazal, Fasy, Lecci, Michel, Rinaldo, Wasserman, "Subsampling methods for persistent homology" (2015): instead of one
diagram of a cloud that is too large for any, draw `count` subsamples of `size` points each and average their
landscapes. The work and the memory depend on the subsamples alone, so a million points cost what ten thousand do.

What is known then is statistical. The band holds, at once for all layers and scales of a dimension, the expected
landscape of a subsample of that size, with probability about 1 - alpha (multiplier bootstrap; Chazal, Fasy, Lecci,
Rinaldo, Wasserman, "Stochastic convergence of persistence landscapes and silhouettes", 2014). It does not hold the
landscape of the whole cloud: a subsample sees it blurred. How much is bounded where it is asked for: landscapes move by
at most the bottleneck distance, and this by at most twice the covering radius, so the averaged landscape is within
twice the mean covering radius of the subsamples.

Belongs here: drawing, averaging, the band, the stored value. Does not: one diagram of all points or of landmarks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter

from aura.tiers.values import Part
from aura.topology.cloud import checked_cloud
from aura.topology.engine import rips_bars
from aura.topology.kept import kept, kept_table, read_provenance
from aura.topology.vectorise import landscapes

PART = "landscapes"
SCHEMA = pa.schema(
    [
        ("dimension", pa.int8()),
        ("layer", pa.int16()),
        ("scale", pa.float64()),
        ("mean", pa.float64()),
        ("deviation", pa.float64()),
    ]
)
METRIC = "euclidean"
BLOCK_ROWS = 4096

Engine = Callable[[NDArray[np.float64], int], NDArray[np.float64]]
"""From distances [m, m] and the highest dimension to bars [k, 3]: dimension, birth, death."""


class SubsampleError(ValueError):
    """Subsamples cannot be drawn as asked, or averaged landscapes are malformed."""


class Rows(Protocol):
    """Points that need not be in memory: an array, a memory map, or a reader of a file."""

    def __len__(self) -> int:
        """Return the number of points."""
        ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.floating]:
        """Read float32 or float64 [k, d], the points of these row numbers, which are increasing."""
        ...


@dataclass(frozen=True)
class LandscapeProvenance:
    """How averaged landscapes were made and what is known about them.

    Attributes:
        points: Points of the cloud.
        size: Points of a subsample, drawn uniformly without replacement.
        count: Subsamples, drawn independently of each other.
        max_dimension: Highest dimension of homology.
        layers: Layers of the landscapes.
        resolution: Scales from the start to the end of a dimension's range.
        ranges: First and last scale of every dimension.
        outside: Finite bars of every dimension, of all subsamples together, that the range cuts.
        alpha: Probability that the band of one dimension misses the expected landscape somewhere.
        half_widths: Half the width of every dimension's band, in units of the metric.
        resamples: Draws of the multiplier bootstrap.
        bias_bound: Twice the mean covering radius of the subsamples: the averaged landscape is nowhere farther from
            that of the whole cloud. None where it was not computed.
        metric: Name of the distance.
        seed: Seed of the subsamples and of the bootstrap.
    """

    points: int
    size: int
    count: int
    max_dimension: int
    layers: int
    resolution: int
    ranges: tuple[tuple[float, float], ...]
    outside: tuple[int, ...]
    alpha: float
    half_widths: tuple[float, ...]
    resamples: int
    bias_bound: float | None
    metric: str
    seed: int

    def __post_init__(self) -> None:
        _check_sizes(self.points, self.size, self.count)
        _check_shape(self.layers, self.resolution, self.resamples, self.alpha)
        dimensions = self.max_dimension + 1
        if not dimensions == len(self.ranges) == len(self.outside) == len(self.half_widths) >= 1:
            raise SubsampleError(
                f"{len(self.ranges)} ranges, {len(self.outside)} counts and {len(self.half_widths)} bands for the"
                f" dimensions 0 to {self.max_dimension}"
            )
        _check_ranges(self.ranges)
        bounds = (*self.half_widths, *self.outside, self.bias_bound or 0.0)
        if not all(math.isfinite(each) and each >= 0 for each in bounds):
            raise SubsampleError(f"bands, counts and bound {bounds}: expected finite numbers, 0 or more")

    @property
    def guarantee(self) -> str:
        """What holds, in one sentence or two for a reader."""
        band = (
            f"With {1 - self.alpha:.0%} confidence for each dimension, the band holds everywhere the expected landscape"
            f" of {self.size} points drawn from {self.points} (bootstrap over {self.count} subsamples)."
        )
        if self.bias_bound is None:
            return f"{band} How far it is from the landscape of all points is not bounded."
        return f"{band} The average is nowhere farther than {self.bias_bound:.3g} from the landscape of all points."


_PROVENANCE = TypeAdapter(LandscapeProvenance)


@dataclass(frozen=True)
class AveragedLandscapes:
    """The mean landscapes of subsamples with their bands.

    Attributes:
        table: Columns dimension int8, layer int16 (0 is the highest), scale float64, mean float64, deviation float64
            (standard deviation among the subsamples); sorted by the first three.
        provenance: How they were made, the bands and the bound.
    """

    table: pa.Table
    provenance: LandscapeProvenance

    def __post_init__(self) -> None:
        if not self.table.schema.equals(SCHEMA):
            raise SubsampleError(f"averaged landscapes have the columns\n{self.table.schema}\nexpected\n{SCHEMA}")
        expected = _grid_table(self.provenance)
        for name, values in expected.items():
            if self.table[name].null_count or not np.array_equal(self.table[name].to_numpy(), values):
                raise SubsampleError(f"the column {name} of averaged landscapes is not the grid of their provenance")
        for name in ("mean", "deviation"):
            column = self.table[name].to_numpy()
            if self.table[name].null_count or not (np.isfinite(column) & (column >= 0)).all():
                raise SubsampleError(f"the column {name} of averaged landscapes: expected finite numbers, 0 or more")

    def scales(self, dimension: int) -> NDArray[np.float64]:
        """Scales of one dimension: float64 [resolution]."""
        self._check(dimension)
        return _scales(self.provenance.ranges[dimension], self.provenance.resolution)

    def mean(self, dimension: int) -> NDArray[np.float64]:
        """Mean landscapes of one dimension: float64 [layers, resolution]."""
        return self._column(dimension, "mean")

    def deviation(self, dimension: int) -> NDArray[np.float64]:
        """Standard deviation among the subsamples' landscapes: float64 [layers, resolution]."""
        return self._column(dimension, "deviation")

    def band(self, dimension: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper edge of the uniform band, each float64 [layers, resolution]; no landscape is below 0."""
        mean, half_width = self.mean(dimension), self.provenance.half_widths[dimension]
        return np.maximum(mean - half_width, 0.0), mean + half_width

    def to_parts(self) -> Mapping[str, Part]:
        """Take the landscapes apart: one Arrow table with the provenance as JSON in its schema's metadata."""
        return {PART: kept(self.table, self.provenance, _PROVENANCE)}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put landscapes together from what `to_parts` gave.

        Raises:
            SubsampleError: The part is missing or is no table, or its schema, provenance or numbers are malformed.
        """
        table, metadata = kept_table(parts, PART, "averaged landscapes", SubsampleError)
        provenance = read_provenance(metadata, PART, _PROVENANCE, SubsampleError)
        return cls(table=table, provenance=provenance)

    def _column(self, dimension: int, name: str) -> NDArray[np.float64]:
        self._check(dimension)
        rows = self.provenance.layers * self.provenance.resolution
        column: NDArray[np.float64] = self.table[name].to_numpy()[dimension * rows : (dimension + 1) * rows]
        return column.reshape(self.provenance.layers, self.provenance.resolution)

    def _check(self, dimension: int) -> None:
        if not 0 <= dimension <= self.provenance.max_dimension:
            raise SubsampleError(
                f"averaged landscapes have the dimensions 0 to {self.provenance.max_dimension}, asked for {dimension}"
            )


def averaged_landscapes(
    points: Rows,
    *,
    size: int,
    count: int,
    seed: int,
    max_dimension: int = 1,
    layers: int = 3,
    resolution: int = 200,
    ranges: Sequence[tuple[float, float]] | None = None,
    alpha: float = 0.05,
    resamples: int = 1000,
    bound_bias: bool = False,
    engine: Engine = rips_bars,
) -> AveragedLandscapes:
    """Average the landscapes of random subsamples of a cloud in Euclidean distance.

    Holds one subsample at a time: size * d coordinates, size * size distances, and what the engine takes for them. At
    200 structureless points in 384 dimensions that is 21 MB, at 300 it is 267 MB, at 500 more than 5 GB; structured
    clouds take a hundredth. Where the cloud is unknown, pass an engine with a cap.

    Args:
        points: The cloud, [n, d]; anything that gives rows by number.
        size: Points of a subsample, 1 to n.
        count: Subsamples, at least 2; the band is too narrow below about 30.
        seed: Seed of the subsamples and of the bootstrap.
        max_dimension: Highest dimension of homology.
        layers: Layers of the landscapes.
        resolution: Scales in the range of a dimension.
        ranges: First and last scale of every dimension, for instance those of an earlier partition; None: from the
            first birth to the last death that the subsamples have.
        alpha: Probability that a dimension's band misses the expected landscape.
        resamples: Draws of the multiplier bootstrap.
        bound_bias: Also read all points once for every subsample to bound the distance to their landscape: takes
            count * n * size * d multiplications.
        engine: Computes the bars of a subsample.

    Raises:
        SubsampleError: An argument is out of range.
        CloudError: A subsample holds coordinates that are not finite.
    """
    _check_sizes(len(points), size, count)
    _check_shape(layers, resolution, resamples, alpha)
    if ranges is not None and len(ranges) != max_dimension + 1:
        raise SubsampleError(f"{len(ranges)} ranges for the dimensions 0 to {max_dimension}: expected one for each")
    drawing, resampling = (np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(2))
    bars, radii = [], []
    for _ in range(count):
        rows = np.sort(drawing.choice(len(points), size, replace=False))
        cloud = checked_cloud(points[rows])
        bars.append(engine(_distances(cloud), max_dimension))
        if bound_bias:
            radii.append(_covering_radius(points, cloud))
    found = tuple((float(first), float(last)) for first, last in ranges or _found_ranges(bars, max_dimension))
    _check_ranges(found)
    means, deviations, half_widths, outside = [], [], [], []
    for dimension, limits in enumerate(found):
        chosen = [each[each[:, 0] == dimension, 1:] for each in bars]
        samples = np.stack([landscapes(each, _scales(limits, resolution), layers).ravel() for each in chosen])
        means.append(samples.mean(axis=0))
        deviations.append(samples.std(axis=0, ddof=1))
        half_widths.append(band_half_width(samples, alpha=alpha, resamples=resamples, generator=resampling))
        outside.append(sum(_cut(each, limits) for each in chosen))
    provenance = LandscapeProvenance(
        points=len(points),
        size=size,
        count=count,
        max_dimension=max_dimension,
        layers=layers,
        resolution=resolution,
        ranges=found,
        outside=tuple(outside),
        alpha=alpha,
        half_widths=tuple(half_widths),
        resamples=resamples,
        bias_bound=2.0 * float(np.mean(radii)) if radii else None,
        metric=METRIC,
        seed=seed,
    )
    columns = {**_grid_table(provenance), "mean": np.concatenate(means), "deviation": np.concatenate(deviations)}
    return AveragedLandscapes(table=pa.table(columns, schema=SCHEMA), provenance=provenance)


def band_half_width(
    samples: NDArray[np.float64], *, alpha: float, resamples: int, generator: np.random.Generator
) -> float:
    """Half the width of the band around the mean of curves that holds their expectation everywhere at once.

    Multiplier bootstrap: the quantile 1 - alpha of the largest deviation of the mean when every curve's residual is
    multiplied by a standard normal number. Residuals are taken from the mean of the same curves and so are too small by
    sqrt((n - 1) / n); that is put right.

    Args:
        samples: float64 [n, k], one curve a row, independent and alike in distribution, n >= 2.
        alpha: Probability of a miss.
        resamples: Draws.
        generator: Source of the normal numbers.
    """
    count = len(samples)
    residuals = (samples - samples.mean(axis=0)) / math.sqrt(count * (count - 1))
    deviations = np.abs(generator.standard_normal((resamples, count)) @ residuals).max(axis=1)
    return float(np.quantile(deviations, 1 - alpha, method="higher"))


def _check_sizes(points: int, size: int, count: int) -> None:
    if not 1 <= size <= points:
        raise SubsampleError(f"subsamples of {size} points of {points}: expected 1 to {points}")
    if count < 2:
        raise SubsampleError(f"{count} subsamples: expected at least 2, and 30 for a band to be trusted")


def _check_shape(layers: int, resolution: int, resamples: int, alpha: float) -> None:
    if not (1 <= layers <= np.iinfo(np.int16).max and resolution >= 2 and resamples >= 1):
        raise SubsampleError(
            f"{layers} layers, {resolution} scales, {resamples} resamples: expected at least 1, 2 and 1"
        )
    if not 0 < alpha < 1:
        raise SubsampleError(f"alpha {alpha}: expected a probability between 0 and 1")


def _check_ranges(ranges: Sequence[tuple[float, float]]) -> None:
    for first, last in ranges:
        if not (math.isfinite(first) and math.isfinite(last) and first < last):
            raise SubsampleError(f"range from {first} to {last}: expected two finite scales, the first smaller")


def _distances(cloud: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial.distance import pdist, squareform

    distances: NDArray[np.float64] = squareform(pdist(cloud)) if len(cloud) > 1 else np.zeros((1, 1))
    return distances


def _found_ranges(bars: Sequence[NDArray[np.float64]], max_dimension: int) -> list[tuple[float, float]]:
    """First birth and last death among the finite bars of every dimension; 0 to 1 where there are none."""
    together = np.concatenate(bars)
    finite = together[np.isfinite(together).all(axis=1)]
    found = []
    for dimension in range(max_dimension + 1):
        scales = finite[finite[:, 0] == dimension, 1:]
        first, last = float(scales.min(initial=math.inf)), float(scales.max(initial=-math.inf))
        found.append((first, last) if first < last else (0.0, 1.0))
    return found


def _cut(bars: NDArray[np.float64], limits: tuple[float, float]) -> int:
    """How many finite bars [m, 2] begin before the limits or end after them."""
    finite = bars[np.isfinite(bars).all(axis=1)]
    return int(((finite[:, 0] < limits[0]) | (finite[:, 1] > limits[1])).sum())


def _covering_radius(points: Rows, subsample: NDArray[np.float64]) -> float:
    """Largest distance of any point to the nearest of the subsample; products only choose which one is nearest."""
    origin = subsample.mean(axis=0)
    centred = subsample - origin
    norms = np.vecdot(centred, centred)
    largest = 0.0
    for start in range(0, len(points), BLOCK_ROWS):
        block = checked_cloud(points[np.arange(start, min(start + BLOCK_ROWS, len(points)))])
        nearest = np.argmin(norms - 2.0 * ((block - origin) @ centred.T), axis=1)
        largest = max(largest, float(np.linalg.norm(block - subsample[nearest], axis=1).max()))
    return largest


def _scales(limits: tuple[float, float], resolution: int) -> NDArray[np.float64]:
    return np.linspace(limits[0], limits[1], resolution)


def _grid_table(provenance: LandscapeProvenance) -> dict[str, NDArray[np.number]]:
    """The columns that the provenance fixes: dimension, layer, scale."""
    layers, resolution = provenance.layers, provenance.resolution
    scales = [np.tile(_scales(limits, resolution), layers) for limits in provenance.ranges]
    return {
        "dimension": np.repeat(np.arange(len(provenance.ranges), dtype=np.int8), layers * resolution),
        "layer": np.tile(np.repeat(np.arange(layers, dtype=np.int16), resolution), len(provenance.ranges)),
        "scale": np.concatenate(scales),
    }
