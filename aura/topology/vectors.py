"""Diagrams as vectors of fixed length: parameters that are fitted once, and the vectors as a stored value.

Vectors of different partitions are comparable only where they were made on the same grid. So the grid is fitted on one
set of diagrams, given a name, and used unchanged afterwards. What a later partition has outside of the grid is counted
beside its vectors.

Belongs here: which grid, which vectors, how they are kept. Does not: their mathematics (`aura.topology.vectorise`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter

from aura.tiers.values import Part
from aura.topology.diagrams import PersistenceDiagrams
from aura.topology.kept import kept, kept_table, read_provenance
from aura.topology.vectorise import betti_curve, landscapes, persistence_entropy, persistence_image, silhouette

PART = "vectors"
SCHEMA = pa.schema([("dimension", pa.int8()), ("kind", pa.string()), ("vector", pa.list_(pa.float64()))])
IMAGE, LANDSCAPES, SILHOUETTE, BETTI, ENTROPY = "image", "landscapes", "silhouette", "betti", "entropy"
KINDS = (IMAGE, LANDSCAPES, SILHOUETTE, BETTI, ENTROPY)
HEADROOM = 0.25
"""Share of the fitted range that is added to it, so that a later partition that is a little wider still fits."""


class VectorError(ValueError):
    """Vectors or their parameters are malformed, or do not belong to the diagrams."""


@dataclass(frozen=True)
class DimensionGrid:
    """Where the bars of one dimension are looked at, in the unit of the filtration.

    Attributes:
        start: Smallest scale of the curves and smallest birth of the image.
        stop: Largest scale of the curves and largest birth of the image.
        longest: Length of the longest bar of the image; a bar of this length has weight 1.
        bandwidth: Standard deviation of the image's Gaussians.
    """

    start: float
    stop: float
    longest: float
    bandwidth: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.stop) and self.start < self.stop):
            raise VectorError(f"grid from {self.start} to {self.stop}: expected two finite scales, the first smaller")
        for name, value in (("longest", self.longest), ("bandwidth", self.bandwidth)):
            if not (math.isfinite(value) and value > 0):
                raise VectorError(f"grid with {name} {value}: expected a finite number above 0")


@dataclass(frozen=True)
class VectorParameters:
    """What makes vectors comparable: the grid of every dimension and the sizes.

    Attributes:
        grids: The grid of dimension 0, 1 and so on.
        fitted_on: Name of the partition that the grids were fitted on.
        filtration: Name of the diagrams' filtration.
        scale: What a birth and a death of theirs are.
        resolution: Scales of the curves, at least 2.
        pixels: Pixels along either side of an image, at least 1.
        layers: Layers of the landscapes, at least 1.
        power: Power of the lengths that weigh a silhouette, 0 or more.
        threshold: Value at which the diagrams' filtration was cut; None: it was not.
    """

    grids: tuple[DimensionGrid, ...]
    fitted_on: str
    filtration: str
    scale: str
    resolution: int = 128
    pixels: int = 20
    layers: int = 5
    power: float = 1.0
    threshold: float | None = None

    def __post_init__(self) -> None:
        if not self.grids:
            raise VectorError("vectors of no dimension: expected a grid for dimension 0 at least")
        for name, value, least in (
            ("resolution", self.resolution, 2),
            ("pixels", self.pixels, 1),
            ("layers", self.layers, 1),
            ("power", self.power, 0),
        ):
            if not (math.isfinite(value) and value >= least):
                raise VectorError(f"vectors with {name} {value}: expected a finite number, {least} or more")

    @classmethod
    def fit(
        cls,
        diagrams: Sequence[PersistenceDiagrams],
        *,
        fitted_on: str,
        resolution: int = 128,
        pixels: int = 20,
        layers: int = 5,
        power: float = 1.0,
    ) -> Self:
        """Fit the grids to a set of diagrams, with `HEADROOM` around what they hold.

        The bandwidth is the larger side of a pixel: what is smaller than a pixel does not decide on which side of an
        edge a bar counts. A filtration without negative values gets a grid without them. A dimension without finite
        bars gets the grid of the scales that the others have, so that bars that appear later have a place.

        Args:
            diagrams: At least one; all with the same number of dimensions.
            fitted_on: Name of the partition that they belong to.
            resolution: Scales of the curves.
            pixels: Pixels along either side of an image.
            layers: Layers of the landscapes.
            power: Power of the lengths that weigh a silhouette.

        Raises:
            VectorError: There are no diagrams, they differ in dimension, or a size is out of range.
            DiagramError: They are of different filtrations, or cut at different thresholds.
        """
        found = {value.provenance.max_dimension for value in diagrams}
        if len(found) != 1:
            raise VectorError(
                f"vectors are fitted on diagrams of the max_dimensions {sorted(found)}: pass at least one, all alike"
            )
        first, *others = (value.provenance for value in diagrams)
        for other in others:
            first.require_comparable(other)
        dimensions = range(found.pop() + 1)
        bars = [np.concatenate([value.bars(dimension) for value in diagrams]) for dimension in dimensions]
        fallback = _scale_range(np.concatenate(bars))
        grids = tuple(_fitted_grid(each, pixels, fallback) for each in bars)
        return cls(
            grids=grids,
            fitted_on=fitted_on,
            filtration=first.filtration,
            scale=first.scale,
            resolution=resolution,
            pixels=pixels,
            layers=layers,
            power=power,
            threshold=first.threshold,
        )

    def scales(self, dimension: int) -> NDArray[np.float64]:
        """Scales of the curves of one dimension: float64 [resolution]."""
        grid = self.grid(dimension)
        return np.linspace(grid.start, grid.stop, self.resolution)

    def edges(self, dimension: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Edges of an image's pixels: of births and of lengths, each float64 [pixels + 1]."""
        grid = self.grid(dimension)
        return np.linspace(grid.start, grid.stop, self.pixels + 1), np.linspace(0.0, grid.longest, self.pixels + 1)

    def grid(self, dimension: int) -> DimensionGrid:
        """The grid of one dimension.

        Raises:
            VectorError: There is none for this dimension.
        """
        if not 0 <= dimension < len(self.grids):
            raise VectorError(
                f"vectors have the dimensions 0 to {len(self.grids) - 1}, asked for {dimension}:"
                " fit them on diagrams with a higher max_dimension"
            )
        return self.grids[dimension]

    def shape(self, kind: str) -> tuple[int, ...]:
        """Shape of one kind of vector before it is flattened, row after row.

        Raises:
            VectorError: There is no such kind.
        """
        shapes = {
            IMAGE: (self.pixels, self.pixels),
            LANDSCAPES: (self.layers, self.resolution),
            SILHOUETTE: (self.resolution,),
            BETTI: (self.resolution,),
            ENTROPY: (1,),
        }
        if kind not in shapes:
            raise VectorError(f"there are no vectors of the kind {kind!r}: expected one of {', '.join(KINDS)}")
        return shapes[kind]


@dataclass(frozen=True)
class BarCounts:
    """How the bars of one dimension stand to its grid.

    Attributes:
        bars: All bars.
        endless: Bars that never end: the Betti curve counts them, nothing else does.
        outside: Finite bars with a birth or death outside start to stop, or longer than `longest`; curves show the part
            within the grid, an image only the tail of the Gaussian.
    """

    bars: int
    endless: int
    outside: int

    def __post_init__(self) -> None:
        if min(self.bars, self.endless, self.outside) < 0 or self.endless + self.outside > self.bars:
            raise VectorError(f"{self}: expected numbers of 0 or more, endless and outside no more than bars together")


@dataclass(frozen=True)
class VectorProvenance:
    """What belongs to vectors beside their numbers.

    Attributes:
        parameters: The grid.
        counts: How many bars of dimension 0, 1 and so on were outside of it.
    """

    parameters: VectorParameters
    counts: tuple[BarCounts, ...]

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.parameters.grids):
            raise VectorError(f"{len(self.counts)} counts of bars for {len(self.parameters.grids)} dimensions")


_PROVENANCE = TypeAdapter(VectorProvenance)


@dataclass(frozen=True)
class TopologyVectors:
    """The vectors of one set of diagrams.

    Attributes:
        table: Columns dimension int8, kind string, vector list<float64>; one row for every dimension and kind, in the
            order of `KINDS`; vectors of more than one axis are flattened row after row, see `VectorParameters.shape`.
        provenance: The parameters and the counts of bars.
    """

    table: pa.Table
    provenance: VectorProvenance

    def __post_init__(self) -> None:
        if not self.table.schema.equals(SCHEMA):
            raise VectorError(f"vectors have the columns\n{self.table.schema}\nexpected\n{SCHEMA}")
        expected = [(dimension, kind) for dimension in range(len(self.provenance.counts)) for kind in KINDS]
        found = list(zip(self.table["dimension"].to_pylist(), self.table["kind"].to_pylist(), strict=True))
        if found != expected:
            raise VectorError(f"vectors have the rows {found}, expected {expected}")
        for (dimension, kind), row in zip(expected, self.table["vector"], strict=True):
            _check_vector(row, f"the vector {kind} of dimension {dimension}", self.provenance.parameters.shape(kind))

    @classmethod
    def of(cls, diagrams: PersistenceDiagrams, parameters: VectorParameters) -> Self:
        """Make the vectors of diagrams on a fitted grid.

        Raises:
            VectorError: The diagrams do not have the dimensions, the filtration or the threshold of the parameters.
        """
        for name in ("filtration", "scale", "threshold"):
            ours, theirs = getattr(parameters, name), getattr(diagrams.provenance, name)
            if ours != theirs:
                raise VectorError(
                    f"diagrams with the {name} {theirs!r} and parameters fitted on {parameters.fitted_on!r} with"
                    f" {ours!r}: compute or fit them alike"
                )
        if diagrams.provenance.max_dimension + 1 != len(parameters.grids):
            raise VectorError(
                f"diagrams of dimension 0 to {diagrams.provenance.max_dimension} and parameters fitted on"
                f" {parameters.fitted_on!r} for 0 to {len(parameters.grids) - 1}: compute or fit them alike"
            )
        dimensions = range(len(parameters.grids))
        rows = [
            (dimension, kind, vector.ravel())
            for dimension in dimensions
            for kind, vector in _vectors(diagrams.bars(dimension), parameters, dimension)
        ]
        columns = [list(column) for column in zip(*rows, strict=True)]
        counts = tuple(_counts(diagrams.bars(dimension), parameters.grid(dimension)) for dimension in dimensions)
        return cls(table=pa.table(columns, schema=SCHEMA), provenance=VectorProvenance(parameters, counts))

    def vector(self, dimension: int, kind: str) -> NDArray[np.float64]:
        """One vector in its shape: image [pixels, pixels] (lengths, births), landscapes [layers, resolution] and so on.

        Raises:
            VectorError: There is no such dimension or kind.
        """
        shape = self.provenance.parameters.shape(kind)
        self.provenance.parameters.grid(dimension)
        row = dimension * len(KINDS) + KINDS.index(kind)
        return _numbers(self.table["vector"][row]).reshape(shape)

    def to_parts(self) -> Mapping[str, Part]:
        """Take the vectors apart: one Arrow table with the provenance as JSON in its schema's metadata."""
        return {PART: kept(self.table, self.provenance, _PROVENANCE)}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put vectors together from what `to_parts` gave.

        Raises:
            VectorError: The part is missing or is no table, or its schema, provenance or vectors are malformed.
        """
        table, metadata = kept_table(parts, PART, "vectors", VectorError)
        provenance = read_provenance(metadata, PART, _PROVENANCE, VectorError)
        return cls(table=table, provenance=provenance)


def _vectors(
    bars: NDArray[np.float64], parameters: VectorParameters, dimension: int
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Every kind of vector of one dimension, in the order of `KINDS`."""
    grid, scales = parameters.grid(dimension), parameters.scales(dimension)
    births, lengths = parameters.edges(dimension)
    yield IMAGE, persistence_image(bars, births, lengths, bandwidth=grid.bandwidth, full_weight=grid.longest)
    yield LANDSCAPES, landscapes(bars, scales, parameters.layers)
    yield SILHOUETTE, silhouette(bars, scales, parameters.power)
    yield BETTI, betti_curve(bars, scales).astype(np.float64)
    yield ENTROPY, np.array([persistence_entropy(bars)])


def _counts(bars: NDArray[np.float64], grid: DimensionGrid) -> BarCounts:
    finite = bars[np.isfinite(bars).all(axis=1)]
    birth, death = finite.T
    outside = (birth < grid.start) | (death > grid.stop) | (death - birth > grid.longest)
    return BarCounts(bars=len(bars), endless=len(bars) - len(finite), outside=int(outside.sum()))


def _scale_range(bars: NDArray[np.float64]) -> tuple[float, float]:
    """Smallest and largest finite scale of bars [m, 2] with headroom; 0 to 1 where there is none."""
    scales = bars[np.isfinite(bars)]
    if len(scales) == 0:
        return 0.0, 1.0
    low, high = float(scales.min()), float(scales.max())
    # Around a single scale a number that does not vanish in it.
    margin = HEADROOM * (high - low) if high > low else max(1.0, HEADROOM * abs(high))
    return (max(0.0, low - margin) if low >= 0 else low - margin), high + margin


def _fitted_grid(bars: NDArray[np.float64], pixels: int, fallback: tuple[float, float]) -> DimensionGrid:
    finite = bars[np.isfinite(bars).all(axis=1)]
    lengths = finite[:, 1] - finite[:, 0]
    start, stop = _scale_range(finite) if len(finite) else fallback
    longest = (1 + HEADROOM) * float(lengths.max(initial=0.0)) or stop - start
    return DimensionGrid(start, stop, longest, bandwidth=max(stop - start, longest) / max(1, pixels))


def _numbers(row: pa.ListScalar) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = row.values.to_numpy()
    return numbers


def _check_vector(row: pa.ListScalar, name: str, shape: tuple[int, ...]) -> None:
    if not row.is_valid or row.values.null_count:
        raise VectorError(f"{name} holds nulls: expected {math.prod(shape)} numbers")
    numbers = _numbers(row)
    if len(numbers) != math.prod(shape):
        raise VectorError(f"{name} has {len(numbers)} numbers, expected {' x '.join(map(str, shape))}")
    if not np.isfinite(numbers).all():
        raise VectorError(f"{name} holds {numbers[~np.isfinite(numbers)][0]}: expected finite numbers")
