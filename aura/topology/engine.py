"""Vietoris-Rips bars in this process and without caps: for clouds that are known to be small.

`aura.topology.persistence` is the call for everything else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aura.topology.engines.task import Bars, Engine, Kind, Task, compute


def rips_bars(distances: NDArray[np.float64], max_dimension: int) -> Bars:
    """Compute the persistence of the Vietoris-Rips filtration, over the field of two elements.

    Args:
        distances: float64 [m, m], at least one item. An asymmetry by rounding is removed with the larger of the two
            entries: GUDHI 3.13 reads both triangles, and a matrix that is off by 1e-15 gives a wrong H1 or no end.
        max_dimension: Highest dimension of homology, at least 0.

    Returns:
        float64 [k, 3]: dimension, birth, death (infinite for the essential class of H0), sorted by these.

    Raises:
        MemoryError: The reduction ran out of memory.
    """
    return compute(Task(Engine.RIPS, Kind.DISTANCES, max_dimension), [np.maximum(distances, distances.T)])
