"""From points, distances, a graph or an image to persistence diagrams, whatever the input: engine, landmarks, caps.

Belongs here: the one call. Does not: the engines (`aura.topology.engines`), the choice between them
(`aura.topology.dispatch`), their processes (`aura.topology.process`).

An engine runs in a process of its own. Where it passes a cap the next one is tried; where there is none, the number of
landmarks is halved, and the diagrams say so, with the bound that holds for the smaller set.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from aura.topology.diagrams import Attempt, DiagramProvenance, PersistenceDiagrams
from aura.topology.dispatch import Candidate, chosen, vietoris_rips, without_landmarks
from aura.topology.engines.task import METRICS, Engine, Kind, Measured
from aura.topology.inputs import WeightedGraph
from aura.topology.outlook import outlook_of_distances, outlook_of_points
from aura.topology.problem import Direction, Problem, Selection, Vertices, problem_of
from aura.topology.process import CPU_SECONDS, MEMORY_BYTES, Caps, EngineError, run

if TYPE_CHECKING:
    from scipy.sparse import sparray, spmatrix

__all__ = ["CPU_SECONDS", "LANDMARKS", "MEMORY_BYTES", "Caps", "EngineError", "persistence"]

LOG = logging.getLogger(__name__)

LANDMARKS = 1000
"""Measured on 5000 MiniLM embeddings of docstrings: 0.7 s CPU to choose them, 1 s for the diagram, less than 256 MiB.
A cloud of up to this many points is exact."""
FEWEST_LANDMARKS = 8
"""An engine that fails on this few points (less than a thousandth of a second, less than a MiB) has other reasons."""
PROGRAMS = {
    Engine.RIPS: "RipsPersistence, implicit cohomology, enclosing radius, F2",
    Engine.SIMPLEX_TREE: "SimplexTree, explicit complex, enclosing radius, F2",
    Engine.ALPHA: "AlphaComplex, exact predicates (CGAL, GPL), F2",
    Engine.SPARSE_RIPS: "RipsComplex, sparse, F2",
    Engine.CUBICAL: "CubicalPersistence, F2",
}


def persistence(
    *,
    points: NDArray[np.floating] | None = None,
    distances: NDArray[np.floating] | None = None,
    graph: WeightedGraph | sparray | spmatrix | None = None,
    image: NDArray[np.floating] | None = None,
    max_dimension: int = 1,
    metric: str = METRICS[0],
    landmarks: int = LANDMARKS,
    threshold: float | None = None,
    engine: Engine | Literal["auto"] = "auto",
    epsilon: float = 0.5,
    direction: Direction = "sublevel",
    vertices: Vertices = "edge",
    allow_gpl: bool = False,
    seed: int = 0,
    caps: Caps | None = None,
) -> PersistenceDiagrams:
    """Compute persistence diagrams with the engine of the regime.

    Points and distances get the Vietoris-Rips filtration up to the enclosing radius; points of up to 3 coordinates the
    alpha filtration where `allow_gpl` is set: its values are radii and not diameters, and `provenance.filtration` says
    so. A graph gets its clique filtration, an image that of its cubical complex. `provenance.guarantee` says how far
    the diagrams may be from those of all the data, `provenance.reason` why this engine.

    Args:
        points: float32 or float64 [n, d], n >= 1.
        distances: float32 or float64 [n, n], symmetric up to rounding, zero on the diagonal. The triangle inequality is
            not needed: where landmarks are taken the bound is the distortion, which is computed.
        graph: Edges with weights, or a sparse matrix of them.
        image: Numbers of 1 to 4 axes. Exactly one of these four has to be given.
        max_dimension: Highest dimension of homology.
        metric: Distance of points: euclidean, cityblock or chebyshev.
        landmarks: Most points or rows of a Vietoris-Rips filtration. Engines that need none take all of them.
        threshold: Cut the filtration there, in units of the input; bars alive there have no end.
        engine: "auto", or the one to use.
        epsilon: Of the engine sparse_rips, which is never chosen by itself: values are within 1/(1-epsilon).
        direction: sublevel: small weights or values enter first. superlevel: large ones do, and births and deaths are
            minus the weights or values. Of graphs and images.
        vertices: Of graphs. edge: a vertex enters with its first edge, and without edges never. zero: at 0.
        allow_gpl: Whether CGAL may be used, which is under the GPL.
        seed: Seed of the first landmark and of the sample that the choice of the engine looks at.
        caps: CPU time and memory of one attempt; None: `Caps()`.

    Returns:
        The diagrams; `provenance.attempts` lists the runs that passed a cap before the one that did not.

    Raises:
        InputError: The input is empty, misshapen or not finite.
        ValueError: An argument is out of range, or means nothing for this input.
        EngineError: The engine failed or crashed, or nothing stays within the caps.
    """
    caps = Caps() if caps is None else caps
    if landmarks < 1:
        raise ValueError(f"landmarks: {landmarks} were asked for, expected at least 1")
    problem = problem_of(
        points=points,
        distances=distances,
        graph=graph,
        image=image,
        max_dimension=max_dimension,
        metric=metric,
        threshold=threshold,
        epsilon=epsilon,
        direction=direction,
        vertices=vertices,
        seed=seed,
    )
    wanted = None if engine == "auto" else Engine(engine)
    problem.check_engine(wanted, allow_gpl=allow_gpl)
    attempts: list[Attempt] = []
    runs: list[Measured] = []
    for selection, candidate in _steps(problem, wanted, landmarks, caps, allow_gpl=allow_gpl):
        if candidate.objection is not None:
            attempts.append(Attempt(selection.count, candidate.objection, candidate.engine, candidate.predicted_bytes))
            continue
        task = problem.task(candidate.engine)
        LOG.info(
            "%s of %d %s: predicted %d bytes of %d, up to %g s CPU. %s",
            candidate.engine,
            selection.count,
            problem.source,
            candidate.predicted_bytes,
            candidate.caps.memory_bytes,
            candidate.caps.cpu_seconds,
            candidate.reason,
        )
        done = run(task, selection.arrays, candidate.caps)
        runs.append(done.measured)
        attempts.append(Attempt(selection.count, done.outcome, candidate.engine, candidate.predicted_bytes))
        if done.bars is not None:
            provenance = _provenance(problem, selection, candidate, tuple(attempts), seed)
            return PersistenceDiagrams.from_bars(problem.in_units(done.bars), provenance, runs)
        LOG.warning("%s of %d %s: %s", candidate.engine, selection.count, problem.source, done.outcome)
    last = attempts[-1]
    raise EngineError(
        f"the diagrams of {last.landmarks} landmarks ended with: {last.outcome}; the caps of {caps.cpu_seconds:g} s CPU"
        f" and {caps.memory_bytes} bytes are too small for this input: raise them"
    )


def _steps(
    problem: Problem, wanted: Engine | None, landmarks: int, caps: Caps, *, allow_gpl: bool
) -> Iterator[tuple[Selection, Candidate]]:
    """What to try, in order: an engine that takes all, then those of landmarks, with ever fewer of them."""
    whole = problem.size(problem.items)
    direct = without_landmarks(whole, problem.max_dimension, caps, metric=problem.metric, allow_gpl=allow_gpl)
    if wanted is not None and (direct is None or direct.engine is not wanted):
        direct = None
        if wanted not in (Engine.RIPS, Engine.SIMPLEX_TREE):
            direct = chosen(wanted, whole, problem.max_dimension, caps)
    if direct is not None:
        yield problem.all_of_it(), direct
        if direct.engine in (Engine.SPARSE_RIPS, Engine.CUBICAL) or problem.kind is Kind.EDGES:
            return
    count = landmarks
    while True:
        selection = problem.all_of_it() if problem.kind is Kind.EDGES else problem.selected(count)
        count = selection.count
        for candidate in _candidates(problem, selection, direct, wanted, caps):
            yield selection, candidate
        if count <= FEWEST_LANDMARKS or problem.kind is Kind.EDGES:
            return
        count //= 2


def _candidates(
    problem: Problem, selection: Selection, direct: Candidate | None, wanted: Engine | None, caps: Caps
) -> list[Candidate]:
    size = problem.size(selection.count)
    if direct is not None:
        again = chosen(direct.engine, size, problem.max_dimension, caps)
        return [replace(again, reason=direct.reason)]
    if wanted is not None:
        return [chosen(wanted, size, problem.max_dimension, caps)]
    outlook = None
    end = np.inf if problem.cut is None else problem.cut
    if problem.kind is Kind.POINTS:
        outlook = outlook_of_points(selection.arrays[0], problem.metric, end, problem.seed)
    elif problem.kind is Kind.DISTANCES:
        outlook = outlook_of_distances(selection.arrays[0], end, problem.seed)
    return vietoris_rips(size, problem.max_dimension, caps, outlook)


def _provenance(
    problem: Problem, selection: Selection, candidate: Candidate, attempts: tuple[Attempt, ...], seed: int
) -> DiagramProvenance:
    program = PROGRAMS.get(candidate.engine)
    return DiagramProvenance(
        points=problem.items,
        landmarks=selection.count,
        covering_radius=selection.covering_radius,
        metric=problem.metric if problem.kind is Kind.POINTS else "given",
        engine="minimum spanning tree" if program is None else f"gudhi {version('gudhi')} {program}",
        seed=seed,
        max_dimension=problem.max_dimension,
        attempts=attempts,
        source=problem.source,
        filtration=problem.filtration(candidate.engine),
        reason=candidate.reason,
        threshold=problem.cut,
        epsilon=problem.epsilon if candidate.engine is Engine.SPARSE_RIPS else None,
        distortion=selection.distortion,
        predicted_bytes=candidate.predicted_bytes,
    )
