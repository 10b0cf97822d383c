"""Persistence diagrams as a stored value: bars in an Arrow table, how they were made and how wrong they may be.

A diagram of landmarks differs from the diagram of the whole cloud by at most 2*delta in bottleneck distance, where
delta is the covering radius of the landmarks (Chazal, de Silva, Oudot, "Persistence stability for geometric complexes",
2014: d_B <= 2 d_GH, and d_GH <= d_H = delta). So a finite bar longer than 4*delta is matched to a real bar of the whole
cloud: it is certified.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from aura.tiers.values import Part
from aura.topology.vectorise import finite_lengths, persistence_entropy

METADATA_KEY = b"aura"
PART = "bars"
SCHEMA = pa.schema(
    [("dimension", pa.int8()), ("birth", pa.float64()), ("death", pa.float64()), ("certified", pa.bool_())]
)


class DiagramError(ValueError):
    """Persistence diagrams are malformed, or were asked for something that they do not hold."""


@dataclass(frozen=True)
class Attempt:
    """One run of the engine: how many landmarks it was given and how it ended ("done", or the cap that it passed)."""

    landmarks: int
    outcome: str


@dataclass(frozen=True)
class DiagramProvenance:
    """How diagrams were made.

    Attributes:
        points: Points of the cloud, duplicates included.
        landmarks: Points of the filtration.
        covering_radius: Hausdorff distance delta between cloud and landmarks, in units of `metric`; 0 means exact.
        metric: Name of the distance.
        engine: Program, version, filtration and field.
        seed: Seed of the first landmark.
        max_dimension: Highest dimension of homology that was computed.
        attempts: Every run of the engine in order; only the last one ended with "done".
    """

    points: int
    landmarks: int
    covering_radius: float
    metric: str
    engine: str
    seed: int
    max_dimension: int
    attempts: tuple[Attempt, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.landmarks <= self.points:
            raise DiagramError(f"{self.landmarks} landmarks of {self.points} points: expected 1 <= landmarks <= points")
        if not (math.isfinite(self.covering_radius) and self.covering_radius >= 0):
            raise DiagramError(f"covering radius {self.covering_radius}: expected a finite number, 0 or more")
        if not 0 <= self.max_dimension <= np.iinfo(np.int8).max:
            raise DiagramError(f"max_dimension {self.max_dimension}: expected 0 to {np.iinfo(np.int8).max}")
        if not self.attempts or self.attempts[-1].landmarks != self.landmarks:
            raise DiagramError(f"attempts {self.attempts}: expected the last one to have {self.landmarks} landmarks")

    @property
    def bottleneck_bound(self) -> float:
        """Largest bottleneck distance 2*delta between these diagrams and those of the whole cloud."""
        return 2.0 * self.covering_radius


_PROVENANCE = TypeAdapter(DiagramProvenance)


@dataclass(frozen=True)
class PersistenceDiagrams:
    """The diagrams of one cloud, all dimensions in one table.

    Attributes:
        table: Columns dimension int8, birth float64, death float64 (infinite for an essential class), certified bool
            (a finite bar longer than 4*delta; the essential class of H0 needs no certificate).
        provenance: How the bars were made, with the bound on their error.
    """

    table: pa.Table
    provenance: DiagramProvenance

    def __post_init__(self) -> None:
        if not self.table.schema.equals(SCHEMA):
            raise DiagramError(f"diagrams have the columns\n{self.table.schema}\nexpected\n{SCHEMA}")
        nulls = [name for name in SCHEMA.names if self.table[name].null_count]
        if nulls:
            raise DiagramError(f"diagrams hold nulls in {nulls}: every bar has a dimension, a birth and a death")
        dimension, birth, death = (self.table[name].to_numpy() for name in SCHEMA.names[:3])
        outside = (dimension < 0) | (dimension > self.provenance.max_dimension)
        if outside.any():
            raise DiagramError(
                f"diagrams hold a bar of dimension {dimension[outside][0]}, expected 0 to"
                f" {self.provenance.max_dimension}, which is what was computed"
            )
        certified = _certified(birth, death, self.provenance.covering_radius)
        if not np.array_equal(self.table["certified"].to_numpy(), certified):
            raise DiagramError(
                "the column certified does not follow from the bars and the covering radius"
                f" {self.provenance.covering_radius}: make the value with PersistenceDiagrams.from_bars"
            )

    @classmethod
    def from_bars(cls, bars: NDArray[np.float64], provenance: DiagramProvenance) -> Self:
        """Make diagrams from float64 [k, 3] (dimension, birth, death), marking the bars that the bound certifies."""
        dimension, birth, death = bars.T
        columns = [dimension.astype(np.int8), birth, death, _certified(birth, death, provenance.covering_radius)]
        return cls(table=pa.table(columns, schema=SCHEMA), provenance=provenance)

    def bars(self, dimension: int) -> NDArray[np.float64]:
        """Return the bars of one dimension: float64 [m, 2], birth and death.

        Raises:
            DiagramError: The dimension was not computed.
        """
        rows = self._rows(dimension)
        return np.column_stack((self.table["birth"].to_numpy()[rows], self.table["death"].to_numpy()[rows]))

    def certified(self, dimension: int) -> NDArray[np.bool_]:
        """Return for every bar of one dimension, in the order of `bars`, whether the bound certifies it: bool [m]."""
        certified: NDArray[np.bool_] = self.table["certified"].to_numpy()[self._rows(dimension)]
        return certified

    def total_persistence(self, dimension: int) -> float:
        """Sum of the finite bars' lengths in one dimension, in units of the metric."""
        return float(finite_lengths(self.bars(dimension)).sum())

    def entropy(self, dimension: int) -> float:
        """Persistence entropy of one dimension in nats; see `aura.topology.vectorise.persistence_entropy`."""
        return persistence_entropy(self.bars(dimension))

    def to_parts(self) -> Mapping[str, Part]:
        """Take the diagrams apart: one Arrow table with the provenance as JSON in its schema's metadata."""
        metadata = {METADATA_KEY: _PROVENANCE.dump_json(self.provenance)}
        return {PART: self.table.combine_chunks().replace_schema_metadata(metadata)}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put diagrams together from what `to_parts` gave.

        Raises:
            DiagramError: The part is missing or is no table, or its schema, provenance or bars are malformed.
        """
        table = parts.get(PART)
        if not isinstance(table, pa.Table):
            raise DiagramError(f"diagrams are kept as one Arrow table named {PART!r}, got the parts {sorted(parts)}")
        metadata = (table.schema.metadata or {}).get(METADATA_KEY)
        if metadata is None:
            raise DiagramError(f"the table {PART!r} has no metadata {METADATA_KEY!r}: it was not written as diagrams")
        try:
            provenance = _PROVENANCE.validate_json(metadata)
        except ValidationError as error:
            raise DiagramError(f"the table {PART!r} has a malformed provenance: {error}") from error
        return cls(table=table.replace_schema_metadata(None), provenance=provenance)

    def _rows(self, dimension: int) -> NDArray[np.bool_]:
        if not 0 <= dimension <= self.provenance.max_dimension:
            raise DiagramError(
                f"diagrams hold the dimensions 0 to {self.provenance.max_dimension}, asked for {dimension}:"
                " compute them with a higher max_dimension"
            )
        rows: NDArray[np.bool_] = self.table["dimension"].to_numpy() == dimension
        return rows


def _certified(birth: NDArray[np.float64], death: NDArray[np.float64], covering_radius: float) -> NDArray[np.bool_]:
    return np.isfinite(death) & (death - birth > 4.0 * covering_radius)
