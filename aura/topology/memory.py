"""How much memory an engine will take beyond its libraries and its input, before it starts.

The constants are peaks of the resident memory in the engines' own processes, rounded up (`benchmarks/topology.py --only
memory` shows both). Of explicit complexes the number of simplices is the largest possible one, so that what fits does
fit; of the implicit reduction they are those of data with structure, and what grows beyond is stopped by the cap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from aura.topology.engines.spanning_tree import BLOCK_ENTRIES, NEIGHBOURS, PRIM_POINTS, TREE_DIMENSIONS
from aura.topology.engines.task import Engine, Kind

SIMPLEX_BYTES = 58
RIPS_PAIR_BYTES = 90
RIPS_BYTES_A_SECOND = 60e6
"""What the columns of the implicit reduction grow by in one of its CPU seconds."""
RIPS_EDGE_BYTES = 120
CUBE_BYTES = 60
PIXEL_BYTES = 32
ALPHA_BYTES = {1: 800, 2: 1800, 3: 10_000}
ALLOWANCE_BYTES = 2**20
"""What even the smallest input takes."""


@dataclass(frozen=True)
class Size:
    """How large an input is.

    Attributes:
        kind: What it is.
        items: Points, rows, vertices or cells.
        coordinates: Of a point, or axes of an image.
        edges: Of a graph.
    """

    kind: Kind
    items: int
    coordinates: int = 0
    edges: int = 0


def predicted_bytes(engine: Engine, size: Size, max_dimension: int) -> int:
    """Memory in bytes that an engine will take on an input of a size."""
    return ALLOWANCE_BYTES + math.ceil(_MODELS[engine](size, max_dimension))


def most_simplices(size: Size, max_dimension: int) -> float:
    """Largest number of simplices up to one dimension above `max_dimension` (for graphs by Kruskal and Katona)."""
    vertices = float(size.items)
    if size.kind is Kind.EDGES:
        vertices = (1.0 + math.sqrt(1.0 + 8.0 * size.edges)) / 2.0
    count = float(size.items)
    cliques = vertices
    for k in range(2, max_dimension + 3):
        cliques *= max(0.0, vertices - k + 1) / k
        count += cliques
    return count


def _matrix(size: Size) -> float:
    return 0.0 if size.kind is Kind.EDGES else 8.0 * size.items**2


def _rips(size: Size, max_dimension: int) -> float:
    pairs = size.edges * RIPS_EDGE_BYTES if size.kind is Kind.EDGES else size.items**2 * RIPS_PAIR_BYTES / 2.0
    return float(pairs) * (1 + max_dimension) / 2.0


def _simplex_tree(size: Size, max_dimension: int) -> float:
    return SIMPLEX_BYTES * most_simplices(size, max_dimension) + 2.0 * _matrix(size)


def _alpha(size: Size, max_dimension: int) -> float:  # noqa: ARG001 - all models have one form
    return float(ALPHA_BYTES[size.coordinates] * size.items)


def _spanning_tree(size: Size, max_dimension: int) -> float:  # noqa: ARG001
    if size.kind is Kind.EDGES:
        return 60.0 * (size.edges + size.items)
    # The distinct points, their centred copy and what sorts them; their neighbours; blocks of distances.
    points = size.items * size.coordinates * 8.0 * 4 + size.items * NEIGHBOURS * 40.0
    blocks = 0.0 if size.items <= PRIM_POINTS or size.coordinates <= TREE_DIMENSIONS else 4.0 * 8 * BLOCK_ENTRIES
    return points + blocks + 200.0 * size.items


def _cubical(size: Size, max_dimension: int) -> float:  # noqa: ARG001
    # Lines and rectangles have algorithms of their own, without cells of lower dimension.
    cell = PIXEL_BYTES if size.coordinates <= 2 else CUBE_BYTES * 2**size.coordinates
    return float(cell * size.items)


_MODELS = {
    Engine.RIPS: _rips,
    Engine.SIMPLEX_TREE: _simplex_tree,
    Engine.ALPHA: _alpha,
    Engine.SPANNING_TREE: _spanning_tree,
    Engine.SPARSE_RIPS: _simplex_tree,
    Engine.CUBICAL: _cubical,
}
