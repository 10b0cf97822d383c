"""Numbers and curves that summarise the bars of one dimension."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
