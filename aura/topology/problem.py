"""An input with its filtration, in the form that engines take, and back.

Belongs here: what is computed. Does not: by which engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from aura.topology.cloud import checked_cloud
from aura.topology.engines.alpha import MOST_COORDINATES
from aura.topology.engines.task import METRICS, Arrays, Bars, Engine, Kind, Task
from aura.topology.inputs import (
    GraphError,
    MatrixError,
    WeightedGraph,
    checked_distances,
    checked_graph,
    checked_image,
)
from aura.topology.landmarks import Landmarks, farthest_point_landmarks, landmarks_of_distances
from aura.topology.memory import Size

if TYPE_CHECKING:
    from scipy.sparse import sparray, spmatrix

Direction = Literal["sublevel", "superlevel"]
Vertices = Literal["edge", "zero"]

TRIANGLE_ROUNDING = 1e-9
_ENTRY: dict[Vertices, str] = {"edge": "with their first edge", "zero": "at 0"}


@dataclass(frozen=True)
class Selection:
    """The part of an input that an engine gets.

    Attributes:
        arrays: As `aura.topology.engines.task.Kind` says.
        count: Items of the filtration.
        covering_radius: Of these items, see `aura.topology.landmarks.Landmarks`.
        distortion: The same.
    """

    arrays: Arrays
    count: int
    covering_radius: float = 0.0
    distortion: float | None = None


@dataclass(frozen=True)
class Problem:
    """An input that was checked, with the filtration to compute of it.

    Attributes:
        source: points, distances, graph or image.
        kind: Form in which engines take it.
        arrays: As `kind` says.
        items: Points, rows, vertices or cells.
        max_dimension: Highest dimension of homology.
        metric: Of points.
        cut: The filtration's largest value in units of births and deaths; None: there is none.
        epsilon: Of sparse Vietoris-Rips.
        direction: Of graphs and images.
        seed: Of the first landmark.
        values: float64 [r + 1]: value of each rank of a graph's weights; None for other inputs.
        vertices: When those of a graph enter.
    """

    source: str
    kind: Kind
    arrays: Arrays
    items: int
    max_dimension: int
    metric: str
    cut: float | None
    epsilon: float
    direction: Direction
    seed: int
    values: NDArray[np.float64] | None = None
    vertices: Vertices = "edge"

    def check_engine(self, wanted: Engine | None, *, allow_gpl: bool) -> None:
        """Check that the engine that is asked for can compute this.

        Raises:
            ValueError: It cannot; the message says why.
        """
        if wanted is None:
            return
        if self.kind not in wanted.takes:
            able = ", ".join(each for each in Engine if self.kind in each.takes)
            raise ValueError(f"the engine {wanted} does not work on a {self.source}, which {able} do")
        if wanted is Engine.SPANNING_TREE and self.max_dimension > 0:
            raise ValueError(f"the engine {wanted} gives components alone: ask for max_dimension 0")
        if wanted is Engine.ALPHA:
            self._check_alpha(allow_gpl=allow_gpl)
        if wanted is Engine.SPARSE_RIPS:
            if not 0 < self.epsilon < 1:
                raise ValueError(f"epsilon {self.epsilon}: expected more than 0 and less than 1")
            if self.kind is Kind.DISTANCES:
                _check_triangles(np.asarray(self.arrays[0], dtype=np.float64))

    def _check_alpha(self, *, allow_gpl: bool) -> None:
        if not allow_gpl:
            raise ValueError("the engine alpha needs CGAL, which is under the GPL: accept that with allow_gpl=True")
        coordinates = self.arrays[0].shape[1]
        if coordinates > MOST_COORDINATES or self.metric != METRICS[0]:
            raise ValueError(
                f"the engine alpha works on Euclidean points of up to {MOST_COORDINATES} coordinates, got {coordinates}"
                f" with the metric {self.metric}"
            )

    def size(self, count: int) -> Size:
        """Size of `count` of the items."""
        if self.kind is Kind.EDGES:
            return Size(self.kind, count, edges=len(self.arrays[0]))
        shape = self.arrays[0].shape
        return Size(self.kind, count, coordinates=shape[1] if self.kind is Kind.POINTS else len(shape))

    def task(self, engine: Engine) -> Task:
        """What that engine is to compute."""
        threshold = np.inf if self.cut is None else self.cut
        if self.values is not None and self.cut is not None:
            threshold = float(np.searchsorted(self.values, self.cut, side="right")) - 1.0
        return Task(engine, self.kind, self.max_dimension, self.metric, threshold, self.epsilon)

    def all_of_it(self) -> Selection:
        """All items; of points those that differ."""
        return self.selected(self.items) if self.kind is Kind.POINTS else Selection(self.arrays, self.items)

    def selected(self, count: int) -> Selection:
        """Up to `count` landmarks of points or rows."""
        data = np.asarray(self.arrays[0], dtype=np.float64)
        if self.kind is Kind.POINTS:
            marks: Landmarks = farthest_point_landmarks(data, count, seed=self.seed, metric=self.metric)
            return Selection([data[marks.indices]], len(marks.indices), marks.covering_radius)
        if count >= len(data):
            return Selection([data], len(data))
        marks = landmarks_of_distances(data, count, seed=self.seed)
        chosen = data[np.ix_(marks.indices, marks.indices)]
        return Selection([chosen], len(marks.indices), marks.covering_radius, marks.distortion)

    def in_units(self, bars: Bars) -> Bars:
        """Bars in units of the input, from those of an engine."""
        if self.values is None:
            return bars
        found = bars.copy()
        ended = np.isfinite(bars[:, 2])
        found[:, 1] = self.values[bars[:, 1].astype(np.int64)]
        found[ended, 2] = self.values[bars[ended, 2].astype(np.int64)]
        return found[found[:, 2] > found[:, 1]]

    def filtration(self, engine: Engine) -> str:
        """Name of the filtration, which diagrams have to share to be compared."""
        if self.kind is Kind.EDGES:
            return f"clique, vertices {_ENTRY[self.vertices]}, {self.direction}"
        return f"{engine.filtration}, {self.direction}" if self.kind is Kind.IMAGE else engine.filtration


def problem_of(
    *,
    points: NDArray[np.floating] | None,
    distances: NDArray[np.floating] | None,
    graph: WeightedGraph | sparray | spmatrix | None,
    image: NDArray[np.floating] | None,
    max_dimension: int,
    metric: str,
    threshold: float | None,
    epsilon: float,
    direction: Direction,
    vertices: Vertices,
    seed: int,
) -> Problem:
    """Check an input and what is asked of it; the arguments are those of `aura.topology.persistence.persistence`."""
    given = {"points": points, "distances": distances, "graph": graph, "image": image}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise ValueError(f"the input is {' and '.join(named) or 'missing'}: pass one of {', '.join(given)}")
    (source,) = named
    if not 0 <= max_dimension <= np.iinfo(np.int8).max:
        raise ValueError(f"max_dimension {max_dimension}: expected 0 to {np.iinfo(np.int8).max}")
    if metric not in METRICS:
        raise ValueError(f"metric {metric!r}: expected one of {', '.join(METRICS)}; pass distances of another one")
    if direction not in ("sublevel", "superlevel") or (direction == "superlevel" and source in ("points", "distances")):
        raise ValueError(f"direction {direction!r} of {source}: graphs and images go sublevel or superlevel")
    if threshold is not None and not (np.isfinite(threshold) and (threshold > 0 or source in ("graph", "image"))):
        raise ValueError(f"threshold {threshold} of {source}: expected a finite number, above 0 for a distance")
    sign = -1.0 if direction == "superlevel" else 1.0
    cut = None if threshold is None else sign * threshold
    values = None
    arrays: list[NDArray[Any]]
    if points is not None:
        kind, arrays = Kind.POINTS, [checked_cloud(np.asarray(points))]
    elif distances is not None:
        kind, arrays = Kind.DISTANCES, [checked_distances(np.asarray(distances))]
    elif image is not None:
        kind, arrays = Kind.IMAGE, [sign * checked_image(np.asarray(image))]
    else:
        kind = Kind.EDGES
        arrays, values = _ranked(checked_graph(graph), sign, vertices)
    items = {Kind.IMAGE: arrays[0].size, Kind.EDGES: len(arrays[-1])}.get(kind, len(arrays[0]))
    return Problem(source, kind, arrays, items, max_dimension, metric, cut, epsilon, direction, seed, values, vertices)


def _ranked(graph: WeightedGraph, sign: float, vertices: Vertices) -> tuple[list[NDArray[Any]], NDArray[np.float64]]:
    """A graph as edges with the ranks of their values, from 1 on, its vertices' births, and the value of each rank.

    A clique filtration depends on the order of the weights alone, so that engines which want distances get ranks.
    """
    values, ranks = np.unique(sign * graph.weights, return_inverse=True)
    ranked = ranks.astype(np.float64) + 1.0
    if vertices == "edge":
        births = np.full(graph.vertices, np.inf)
        np.minimum.at(births, graph.edges.ravel(), np.repeat(ranked, 2))
        start = -np.inf
    elif vertices == "zero":
        if len(values) and values[0] < 0:
            raise GraphError(
                f"an edge has the value {values[0]} and its vertices 0, so that they would enter after it: let vertices"
                ' enter with their first edge, vertices="edge"'
            )
        births, start = np.zeros(graph.vertices), 0.0
    else:
        raise ValueError(f"vertices {vertices!r}: expected 'edge' or 'zero'")
    return [graph.edges.astype(np.int64), ranked, births], np.append(start, values)


def _check_triangles(distances: NDArray[np.float64]) -> None:
    """Check the triangle inequality, on which the bound of sparse Vietoris-Rips rests; O(n^3)."""
    slack = TRIANGLE_ROUNDING * float(distances.max())
    for middle in range(len(distances)):
        longer = distances - (distances[:, middle, None] + distances[middle])
        if float(longer.max()) > slack:
            row, column = np.unravel_index(int(np.argmax(longer)), longer.shape)
            raise MatrixError(
                f"the distance of {row} and {column} is {distances[row, column]}, and by way of {middle} it is"
                f" {distances[row, middle] + distances[middle, column]}: the bound of sparse_rips needs the triangle"
                " inequality; use another engine"
            )
