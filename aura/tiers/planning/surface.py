"""The measured latency of one tier, operation and kind of object, over the object's size and its reuse distance.

Belongs here: interpolation between what was measured. Does not: measuring it (`rounds.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

LEAST_REUSE = float(64 << 10)
"""Reuse distances below this count as this: all of it stays in the first caches."""


@dataclass(frozen=True, eq=False)
class Surface:
    """Mean latencies at s sizes and r reuse distances.

    Attributes:
        sizes: float64[s], bytes, rising.
        reuse: float64[r], bytes, rising.
        mean_seconds: float64[r, s].
        stderr_seconds: float64[r, s], standard errors of the means.
        intercept_seconds: The fitted line's value at 0 bytes.
        seconds_per_byte: The fitted line's slope.
    """

    sizes: Floats
    reuse: Floats
    mean_seconds: Floats
    stderr_seconds: Floats
    intercept_seconds: float
    seconds_per_byte: float

    def line(self, size: ArrayLike) -> Floats:
        """The fitted line alone, float64[...] seconds."""
        return np.asarray(self.intercept_seconds + self.seconds_per_byte * np.asarray(size, dtype=np.float64))

    def seconds(self, size: ArrayLike, reuse: ArrayLike) -> Floats:
        """Latencies: the line, corrected by the ratio of what was measured to it, at sizes and distances nearby.

        The ratio is interpolated over the logarithms of both; beyond what was measured that of the last one holds.

        Args:
            size: float[...], bytes.
            reuse: float[...], bytes.

        Returns:
            float64[...] seconds.
        """
        shares, rows, columns = self._corners(*np.broadcast_arrays(size, reuse))
        ratio = self.mean_seconds / self.line(self.sizes)
        return np.asarray(self.line(size) * (shares * ratio[rows, columns]).sum(axis=0))

    def coefficients(self, size: Floats, reuse: Floats) -> Floats:
        """How often each measured mean counts in the sum of `seconds` over reads float64[n], as float64[r, s]."""
        shares, rows, columns = self._corners(size, reuse)
        scaled = shares * self.line(size) / self.line(self.sizes)[columns]
        counted = np.zeros(self.mean_seconds.shape)
        np.add.at(counted, (rows.ravel(), columns.ravel()), scaled.ravel())
        return counted

    def _corners(
        self, size: NDArray[np.generic], reuse: NDArray[np.generic]
    ) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
        """The four measured points around each read: their shares, rows and columns, each [4, ...]."""
        column, across = _between(np.log2(self.sizes), np.log2(np.maximum(size, 1)))
        row, up = _between(np.log2(self.reuse), np.log2(np.maximum(reuse, LEAST_REUSE)))
        next_column, next_row = np.minimum(column + 1, len(self.sizes) - 1), np.minimum(row + 1, len(self.reuse) - 1)
        shares = np.stack([(1 - up) * (1 - across), (1 - up) * across, up * (1 - across), up * across])
        return shares, np.stack([row, row, next_row, next_row]), np.stack([column, next_column, column, next_column])


def _between(nodes: Floats, at: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The node at or below each value int64[...], and how far it is to the next one, float64[...] in [0, 1]."""
    place = np.interp(at, nodes, np.arange(len(nodes), dtype=np.float64))
    below = np.minimum(place.astype(np.int64), max(0, len(nodes) - 2))
    return below, np.asarray(place - below)
