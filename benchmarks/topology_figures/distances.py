"""Distances between diagrams of 1,000 points: CPU time beside persim, POT and hera on the same diagrams.

Calls alternate within one process after one of each to warm up; what counts is the CPU time of the call, so the 5 s
that importing POT takes do not count against it. persim's ground metric is the Euclidean one, so its Wasserstein
distance lies between ours and sqrt(2) times ours, which is checked; the others have to agree.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import persim
from gudhi import hera
from gudhi.wasserstein import wasserstein_distance as pot_distance
from numpy.typing import NDArray
from report import Figure, figure, tell
from scipy.spatial.distance import pdist, squareform

from aura.topology.distances import RELATIVE_ERROR, bottleneck, pairwise, wasserstein
from aura.topology.engine import rips_bars

POINTS = 1000
GOAL = 10.0
SMALL, MANY = 50, 40

Diagram = NDArray[np.float64]
Distance = Callable[[Diagram, Diagram], float]


def figures(runs: int) -> list[Figure]:
    """All rows about distances."""
    found: list[Figure] = []
    for name, a, b in pairs():
        tell(f"Wasserstein distance, {name}")
        ours, theirs = seconds([wasserstein, persim.wasserstein], a, b, runs)
        found += beside(f"Wasserstein, {POINTS} points, {name}", ours, theirs, "persim", goal=GOAL)
        check_wasserstein(a, b)
        ours, *others = seconds([wasserstein, pot_distance, hera_wasserstein], a, b, runs)
        for against, other in zip(("POT", f"hera within {RELATIVE_ERROR:.0%}"), others, strict=True):
            found += beside(f"Wasserstein, {POINTS} points, {name}", ours, other, against)[1:]
        tell(f"bottleneck distance, {name}")
        ours, theirs = seconds([bottleneck, hera_bottleneck], a, b, runs)
        found += beside(f"bottleneck, {POINTS} points, {name}", ours, theirs, "hera, exact")
    found += many_small(runs)
    return found


def pairs() -> list[tuple[str, Diagram, Diagram]]:
    """Pairs of diagrams with 1,000 finite points each: of clouds, and random ones."""
    clouds = [clustered(1500, seed) for seed in (1, 2)]
    bars = [rips_bars(squareform(pdist(cloud)), 1) for cloud in clouds]
    found = []
    for dimension in (0, 1):
        diagrams = [each[(each[:, 0] == dimension) & np.isfinite(each[:, 2]), 1:] for each in bars]
        longest = [each[np.argsort(each[:, 0] - each[:, 1], kind="stable")[:POINTS]] for each in diagrams]
        found.append((f"H{dimension} of embeddings in clusters", *longest))
    rng = np.random.default_rng(3)
    short, long = (lambda: rng.exponential(0.05, POINTS)), (lambda: rng.random(POINTS))
    for name, lengths in (("short bars", short), ("long bars", long)):
        births = [rng.random(POINTS) for _ in range(2)]
        found.append((f"random, {name}", *(np.column_stack((birth, birth + lengths())) for birth in births)))
    return found


def clustered(count: int, seed: int) -> NDArray[np.float64]:
    """Unit vectors in 384 dimensions, in 12 clusters of 8 dimensions each."""
    centres, frames = (np.random.default_rng(0).standard_normal(shape) for shape in ((12, 384), (12, 8, 384)))
    rng = np.random.default_rng(seed)
    member = rng.integers(12, size=count)
    points = centres[member] + 0.15 * np.einsum("nj,njd->nd", rng.standard_normal((count, 8)), frames[member])
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def hera_wasserstein(a: Diagram, b: Diagram) -> float:
    """Hera with the convention of ours."""
    return float(hera.wasserstein_distance(a, b, order=1.0, internal_p=math.inf, delta=RELATIVE_ERROR))


def hera_bottleneck(a: Diagram, b: Diagram) -> float:
    """Hera's exact search."""
    return float(hera.bottleneck_distance(a, b, delta=0.0))


def seconds(distances: list[Distance], a: Diagram, b: Diagram, runs: int) -> list[list[float]]:
    """CPU seconds of each distance in every run; they take turns."""
    found: list[list[float]] = [[] for _ in distances]
    for run in range(runs + 1):
        for each, distance in zip(found, distances, strict=True):
            started = time.process_time()
            distance(a, b)
            if run:
                each.append(time.process_time() - started)
    return found


def beside(name: str, ours: list[float], theirs: list[float], against: str, goal: float | None = None) -> list[Figure]:
    """Our CPU milliseconds, and how many times as many the other one takes."""
    ratios = [other / our for our, other in zip(ours, theirs, strict=True)]
    return [
        figure(f"{name}: CPU time", [1000 * each for each in ours], "CPU ms"),
        figure(f"{name}: less CPU than {against}", ratios, "ratio", against=against, goal=goal, at_least=True),
    ]


def check_wasserstein(a: Diagram, b: Diagram) -> None:
    """All engines agree, persim up to its norm."""
    ours = wasserstein(a, b)
    if not math.isclose(ours, pot_distance(a, b), rel_tol=1e-9):
        raise RuntimeError(f"POT found {pot_distance(a, b)}, we {ours}")
    if not math.isclose(ours, hera_wasserstein(a, b), rel_tol=RELATIVE_ERROR):
        raise RuntimeError(f"hera found {hera_wasserstein(a, b)}, we {ours}")
    if not ours <= persim.wasserstein(a, b) * (1 + 1e-9) <= math.sqrt(2) * ours * (1 + 1e-6):
        raise RuntimeError(f"persim found {persim.wasserstein(a, b)}, we {ours}: not between 1 and sqrt(2) times ours")


def many_small(runs: int) -> list[Figure]:
    """All distances among many small diagrams, as a permutation test takes them."""
    rng = np.random.default_rng(4)
    births = [rng.random(SMALL) for _ in range(MANY)]
    diagrams = [np.column_stack((birth, birth + rng.exponential(0.1, SMALL))) for birth in births]
    found = []
    for distance in (wasserstein, bottleneck):
        taken = []
        for _ in range(runs):
            started = time.process_time()
            pairwise(diagrams, distance)
            taken.append(1000 * (time.process_time() - started) / (MANY * (MANY - 1) / 2))
        found.append(figure(f"{distance.__name__}, {SMALL} points, in a matrix of {MANY}", taken, "CPU ms"))
    return found
