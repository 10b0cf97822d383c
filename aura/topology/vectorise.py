"""Numbers, curves and images that summarise the bars of one dimension.

Belongs here: the mathematics, from bars [m, 2] and a fixed grid to an array. Does not: which grid, and how vectors are
kept (`aura.topology.vectors`). Landscapes and silhouettes are the standard ones, in the unit of the filtration; GUDHI's
are sqrt(2) times as high.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK_VALUES = 1 << 22
"""Bars times grid points that are held at once: 32 MiB."""


def finite_lengths(bars: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths of the bars that end: float64 [k] from bars [m, 2], k <= m."""
    lengths = bars[:, 1] - bars[:, 0]
    return lengths[np.isfinite(lengths)]


def persistence_entropy(bars: NDArray[np.float64]) -> float:
    """Shannon entropy, in nats, of the finite bars' lengths taken as shares of their sum.

    Chintakunta et al., "An entropy-based persistence barcode" (2015). It is 0 where at most one bar has a length and
    ln(m) where m bars are equally long.

    Args:
        bars: float64 [m, 2], birth and death.
    """
    lengths = finite_lengths(bars)
    lengths = lengths[lengths > 0]
    if len(lengths) == 0:
        return 0.0
    shares = lengths / lengths.sum()
    return max(0.0, float(-(shares * np.log(shares)).sum()))


def betti_curve(bars: NDArray[np.float64], scales: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of bars alive at each scale: birth <= scale < death.

    Args:
        bars: float64 [m, 2], birth and death; death may be infinite.
        scales: float64 [k].

    Returns:
        int64 [k].
    """
    born = np.searchsorted(np.sort(bars[:, 0]), scales, side="right")
    died = np.searchsorted(np.sort(bars[:, 1]), scales, side="right")
    return (born - died).astype(np.int64)


def landscapes(bars: NDArray[np.float64], scales: NDArray[np.float64], layers: int) -> NDArray[np.float64]:
    """First persistence landscapes: layer k at scale t is the k-th largest of max(0, min(t - birth, death - t)).

    Bubenik, "Statistical topological data analysis using persistence landscapes" (2015). Two diagrams at bottleneck
    distance e have landscapes that differ by at most e anywhere. Infinite bars are left out.

    Args:
        bars: float64 [m, 2], birth and death.
        scales: float64 [k].
        layers: How many layers, at least 1; those beyond the number of bars are zero.

    Returns:
        float64 [layers, k].
    """
    found = np.zeros((layers, len(scales)))
    finite = _finite(bars)
    kept = min(layers, len(finite))
    if kept == 0:
        return found
    for columns, heights in _tents(finite, scales):
        largest = np.partition(heights, len(finite) - kept, axis=0)[len(finite) - kept :]
        found[:kept, columns] = np.sort(largest, axis=0)[::-1]
    return found


def silhouette(bars: NDArray[np.float64], scales: NDArray[np.float64], power: float = 1.0) -> NDArray[np.float64]:
    """Mean of the bars' tents max(0, min(t - birth, death - t)), weighted with the bars' lengths to a power.

    Chazal, Fasy, Lecci, Rinaldo, Wasserman, "Stochastic convergence of persistence landscapes and silhouettes" (2014).
    Infinite bars are left out; without any other bar the silhouette is zero.

    Args:
        bars: float64 [m, 2], birth and death.
        scales: float64 [k].
        power: 0 weighs all bars alike; the larger, the more the long bars count.

    Returns:
        float64 [k].
    """
    found = np.zeros(len(scales))
    finite = _finite(bars)
    lengths = finite[:, 1] - finite[:, 0]
    longest = lengths.max(initial=0.0)
    if longest == 0:
        return found
    weights = (lengths / longest) ** power
    for columns, heights in _tents(finite, scales):
        found[columns] = weights @ heights / weights.sum()
    return found


def persistence_image(
    bars: NDArray[np.float64],
    birth_edges: NDArray[np.float64],
    length_edges: NDArray[np.float64],
    *,
    bandwidth: float,
    full_weight: float,
) -> NDArray[np.float64]:
    """Sum of one Gaussian a bar at (birth, length), weighted with length / full_weight, integrated over each pixel.

    Adams et al., "Persistence images: a stable vector representation of persistent homology" (2017). The integral over
    a pixel is a product of differences of the normal distribution function, so an image adds up to the weights of its
    bars wherever their Gaussians lie within the edges, whatever the resolution; GUDHI samples the density instead.
    Infinite bars are left out.

    Args:
        bars: float64 [m, 2], birth and death.
        birth_edges: float64 [w + 1], increasing.
        length_edges: float64 [h + 1], increasing.
        bandwidth: Standard deviation of the Gaussian, in the unit of the filtration, above 0.
        full_weight: Length of a bar with weight 1, above 0; longer ones weigh more.

    Returns:
        float64 [h, w]: a row for each range of lengths, shortest first; a column for each range of births.
    """
    # 0.4 s of CPU, which loading the asset definitions must not pay.
    from scipy.special import ndtr

    image = np.zeros((len(length_edges) - 1, len(birth_edges) - 1))
    finite = _finite(bars)
    lengths = finite[:, 1] - finite[:, 0]
    step = max(1, BLOCK_VALUES // (len(birth_edges) + len(length_edges)))
    for start in range(0, len(finite), step):
        birth, length = finite[start : start + step, :1], lengths[start : start + step, None]
        across = np.diff(ndtr((birth_edges - birth) / bandwidth), axis=1)
        along = np.diff(ndtr((length_edges - length) / bandwidth), axis=1)
        image += (along * length / full_weight).T @ across
    return image


def _finite(bars: NDArray[np.float64]) -> NDArray[np.float64]:
    return bars[np.isfinite(bars).all(axis=1)]


def _tents(finite: NDArray[np.float64], scales: NDArray[np.float64]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Heights [m, block] of the bars' tents, a block of scales at a time."""
    step = max(1, BLOCK_VALUES // max(1, len(finite)))
    for start in range(0, len(scales), step):
        columns = slice(start, start + step)
        block = scales[columns]
        yield columns, np.maximum(np.minimum(block - finite[:, :1], finite[:, 1:] - block), 0.0)
