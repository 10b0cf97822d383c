"""The dispatcher beside the best engine of each regime, all engines that can compute it having been tried.

The dispatcher's side is the whole call without the start of processes: checks, the look at a sample of the distances,
the engine, and what was tried before it. The engines' sides are their computation alone. An engine that takes over
twice the dispatcher's CPU time (and over a second) is stopped there: it is not the best. A second ratio is of whole
calls, with all processes and what they load, on both sides; of the engines, of those that were not stopped.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from report import Figure, figure, tell

from aura.topology.engines.task import Engine, Kind, Task
from aura.topology.process import Caps, run
from topology_figures.call import GENEROUS, call, children_cpu_seconds
from topology_figures.clouds import clustered, correlation_distances, structureless, torus

GOAL = 1.2
STOPPED = 2.0


def regimes(seed: int) -> dict[str, tuple[dict[str, object], Kind, NDArray[np.float64], int, tuple[Engine, ...]]]:
    """By name: arguments of the call, and for the engines the kind, the array, the dimension, and which there are."""
    rips = (Engine.RIPS, Engine.SIMPLEX_TREE)
    surface, topics, noise = torus(700, seed), clustered(700, seed), structureless(350, seed)
    network, plane, many = correlation_distances(400, seed), torus(1000, seed), clustered(3000, seed)
    return {
        "torus": ({"points": surface}, Kind.POINTS, surface, 1, rips),
        "clustered": ({"points": topics}, Kind.POINTS, topics, 1, rips),
        "random": ({"points": noise}, Kind.POINTS, noise, 1, rips),
        "metric": ({"distances": network}, Kind.DISTANCES, network, 1, rips),
        "low dimension": ({"points": plane, "allow_gpl": True}, Kind.POINTS, plane, 1, (Engine.ALPHA, Engine.RIPS)),
        "components": ({"points": many, "max_dimension": 0}, Kind.POINTS, many, 0, (Engine.SPANNING_TREE, Engine.RIPS)),
    }


def figures(runs: int) -> list[Figure]:
    """Measure."""
    call(points=torus(50, 0))
    found: list[Figure] = []
    for name in regimes(0):
        chosen: list[float] = []
        best: list[float] = []
        whole: list[float] = []
        best_whole: list[float] = []
        engines: set[str] = set()
        for seed in range(runs):
            tell(f"dispatcher, {name}, run {seed + 1} of {runs}")
            arguments, kind, array, dimension, able = regimes(seed)[name]
            value, took = call(**arguments)
            chosen.append(took.cpu_seconds)
            whole.append(took.whole_cpu_seconds)
            fastest = _best(kind, array, dimension, able, took.cpu_seconds)
            best.append(fastest[0])
            best_whole.append(fastest[1])
            tell(f"dispatcher {chosen[-1]:.2f} s, best engine {best[-1]:.2f} s")
            engines.add(value.provenance.attempts[-1].engine)
        ratios = [one / other for one, other in zip(chosen, best, strict=True)]
        against = f"the best engine; took {', '.join(sorted(engines))}"
        found.append(figure(f"dispatcher, {name}", ratios, "ratio", against=against, goal=GOAL))
        ratios = [one / other for one, other in zip(whole, best_whole, strict=True)]
        title = f"dispatcher, {name}: whole call, processes and imports included"
        found.append(figure(title, ratios, "ratio", against=f"{against}, its process and imports included"))
        found.append(figure(f"dispatcher, {name}: CPU time", chosen, "s"))
        found.append(figure(f"dispatcher, {name}: CPU time, whole call", whole, "s"))
    return found


def _best(
    kind: Kind, array: NDArray[np.float64], dimension: int, engines: tuple[Engine, ...], seconds: float
) -> tuple[float, float]:
    """CPU seconds of the fastest engine's computation, and of the process of the one that is fastest as a whole."""
    limit = Caps(max(1.0, STOPPED * seconds), GENEROUS.memory_bytes)
    computed, whole = [], []
    for engine in engines:
        before = children_cpu_seconds()
        done = run(Task(engine, kind, dimension), [array], limit)
        if done.bars is not None:
            computed.append(done.measured.cpu_seconds)
            whole.append(children_cpu_seconds() - before)
    return min(computed), min(whole)
