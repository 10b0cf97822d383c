"""One piece of work for an engine, and which engine does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

Bars = NDArray[np.float64]
"""float64 [k, 3]: dimension, birth, death (infinite for an essential class)."""


Arrays = Sequence[NDArray[Any]]
"""What `Kind` says."""


class Kind(StrEnum):
    """What the arrays of a task are.

    points: float64 [n, d]. distances: float64 [n, n], symmetric. edges: int64 [m, 2], float64 [m] of values above 0,
    and float64 [n] of the vertices' births, infinite for one that never enters. image: float64 of 1 to 4 axes.
    """

    POINTS = "points"
    DISTANCES = "distances"
    EDGES = "edges"
    IMAGE = "image"


class Engine(StrEnum):
    """The engines; a value is the name of its module."""

    RIPS = "rips"
    SIMPLEX_TREE = "simplex_tree"
    ALPHA = "alpha"
    SPANNING_TREE = "spanning_tree"
    SPARSE_RIPS = "sparse_rips"
    CUBICAL = "cubical"

    @property
    def takes(self) -> frozenset[Kind]:
        """The kinds of input that it works on."""
        return _TAKES[self]

    @property
    def filtration(self) -> str:
        """Name of the filtration that it computes of points and distances, or of an image."""
        return {Engine.ALPHA: "alpha", Engine.CUBICAL: "cubical"}.get(self, "Vietoris-Rips")


_TAKES = {
    Engine.RIPS: frozenset({Kind.POINTS, Kind.DISTANCES, Kind.EDGES}),
    Engine.SIMPLEX_TREE: frozenset({Kind.POINTS, Kind.DISTANCES, Kind.EDGES}),
    Engine.ALPHA: frozenset({Kind.POINTS}),
    Engine.SPANNING_TREE: frozenset({Kind.POINTS, Kind.DISTANCES, Kind.EDGES}),
    Engine.SPARSE_RIPS: frozenset({Kind.POINTS, Kind.DISTANCES}),
    Engine.CUBICAL: frozenset({Kind.IMAGE}),
}

METRICS = ("euclidean", "cityblock", "chebyshev")
"""Distances between points, by their names in SciPy; all of them obey the triangle inequality."""


@dataclass(frozen=True)
class Task:
    """What an engine is to compute.

    Attributes:
        engine: Who computes it.
        kind: What the arrays are.
        max_dimension: Highest dimension of homology, at least 0.
        metric: One of `METRICS`; of points only.
        threshold: The filtration's largest value; infinite for all of it.
        epsilon: Of sparse Rips, above 0 and below 1.
    """

    engine: Engine
    kind: Kind
    max_dimension: int
    metric: str = METRICS[0]
    threshold: float = np.inf
    epsilon: float = 0.5


@dataclass(frozen=True)
class Measured:
    """What one run used beyond its loaded libraries and its input, measured in its process.

    Attributes:
        cpu_seconds: CPU time of the computation.
        peak_bytes: Peak of the resident memory; 0 where the system does not tell.
    """

    cpu_seconds: float
    peak_bytes: int


class _EngineModule(Protocol):
    def bars(self, task: Task, arrays: Arrays) -> Bars: ...


def engine_module(engine: Engine) -> _EngineModule:
    """Load an engine's module, without the library that it needs."""
    return cast("_EngineModule", import_module(f"aura.topology.engines.{engine.value}"))


def compute(task: Task, arrays: Arrays) -> Bars:
    """Compute the bars, over the field of two elements; those without length are left out.

    Args:
        task: What to compute.
        arrays: As `Kind` says.

    Returns:
        Sorted by dimension, birth and death.

    Raises:
        MemoryError: There is not enough memory.
    """
    if task.kind not in task.engine.takes:
        raise ValueError(f"the engine {task.engine} does not work on {task.kind}")
    found = engine_module(task.engine).bars(task, arrays)
    found = found[found[:, 2] > found[:, 1]]
    return found[np.lexsort((found[:, 2], found[:, 1], found[:, 0]))]


def stacked(diagrams: Sequence[NDArray[np.float64]], first: int = 0) -> Bars:
    """Put diagrams [m, 2] of consecutive dimensions, from `first` on, into one array."""
    empty = np.empty((0, 3))
    parts = [np.column_stack((np.full(len(each), k), each)) for k, each in enumerate(diagrams, first) if len(each)]
    return np.concatenate([empty, *parts])


def distance_matrix(task: Task, arrays: Arrays) -> NDArray[np.float64]:
    """The distances [n, n] of a task on points or distances; of points from differences of coordinates."""
    if task.kind is Kind.DISTANCES:
        return arrays[0]
    # 0.55 s of CPU, which loading the asset definitions must not pay.
    from scipy.spatial.distance import pdist, squareform

    points = arrays[0]
    if len(points) == 1:
        return np.zeros((1, 1))
    distances: NDArray[np.float64] = squareform(pdist(points, task.metric))
    return distances
