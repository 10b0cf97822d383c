"""Persistence of the cubical complex of an image: every pixel is a closed cell that enters at its value.

Kaczynski, Mischaikow, Mrozek, "Computational Homology" (2004); GUDHI's implementation, permissive, with its own
algorithms on lines and rectangles.
"""

from __future__ import annotations

import numpy as np

from aura.topology.engines.task import Arrays, Bars, Task, stacked


def bars(task: Task, arrays: Arrays) -> Bars:
    """Compute the bars of the sublevel sets of an image."""
    from gudhi.sklearn import CubicalPersistence

    cubes = CubicalPersistence(homology_dimensions=range(task.max_dimension + 1), homology_coeff_field=2)
    (diagrams,) = cubes.fit_transform([arrays[0]])
    found = stacked([np.asarray(each, dtype=np.float64).reshape(-1, 2) for each in diagrams])
    found = found[found[:, 1] <= task.threshold]
    found[found[:, 2] > task.threshold, 2] = np.inf
    return found
