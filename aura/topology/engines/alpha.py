"""Persistence of the alpha filtration: the engine in 1 to 3 dimensions, two orders faster than Vietoris-Rips.

Another filtration than Vietoris-Rips: the value of a simplex is the radius of its smallest empty circumscribed sphere
(Edelsbrunner and Muecke, 1994), which has the homology of the union of balls of that radius. Needs CGAL, which GUDHI
distributes under the GPL.
"""

from __future__ import annotations

from aura.topology.engines.simplex_tree import intervals
from aura.topology.engines.task import Arrays, Bars, Task, stacked

MOST_COORDINATES = 3


def bars(task: Task, arrays: Arrays) -> Bars:
    """Compute the bars of points, with values that are radii; CGAL's own are their squares."""
    from gudhi import AlphaComplex

    tree = AlphaComplex(points=arrays[0], precision="safe").create_simplex_tree(
        max_alpha_square=task.threshold**2, output_squared_values=False
    )
    return stacked(intervals(tree, task.max_dimension))
