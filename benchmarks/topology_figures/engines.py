"""One call for distances of clustered 384-dimensional vectors, beside what people use: H0 and H1, all scales.

At 500 points against GUDHI's Rips complex with its simplex tree, at 2000 against ripser.py. CPU seconds are those of
the computation, the caller's included, in processes that take turns; memory is the peak beyond the libraries and the
input. Beside that stands our whole call, with the start of the engine's process and the loading of its libraries, over
the other side's computation alone, whose process and libraries are not counted.
"""

from __future__ import annotations

from report import Figure, figure, tell
from scipy.spatial.distance import pdist, squareform

from aura.topology.engines.task import Measured
from topology_figures.call import Cost, call
from topology_figures.clouds import clustered
from topology_figures.side import run_side

MEBIBYTE = 2**20


def figures(runs: int) -> list[Figure]:
    """Measure."""
    return [
        *_compared(500, "simplex_tree", "RipsComplex and SimplexTree", runs, cpu_goal=100, memory_goal=40),
        *_compared(2000, "ripser", "ripser.py", runs, cpu_goal=1.6, memory_goal=None),
    ]


def _compared(
    items: int, side: str, against: str, runs: int, *, cpu_goal: float, memory_goal: float | None
) -> list[Figure]:
    ours: list[Cost] = []
    theirs: list[Measured] = []
    call(distances=squareform(pdist(clustered(50, 0))))
    for run in range(runs):
        tell(f"clustered, {items} points, run {run + 1} of {runs}")
        ours.append(call(distances=squareform(pdist(clustered(items, run))), landmarks=items)[1])
        theirs.append(run_side(side, items, run))
    pairs = list(zip(ours, theirs, strict=True))
    seconds = [their.cpu_seconds / our.cpu_seconds for our, their in pairs]
    whole = [their.cpu_seconds / our.whole_cpu_seconds for our, their in pairs]
    peaks = [their.peak_bytes / our.peak_bytes for our, their in pairs]
    name = f"clustered 384-d, {items:,} points, H1"
    return [
        figure(f"{name}: less CPU time", seconds, "ratio", against=against, goal=cpu_goal, at_least=True),
        figure(
            f"{name}: less CPU time, whole call, our process and imports included",
            whole,
            "ratio",
            against=f"{against}, its computation alone",
            at_least=True,
        ),
        figure(f"{name}: less memory", peaks, "ratio", against=against, goal=memory_goal, at_least=True),
        figure(f"{name}: CPU time", [each.cpu_seconds for each in ours], "s"),
        figure(f"{name}: CPU time, whole call", [each.whole_cpu_seconds for each in ours], "s"),
        figure(f"{name}: CPU time of {against}", [each.cpu_seconds for each in theirs], "s"),
        figure(f"{name}: memory", [each.peak_bytes / MEBIBYTE for each in ours], "MiB"),
        figure(f"{name}: memory of {against}", [each.peak_bytes / MEBIBYTE for each in theirs], "MiB"),
    ]
