"""Loops that one can read: for the longest H1 bars a short cycle of points, in order.

A bar [birth, death) is represented by a cycle that appears with its birth edge and is filled by triangles at its death
(a persistent 1-cycle: Dey, Hou, Mandal, "Persistent 1-cycles: definition, computation, and its application", 2019).
A shortest one is NP-hard to find for a bar that ends (the same, "Computing minimal persistent cycles: polynomial and
hard cases", 2020); optimal ones by linear programming are Obayashi's ("Volume-optimal cycle", 2018). Here:

1. The birth edge comes from a reduction of what is filled where bars die (`aura.topology.edge_reduction`).
2. The cycle is a shortest one through the birth edge among the edges that enter before it (Dijkstra). At the birth edge
   the link is empty, so every cycle through it is born with it: this is certain.
3. Whether it is filled at the death is decided by reducing it with everything that has died until then. If not, it goes
   around an older hole as well; then the next shortest that lead over some third point are tried, and last the cycle
   that the reduction found, which is filled, where it is a single one. So `exact` cycles represent their bar for
   certain; that no shorter one does is not certain, unless it is the first that was tried.

Belongs here: which cycle stands for a bar, and the cycles as a stored value. Does not: the reduction; what the points
are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter

from aura.tiers.values import Part
from aura.topology.edge_reduction import EdgeFiltration, OutOfStepsError, Reduction
from aura.topology.engine import rips_bars
from aura.topology.kept import kept, kept_table, read_provenance

PART = "cycles"
SCHEMA = pa.schema(
    [
        ("birth", pa.float64()),
        ("death", pa.float64()),
        ("perimeter", pa.float64()),
        ("exact", pa.bool_()),
        ("vertices", pa.list_(pa.int64())),
    ]
)
MOST_STEPS = 500_000
"""Edges that the reduction may replace before it gives up, about 10 s of CPU; 250 random vectors in 384 dimensions take
22,000 for their five longest bars, 1,000 points on a torus 17,000."""


class CycleError(ValueError):
    """Distances are malformed, or cycles are."""


@dataclass(frozen=True)
class Cycle:
    """A loop of points.

    Attributes:
        birth: Length of its longest edge: the bar's birth.
        death: The bar's death; infinite where it never ends.
        perimeter: Sum of its edges' lengths.
        exact: True: it is filled at the death, so it represents the bar. False: it was born with the bar, but at the
            death it joins an older loop that lives on. None: that was not decided within the steps allowed.
        vertices: At least 3 points in order; the last one is joined to the first.
    """

    birth: float
    death: float
    perimeter: float
    exact: bool | None
    vertices: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.vertices) < 3 or len(set(self.vertices)) < len(self.vertices) or min(self.vertices) < 0:
            raise CycleError(f"cycle over the points {self.vertices}: expected 3 different ones at least")
        if not (0 <= self.birth < self.death and self.birth <= self.perimeter < math.inf):
            raise CycleError(
                f"cycle with birth {self.birth}, death {self.death}, perimeter {self.perimeter}: expected"
                " 0 <= birth < death and birth <= perimeter"
            )


@dataclass(frozen=True)
class CycleProvenance:
    """Where cycles come from: number of points of the filtration, name of the distance, number of H1 bars of all."""

    points: int
    metric: str
    bars: int


_PROVENANCE = TypeAdapter(CycleProvenance)


@dataclass(frozen=True)
class RepresentativeCycles:
    """Cycles of the longest H1 bars, the longest bar first.

    Attributes:
        cycles: One for each bar.
        provenance: Where they come from.
    """

    cycles: tuple[Cycle, ...]
    provenance: CycleProvenance

    def to_parts(self) -> Mapping[str, Part]:
        """Take the cycles apart: one Arrow table, a row for each, with the provenance in its schema's metadata."""
        columns = [[getattr(cycle, name) for cycle in self.cycles] for name in SCHEMA.names]
        return {PART: kept(pa.table(columns, schema=SCHEMA), self.provenance, _PROVENANCE)}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put cycles together from what `to_parts` gave.

        Raises:
            CycleError: The part is missing or is no table, or its schema, provenance or cycles are malformed.
        """
        table, metadata = kept_table(parts, PART, "cycles", CycleError)
        if not table.schema.equals(SCHEMA):
            raise CycleError(f"cycles have the columns\n{table.schema}\nexpected\n{SCHEMA}")
        nulls = [name for name in SCHEMA.names if name != "exact" and table[name].null_count]
        if nulls:
            raise CycleError(f"cycles hold nulls in {nulls}")
        provenance = read_provenance(metadata, PART, _PROVENANCE, CycleError)
        cycles = tuple(Cycle(**{**row, "vertices": tuple(row["vertices"])}) for row in table.to_pylist())
        return cls(cycles=cycles, provenance=provenance)


def representative_cycles(
    distances: NDArray[np.float64],
    *,
    count: int = 5,
    metric: str = "euclidean",
    rows: NDArray[np.int64] | None = None,
    most_steps: int = MOST_STEPS,
    engine: Callable[[NDArray[np.float64], int], NDArray[np.float64]] = rips_bars,
) -> RepresentativeCycles:
    """Find a short cycle for each of the longest H1 bars of a Rips filtration.

    Args:
        distances: float64 [m, m], m >= 1, 0 or more; an asymmetry is removed with the larger entry.
        count: How many bars, longest first.
        metric: Name of the distance.
        rows: int64 [m], the numbers to give the points, for instance the rows of landmarks in their cloud; None: 0 on.
        most_steps: Edges that the reduction may replace; cycles that are left then have `exact` None.
        engine: Computes the bars.

    Raises:
        CycleError: The distances are no square matrix of numbers of 0 or more, `count` is below 0, or `rows` is not as
            long as the matrix.
    """
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1] or len(distances) == 0:
        raise CycleError(f"distances have shape {distances.shape}, expected [m, m] with m >= 1")
    if not (distances >= 0).all():
        raise CycleError("distances hold NaN or negative numbers: expected 0 or more")
    if count < 0 or most_steps < 0:
        raise CycleError(f"{count} cycles, {most_steps} steps: expected 0 or more")
    numbers = np.arange(len(distances)) if rows is None else rows
    if numbers.shape != (len(distances),):
        raise CycleError(f"rows have shape {numbers.shape}, expected a number for each of {len(distances)} points")
    symmetric = np.maximum(distances, distances.T)
    bars = engine(symmetric, 1)
    loops = bars[bars[:, 0] == 1, 1:]
    loops = loops[loops[:, 0] < loops[:, 1]]
    longest = loops[np.lexsort((loops[:, 0], loops[:, 0] - loops[:, 1]))][:count]
    filtration = EdgeFiltration(symmetric)
    found = _cycles(filtration, loops, longest, Reduction(filtration, most_steps))
    cycles = tuple(
        Cycle(
            birth=float(birth),
            death=float(death),
            perimeter=filtration.perimeter(vertices),
            exact=exact,
            vertices=tuple(int(each) for each in numbers[_in_standard_order(vertices)]),
        )
        for (birth, death), (vertices, exact) in zip(longest, found, strict=True)
    )
    return RepresentativeCycles(cycles, CycleProvenance(points=len(distances), metric=metric, bars=len(loops)))


def _cycles(
    filtration: EdgeFiltration, loops: NDArray[np.float64], longest: NDArray[np.float64], reduction: Reduction
) -> list[tuple[list[int], bool | None]]:
    """Return vertices and exactness for each of the longest bars, going through the deaths up to the last of them."""
    found: dict[int, tuple[list[int], bool | None]] = {}
    used: set[int] = set()
    last = longest[:, 1].max(initial=0.0)
    try:
        for death in np.unique(loops[loops[:, 1] <= last, 1]).tolist():
            pivots = reduction.fill(death) if math.isfinite(death) else []
            for number in np.flatnonzero(longest[:, 1] == death).tolist():
                edges = [each for each in pivots if filtration.lengths[each] == longest[number, 0] and each not in used]
                if edges:
                    found[number] = _exact_cycle(filtration, reduction, edges[0])
                    used.add(edges[0])
    except OutOfStepsError:
        pass
    for number, (birth, death) in enumerate(longest.tolist()):
        if number not in found:
            edge = _birth_edge(filtration, birth, used)
            used.add(edge)
            found[number] = next(filtration.cycles_through(edge)), None if math.isfinite(death) else True
    return [found[number] for number in range(len(longest))]


def _exact_cycle(filtration: EdgeFiltration, reduction: Reduction, birth_edge: int) -> tuple[list[int], bool | None]:
    """Return the first cycle through a birth edge that is filled at the death, or the shortest, which is not."""
    for cycle in filtration.cycles_through(birth_edge):
        if not reduction.remainder(filtration.edges_of(cycle)):
            return cycle, True
    reduced = filtration.single_cycle([birth_edge, *reduction.filled[birth_edge]])
    return (reduced, True) if reduced else (next(filtration.cycles_through(birth_edge)), False)


def _birth_edge(filtration: EdgeFiltration, birth: float, used: set[int]) -> int:
    """First edge of a length that bears a class: it has no triangle yet but closes a cycle."""
    for edge in filtration.of_length(birth):
        if edge not in used and filtration.apex(edge) is None and any(filtration.cycles_through(edge)):
            return edge
    raise CycleError(
        f"no edge of length {birth} bears a loop: the engine's bars are not those of the Rips filtration of the"
        " distances"
    )


def _in_standard_order(vertices: list[int]) -> list[int]:
    """Begin a cycle with its smallest vertex and go on to the smaller of its neighbours."""
    at = vertices.index(min(vertices))
    turned = vertices[at:] + vertices[:at]
    return turned if turned[1] <= turned[-1] else [turned[0], *turned[:0:-1]]
