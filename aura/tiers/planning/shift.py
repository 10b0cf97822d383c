"""Whether what is read has moved to other objects.

Belongs here: the distance between two counts of accesses. Does not: counting, or placing anything anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class AccessShift:
    """How far two distributions of accesses are apart.

    Attributes:
        distance: Total variation distance in [0, 1]: the share of the accesses that went to other objects.
        noise: The distance that two samples of these sizes from one distribution show on average.
        before: Accesses that the first distribution was counted from.
        after: Accesses that the second was counted from.
    """

    distance: float
    noise: float
    before: int
    after: int

    @property
    def excess(self) -> float:
        """The distance beyond the noise, at least 0."""
        return max(0.0, self.distance - self.noise)


def access_shift(before: Mapping[str, int], after: Mapping[str, int]) -> AccessShift:
    """Compare two counts of accesses by object.

    The noise is the mean of the distance under the multinomial model with the pooled distribution p, by the normal
    approximation of each difference: 1/2 sum sqrt(2 / pi * p (1 - p) (1/n + 1/m)).

    Args:
        before: Accesses by key.
        after: The same, later.

    Returns:
        The shift. Distance 1 where only one of them has accesses, 0 where none has.
    """
    keys = sorted(before.keys() | after.keys())
    counts = np.array([[each.get(key, 0) for key in keys] for each in (before, after)], dtype=np.float64).reshape(2, -1)
    n, m = counts.sum(axis=1)
    if n == 0 or m == 0:
        return AccessShift(float(n != m), 0.0, int(n), int(m))
    distance = 0.5 * np.abs(counts[0] / n - counts[1] / m).sum()
    pooled = counts.sum(axis=0) / (n + m)
    noise = 0.5 * np.sqrt(2 / np.pi * pooled * (1 - pooled) * (1 / n + 1 / m)).sum()
    return AccessShift(float(distance), float(min(noise, 1.0)), int(n), int(m))
