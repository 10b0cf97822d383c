"""Loops of a cloud are read off its diagrams where these are those of its distances, and refused by name elsewhere."""

import numpy as np
import pytest

from aura.topology.cycles import CycleError
from aura.topology.diagrams import Attempt, DiagramProvenance, PersistenceDiagrams
from aura.topology.engines.task import Engine, Kind, Task, compute
from aura.topology.loops import loops_of

ANGLES = np.random.default_rng(0).uniform(0, 2 * np.pi, 30)
CIRCLE = np.column_stack((np.cos(ANGLES), np.sin(ANGLES)))
"""Its one loop lives from 0.73 to 1.74."""


def diagrams(engine=Engine.RIPS, threshold=None, epsilon=None):
    options = {"threshold": np.inf if threshold is None else threshold, "epsilon": epsilon or 0.5}
    bars = compute(Task(engine, Kind.POINTS, 1, **options), [CIRCLE])
    attempts = (Attempt(len(CIRCLE), "done"),)
    provenance = DiagramProvenance(
        len(CIRCLE), len(CIRCLE), 0.0, "euclidean", "a test", 0, 1, attempts, threshold=threshold, epsilon=epsilon
    )
    return PersistenceDiagrams.from_bars(bars, provenance)


@pytest.mark.parametrize("threshold", [None, 1.75])
def test_the_loop_of_a_circle_is_found_with_and_without_a_threshold_beyond_it(threshold):
    (cycle, *_) = loops_of(CIRCLE, diagrams(threshold=threshold), count=1).cycles
    assert cycle.exact
    assert (cycle.birth, cycle.death) == pytest.approx((0.729, 1.743), abs=1e-3)
    turns = np.diff(np.unwrap(ANGLES[[*cycle.vertices, cycle.vertices[0]]])).sum() / (2 * np.pi)
    assert abs(turns) == pytest.approx(1.0)


def test_sparse_diagrams_are_refused():
    with pytest.raises(CycleError, match=r"sparse \(epsilon 0\.3\).*another engine"):
        loops_of(CIRCLE, diagrams(Engine.SPARSE_RIPS, epsilon=0.3), count=1)


def test_diagrams_whose_loops_a_threshold_left_open_are_refused():
    with pytest.raises(CycleError, match=r"cut at the threshold 1, which leaves loops open: .* without a threshold"):
        loops_of(CIRCLE, diagrams(threshold=1.0), count=1)
