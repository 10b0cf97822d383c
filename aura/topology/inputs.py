"""What persistence can be computed of besides point clouds, and the errors that say why something is not that.

Belongs here: distance matrices, weighted graphs and images, checked and brought to one form.
Does not: point clouds (`aura.topology.cloud`), the filtrations that are made of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import sparray, spmatrix

ROUNDING = 1e-9
"""A weight may differ by up to this share of the largest one between the two directions of an edge."""
SQUARE_ROUNDING = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-12}
"""The squares of two distances may differ by up to this share of the largest square between the two triangles.

By the squares, because |x|^2 + |y|^2 - 2xy leaves rounding of one size in all of them (1e-7 of the largest in float32,
1e-16 in float64; more where the points are far from the origin): of points that nearly coincide, its root is larger
than the distance."""
MOST_AXES = 4


class InputError(ValueError):
    """Something cannot be given a filtration; the message names the entry and the remedy."""


class MatrixError(InputError):
    """A distance matrix is empty, misshapen, not finite, negative, asymmetric or non-zero on its diagonal."""


class GraphError(InputError):
    """A weighted graph is malformed."""


class ImageError(InputError):
    """An image is malformed."""


@dataclass(frozen=True)
class WeightedGraph:
    """An undirected graph with a weight on every edge.

    Attributes:
        vertices: How many there are, at least 1.
        edges: int64 [m, 2], every edge once, from 0 to vertices - 1.
        weights: float64 [m], finite.
    """

    vertices: int
    edges: NDArray[np.int64]
    weights: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.vertices < 1:
            raise GraphError(f"the graph has {self.vertices} vertices: it needs at least one to have a shape")
        if self.edges.ndim != 2 or self.edges.shape[1] != 2 or self.weights.shape != (len(self.edges),):
            raise GraphError(
                f"edges have shape {self.edges.shape} and weights {self.weights.shape}, expected [m, 2] and [m]"
            )
        if self.edges.dtype.kind not in "iu":
            raise GraphError(f"edges have dtype {self.edges.dtype}, expected integers: the vertices' numbers")
        outside = (self.edges < 0) | (self.edges >= self.vertices)
        if outside.any():
            raise GraphError(f"an edge ends at vertex {self.edges[outside][0]}, expected 0 to {self.vertices - 1}")
        usable = np.isfinite(self.weights)
        if not usable.all():
            row = int(np.argmin(usable))
            raise GraphError(f"edge {tuple(self.edges[row].tolist())} has the weight {self.weights[row]}: leave it out")
        if (self.edges[:, 0] == self.edges[:, 1]).any():
            loop = int(self.edges[self.edges[:, 0] == self.edges[:, 1]][0, 0])
            raise GraphError(f"vertex {loop} has an edge to itself: leave such edges out")
        if len(np.unique(np.sort(self.edges, axis=1), axis=0)) != len(self.edges):
            raise GraphError("an edge occurs twice: add the weights up, or keep the larger, as their meaning demands")


def checked_distances(distances: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the matrix in float64, symmetric, after checking that it can be a matrix of distances.

    The triangle inequality is not asked for: the Vietoris-Rips filtration does not need it. An asymmetry by rounding is
    removed with the larger of the two entries: GUDHI 3.13 reads both triangles, and a matrix that is off by 1e-15 gives
    a wrong H1 or no end.

    Args:
        distances: float32 or float64 [n, n], n >= 1.

    Raises:
        MatrixError: It is empty or not square, or has an entry that is no distance.
    """
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1]:
        raise MatrixError(f"a distance matrix is [n, n], got shape {distances.shape}")
    if len(distances) == 0:
        raise MatrixError("the distance matrix is empty: it needs at least one item to have a shape")
    if distances.dtype not in (np.float32, np.float64):
        raise MatrixError(f"the distances have dtype {distances.dtype}, expected float32 or float64: convert them")
    # NaN passes through both; two reductions instead of three matrices of booleans.
    if not (distances.min() >= 0 and np.isfinite(distances.max())):
        usable = np.isfinite(distances) & (distances >= 0)
        row, column = np.unravel_index(int(np.argmin(usable)), usable.shape)
        raise MatrixError(
            f"the distance of {row} and {column} is {distances[row, column]}, expected finite numbers, 0 or more"
            " (in a graph, items without a distance are pairs without an edge)"
        )
    diagonal = distances.diagonal()
    if diagonal.any():
        item = int(np.argmax(diagonal != 0))
        raise MatrixError(f"item {item} has the distance {diagonal[item]} to itself, expected 0: set the diagonal to 0")
    matrix = distances.astype(np.float64, copy=False)
    if np.array_equal(matrix, matrix.T):
        return np.ascontiguousarray(matrix)
    # Shares of the largest distance, so that no square leaves the range of float64.
    shares = matrix / matrix.max()
    difference = np.abs(shares - shares.T) * (shares + shares.T)
    if float(difference.max()) > SQUARE_ROUNDING[distances.dtype]:
        row, column = np.unravel_index(int(np.argmax(difference)), difference.shape)
        raise MatrixError(
            f"the distance from {row} to {column} is {matrix[row, column]} and back {matrix[column, row]}: symmetrise"
            " the matrix as its meaning demands, for example np.maximum(d, d.T)"
        )
    return np.ascontiguousarray(np.maximum(matrix, matrix.T))


def checked_graph(graph: WeightedGraph | sparray | spmatrix) -> WeightedGraph:
    """Return the graph as a list of edges.

    Args:
        graph: A list of edges, or a sparse matrix [n, n] of weights that is symmetric or a triangle. What is stored is
            an edge, a weight of 0 too.

    Raises:
        GraphError: The graph is empty, has loops, edges twice, or weights that are not finite or depend on the way.
    """
    if isinstance(graph, WeightedGraph):
        return graph
    from scipy.sparse import issparse

    if not issparse(graph):
        raise GraphError(f"a graph is a WeightedGraph or a sparse matrix of weights, got {type(graph).__name__}")
    if len(graph.shape) != 2 or graph.shape[0] != graph.shape[1]:
        raise GraphError(f"a matrix of weights is [n, n], got shape {graph.shape}")
    entries = graph.tocoo()
    rows, columns = entries.coords if hasattr(entries, "coords") else (entries.row, entries.col)
    edges = np.column_stack((rows, columns)).astype(np.int64)
    weights = np.asarray(entries.data, dtype=np.float64)
    on_diagonal = edges[:, 0] == edges[:, 1]
    if on_diagonal.any():
        raise GraphError(f"vertex {edges[on_diagonal][0, 0]} has an edge to itself: leave such edges out")
    upper = edges[:, 0] < edges[:, 1]
    if upper.all() or not upper.any():
        return WeightedGraph(graph.shape[0], edges, weights)
    return WeightedGraph(graph.shape[0], *_one_triangle(edges, weights))


def checked_image(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the image in float64 after checking its shape and values.

    Args:
        image: Numbers [a], [a, b], [a, b, c] or [a, b, c, d]: signal, picture, volume, volume in time.

    Raises:
        ImageError: It is empty, has other axes, or a value is not finite.
    """
    if not 1 <= image.ndim <= MOST_AXES:
        raise ImageError(f"an image has 1 to {MOST_AXES} axes, got shape {image.shape}")
    if image.size == 0:
        raise ImageError(f"the image has shape {image.shape}: it needs at least one cell to have a shape")
    if image.dtype.kind not in "fiub":
        raise ImageError(f"the image has dtype {image.dtype}, expected numbers: convert it first")
    cells = np.ascontiguousarray(image, dtype=np.float64)
    usable = np.isfinite(cells)
    if not usable.all():
        place = tuple(int(each) for each in np.unravel_index(int(np.argmin(usable)), cells.shape))
        raise ImageError(f"the image holds {cells[place]} at {place}, expected finite numbers: fill it in or crop it")
    return cells


def _one_triangle(
    edges: NDArray[np.int64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Halve a symmetric list of edges, after checking that both directions are there with one weight."""
    flipped = edges[:, 0] > edges[:, 1]
    there, back = edges[~flipped], edges[flipped][:, ::-1]
    first, second = np.lexsort(there.T), np.lexsort(back.T)
    if not np.array_equal(there[first], back[second]):
        raise GraphError(
            "the matrix of weights is neither symmetric nor a triangle: some edges go one way only; drop the"
            " direction first, for example with graph.maximum(graph.T)"
        )
    difference = np.abs(weights[~flipped][first] - weights[flipped][second])
    if difference.size and float(difference.max()) > ROUNDING * float(np.abs(weights).max()):
        worst = int(np.argmax(difference))
        raise GraphError(
            f"the edge {tuple(there[first][worst].tolist())} has the weight {weights[~flipped][first][worst]} and back"
            f" {weights[flipped][second][worst]}: drop the direction first, for example with graph.maximum(graph.T)"
        )
    return there[first], np.maximum(weights[~flipped][first], weights[flipped][second])
