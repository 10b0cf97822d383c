"""Persistence diagrams as a stored value: bars in an Arrow table, how they were made and how wrong they may be.

A Vietoris-Rips diagram of landmarks differs from that of the whole cloud by at most 2*delta in bottleneck distance,
where delta is the covering radius of the landmarks (Chazal, de Silva, Oudot, "Persistence stability for geometric
complexes", 2014: d_B <= 2 d_GH, and d_GH <= d_H = delta). So a finite bar longer than 4*delta is matched to a real bar
of the whole cloud: it is certified.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter

from aura.tiers.values import Part
from aura.topology.engines.task import Measured
from aura.topology.kept import kept, kept_table, read_provenance
from aura.topology.vectorise import finite_lengths, persistence_entropy

PART = "bars"
VIETORIS_RIPS = "Vietoris-Rips"
ALPHA = "alpha"
FORM = 2
"""Of the provenance; 1 named neither filtration nor guarantee."""
SCHEMA = pa.schema(
    [("dimension", pa.int8()), ("birth", pa.float64()), ("death", pa.float64()), ("certified", pa.bool_())]
)


class DiagramError(ValueError):
    """Persistence diagrams are malformed, or were asked for something that they do not hold."""


@dataclass(frozen=True)
class Attempt:
    """One run of an engine.

    Attributes:
        landmarks: Points it was given.
        outcome: "done", the cap that it passed, or why it was not started.
        engine: Its name.
        predicted_bytes: Memory that it was predicted to take beyond the loaded libraries and its input.
    """

    landmarks: int
    outcome: str
    engine: str = ""
    predicted_bytes: int = 0


class GuaranteeKind(StrEnum):
    """What is known about the difference between diagrams and those of all the data."""

    EXACT = "exact"
    LANDMARKS = "landmarks"
    SPARSE = "sparse"


@dataclass(frozen=True)
class Guarantee:
    """How far diagrams are at most from those of all the data in the same filtration.

    Attributes:
        kind: exact: not at all. landmarks: by `bound` in bottleneck distance. sparse: by ln `factor` in the bottleneck
            distance of the logarithms.
        bound: In units of the scale; 0 unless kind is landmarks.
        factor: At least 1; 1 unless kind is sparse.
    """

    kind: GuaranteeKind
    bound: float = 0.0
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bound) and self.bound >= 0 and math.isfinite(self.factor) and self.factor >= 1):
            raise DiagramError(
                f"bound {self.bound}, factor {self.factor}: expected finite numbers from 0 and from 1 on"
            )
        if (self.bound > 0 and self.kind is not GuaranteeKind.LANDMARKS) or (
            self.factor > 1 and self.kind is not GuaranteeKind.SPARSE
        ):
            raise DiagramError(f"a guarantee of kind {self.kind} has no bound {self.bound} with a factor {self.factor}")

    @property
    def sentence(self) -> str:
        """What holds, for a person."""
        if self.kind is GuaranteeKind.EXACT:
            return "Exact: these are the diagrams of all the data."
        if self.kind is GuaranteeKind.LANDMARKS:
            return (
                f"From landmarks: within {self.bound:.3g} of the diagrams of all the data in bottleneck distance;"
                f" bars longer than {2 * self.bound:.3g} are certified."
            )
        return (
            f"Sparse: births and deaths are within a factor of {self.factor:.3g} of those of all the data;"
            f" bars that die beyond {self.factor**2:.3g} times their birth are certified."
        )

    def certifies(self, birth: NDArray[np.float64], death: NDArray[np.float64]) -> NDArray[np.bool_]:
        """For every bar whether it is matched to a real one: finite, and too long to be matched to the diagonal."""
        if self.kind is GuaranteeKind.SPARSE:
            long_enough = death > self.factor**2 * birth
        else:
            long_enough = death - birth > 2.0 * self.bound
        certified: NDArray[np.bool_] = np.isfinite(death) & long_enough
        return certified


@dataclass(frozen=True)
class DiagramProvenance:
    """How diagrams were made.

    Attributes:
        points: Points, items, vertices or cells of the input, duplicates included.
        landmarks: Those of the filtration.
        covering_radius: Hausdorff distance delta between points and landmarks, in units of `metric`; 0 where all
            distinct points were taken.
        metric: Name of the distance; "given" where the input holds the values.
        engine: Program, version, filtration and field.
        seed: Seed of the first landmark and of the sample that the choice of the engine looked at.
        max_dimension: Highest dimension of homology that was computed.
        attempts: Every run of an engine in order; only the last one ended with "done".
        source: What they were computed of: points, distances, graph or image.
        filtration: Its name. Diagrams of different filtrations cannot be compared.
        reason: Why this engine, in a sentence.
        threshold: Value at which the filtration was cut, so that bars alive there have no end; None: it was not.
        epsilon: Of sparse Rips; None for other engines.
        distortion: Largest difference between the distance of two items and that of their landmarks, where it was
            computed: the bound for given distances, which need not obey the triangle inequality.
        predicted_bytes: Memory that the engine was predicted to take beyond the loaded libraries and its input.
        form: Of this provenance: values of another one are computed again.
    """

    points: int
    landmarks: int
    covering_radius: float
    metric: str
    engine: str
    seed: int
    max_dimension: int
    attempts: tuple[Attempt, ...]
    source: str = "points"
    filtration: str = VIETORIS_RIPS
    reason: str = ""
    threshold: float | None = None
    epsilon: float | None = None
    distortion: float | None = None
    predicted_bytes: int = 0
    form: int = FORM

    def __post_init__(self) -> None:
        if self.form != FORM:
            raise DiagramError(f"the provenance has the form {self.form}, expected {FORM}: compute the diagrams again")
        if not 1 <= self.landmarks <= self.points:
            raise DiagramError(f"{self.landmarks} landmarks of {self.points} points: expected 1 <= landmarks <= points")
        if not (math.isfinite(self.covering_radius) and self.covering_radius >= 0):
            raise DiagramError(f"covering radius {self.covering_radius}: expected a finite number, 0 or more")
        if not 0 <= self.max_dimension <= np.iinfo(np.int8).max:
            raise DiagramError(f"max_dimension {self.max_dimension}: expected 0 to {np.iinfo(np.int8).max}")
        if not self.attempts or self.attempts[-1].landmarks != self.landmarks:
            raise DiagramError(f"attempts {self.attempts}: expected the last one to have {self.landmarks} landmarks")

    @property
    def guarantee(self) -> Guarantee:
        """How wrong the diagrams may be. With a threshold it speaks of the filtration without the cut."""
        if self.epsilon is not None:
            return Guarantee(GuaranteeKind.SPARSE, factor=1.0 / (1.0 - self.epsilon))
        if self.covering_radius == 0 and not self.distortion:
            return Guarantee(GuaranteeKind.EXACT)
        if self.distortion is not None:
            return Guarantee(GuaranteeKind.LANDMARKS, bound=self.distortion)
        # Balls around points lie within balls around landmarks whose radius is larger by delta.
        radii = 1.0 if self.filtration == ALPHA else 2.0
        return Guarantee(GuaranteeKind.LANDMARKS, bound=radii * self.covering_radius)

    @property
    def scale(self) -> str:
        """What a birth and a death are."""
        if self.filtration == VIETORIS_RIPS:
            return f"diameter (longest edge, {self.metric} distance)"
        if self.filtration == ALPHA:
            return f"radius ({self.metric} distance)"
        value = "weight" if self.source == "graph" else "value"
        return f"minus the {value}" if self.filtration.endswith("superlevel") else value

    @property
    def bottleneck_bound(self) -> float:
        """Largest bottleneck distance between these diagrams and those of all the data; infinite for sparse Rips."""
        guarantee = self.guarantee
        return math.inf if guarantee.kind is GuaranteeKind.SPARSE else guarantee.bound

    def require_comparable(self, other: DiagramProvenance) -> None:
        """Check that a distance between the diagrams of both means something: one filtration, one scale, one metric.

        Raises:
            DiagramError: It does not; the message says what differs.
        """
        for name in ("filtration", "scale", "threshold"):
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours != theirs:
                raise DiagramError(
                    f"diagrams with the {name} {ours!r} and {theirs!r} cannot be compared: compute both alike"
                )


_PROVENANCE = TypeAdapter(DiagramProvenance)
_FORM = TypeAdapter(dict[str, object])


@dataclass(frozen=True)
class PersistenceDiagrams:
    """The diagrams of one cloud, all dimensions in one table.

    Attributes:
        table: Columns dimension int8, birth float64, death float64 (infinite for an essential class), certified bool
            (of finite bars, see `Guarantee.certifies`; the essential class of H0 needs no certificate).
        provenance: How the bars were made, with the bound on their error.
        runs: What every run of an engine took, in the order of the attempts without those that were not started; no
            part of the value, and empty for one that was stored.
    """

    table: pa.Table
    provenance: DiagramProvenance
    runs: tuple[Measured, ...] = field(default=(), compare=False)

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
        certified = self.provenance.guarantee.certifies(birth, death)
        if not np.array_equal(self.table["certified"].to_numpy(), certified):
            raise DiagramError(
                "the column certified does not follow from the bars and the guarantee"
                f" ({self.provenance.guarantee.sentence}): make the value with PersistenceDiagrams.from_bars"
            )

    @classmethod
    def from_bars(cls, bars: NDArray[np.float64], provenance: DiagramProvenance, runs: Sequence[Measured] = ()) -> Self:
        """Make diagrams from float64 [k, 3] (dimension, birth, death), marking the bars that the bound certifies."""
        dimension, birth, death = bars.T
        columns = [dimension.astype(np.int8), birth, death, provenance.guarantee.certifies(birth, death)]
        return cls(table=pa.table(columns, schema=SCHEMA), provenance=provenance, runs=tuple(runs))

    @property
    def measured(self) -> Measured | None:
        """What the run that gave the bars took; None for a value that was stored."""
        return self.runs[-1] if self.runs else None

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
        return {PART: kept(self.table, self.provenance, _PROVENANCE)}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put diagrams together from what `to_parts` gave.

        Raises:
            DiagramError: The part is missing or is no table, or its schema, provenance or bars are malformed.
        """
        table, metadata = kept_table(parts, PART, "diagrams", DiagramError)
        form = read_provenance(metadata, PART, _FORM, DiagramError).get("form", 1)
        if form != FORM:
            raise DiagramError(f"the table {PART!r} has the form {form}, expected {FORM}: compute the diagrams again")
        provenance = read_provenance(metadata, PART, _PROVENANCE, DiagramError)
        return cls(table=table, provenance=provenance)

    def _rows(self, dimension: int) -> NDArray[np.bool_]:
        if not 0 <= dimension <= self.provenance.max_dimension:
            raise DiagramError(
                f"diagrams hold the dimensions 0 to {self.provenance.max_dimension}, asked for {dimension}:"
                " compute them with a higher max_dimension"
            )
        rows: NDArray[np.bool_] = self.table["dimension"].to_numpy() == dimension
        return rows
