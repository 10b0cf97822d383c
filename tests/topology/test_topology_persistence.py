"""A cloud gets its diagrams within the caps, whatever it is made of, and they say how they came about."""

import logging
import subprocess
import sys

import numpy as np
import pytest
from gudhi.hera import bottleneck_distance

from aura.topology.checks import births_before_deaths, finite_h1
from aura.topology.cloud import CloudError, EmptyCloudError
from aura.topology.engines.task import Engine
from aura.topology.persistence import Caps, EngineError, persistence


def circle(n, noise=0.0):
    rng = np.random.default_rng(0)
    angles = 2 * np.pi * np.arange(n) / n
    return np.column_stack((np.cos(angles), np.sin(angles))) + noise * rng.normal(size=(n, 2))


def structureless(n):
    """Random unit vectors in 384 dimensions: all distances are nearly equal, which is the engine's worst case."""
    points = np.random.default_rng(0).normal(size=(n, 384))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_the_loop_of_a_noisy_circle_is_found_and_certified_from_a_few_landmarks():
    value = persistence(points=circle(2000, noise=0.01), landmarks=60, seed=0)
    loops = value.bars(1)[value.certified(1)]
    assert len(loops) == 1
    # The circle's own bar is (0, sqrt(3)); noise and landmarks move its ends by at most their bounds.
    allowed = value.provenance.bottleneck_bound + 2 * 0.05
    assert abs(loops[0, 0]) <= allowed
    assert abs(loops[0, 1] - np.sqrt(3)) <= allowed
    assert value.provenance.landmarks == 60
    assert value.provenance.points == 2000
    assert [(each.landmarks, each.outcome) for each in value.provenance.attempts] == [(60, "done")]
    assert births_before_deaths(value).passed
    assert finite_h1(value).passed


def test_a_cloud_smaller_than_the_landmarks_is_computed_exactly():
    value = persistence(points=circle(12).astype(np.float32), landmarks=500, seed=0)
    assert value.provenance.covering_radius == 0.0
    expected = [[2 * np.sin(np.pi / 12), 2 * np.sin(np.pi * 4 / 12)]]
    assert bottleneck_distance(value.bars(1), np.array(expected), 0.0) < 1e-6
    assert "gudhi" in value.provenance.engine


def test_copies_of_one_point_are_one_component():
    value = persistence(points=np.ones((50, 4)), seed=0)
    np.testing.assert_array_equal(value.bars(0), [[0, np.inf]])
    assert len(value.bars(1)) == 0
    assert (value.provenance.points, value.provenance.landmarks) == (50, 1)
    assert value.provenance.covering_radius == 0.0


@pytest.mark.slow
def test_the_same_cloud_and_seed_give_the_same_value():
    points = np.random.default_rng(5).normal(size=(300, 8))
    assert persistence(points=points, landmarks=50, seed=3) == persistence(points=points, landmarks=50, seed=3)


@pytest.mark.slow
def test_a_structureless_cloud_comes_back_within_its_memory_cap_on_fewer_landmarks():
    value = persistence(points=structureless(600), engine=Engine.RIPS, caps=Caps(memory_bytes=64 * 2**20))
    outcomes = [attempt.outcome for attempt in value.provenance.attempts]
    assert [attempt.landmarks for attempt in value.provenance.attempts] == [600 >> k for k in range(len(outcomes))]
    assert len(outcomes) > 1
    assert set(outcomes[:-1]) == {"passed the memory limit of 67108864 bytes"}
    assert outcomes[-1] == "done"
    assert value.provenance.landmarks < 600
    assert len(value.runs) == len(outcomes)
    assert all(0 < each.cpu_seconds < 30 for each in value.runs)
    assert value.provenance.covering_radius > 0


@pytest.mark.slow
def test_a_cloud_that_takes_too_long_comes_back_on_fewer_landmarks():
    value = persistence(points=structureless(250), engine=Engine.RIPS, caps=Caps(cpu_seconds=0.3))
    first = value.provenance.attempts[0]
    assert (first.landmarks, first.outcome) == (250, "passed the time limit of 0.3 s CPU")
    assert value.provenance.attempts[-1].outcome == "done"
    assert value.provenance.landmarks < 250
    assert value.provenance.covering_radius > 0


def test_caps_that_no_cloud_can_meet_are_an_error_that_names_them():
    with pytest.raises(EngineError, match=r"4 landmarks ended with: not started.*30 s CPU and 1000 bytes.*raise them"):
        persistence(points=circle(8), landmarks=4, caps=Caps(memory_bytes=1000))


def ending(monkeypatch, tmp_path, script):
    """Have engines run this script instead of Python."""
    program = tmp_path / "engine"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


@pytest.mark.parametrize("name", ["SEGV", "ABRT", "FPE"])
def test_an_engine_that_crashes_is_an_error_and_no_cap(monkeypatch, tmp_path, name):
    ending(monkeypatch, tmp_path, f"echo a complaint >&2; kill -{name} $$")
    with pytest.raises(EngineError, match=f"rips crashed with SIG{name}: a complaint"):
        persistence(points=circle(100), engine=Engine.RIPS)


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ("kill -KILL $$", "stopped by SIGKILL"),
        ("echo std::bad_alloc >&2; kill -ABRT $$", "passed the memory limit of 536870912 bytes"),
    ],
)
def test_an_engine_that_is_stopped_for_its_memory_gets_fewer_landmarks(monkeypatch, tmp_path, caplog, script, outcome):
    ending(monkeypatch, tmp_path, script)
    with caplog.at_level(logging.INFO), pytest.raises(EngineError, match=f"of 8 landmarks ended with: {outcome}"):
        persistence(points=circle(100), engine=Engine.RIPS, landmarks=16)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert told[0].startswith("rips of 16 points: predicted ")
    assert told[0].endswith("bytes of 536870912, up to 30 s CPU. The caller asked for it.")
    assert len(told) == 2


@pytest.mark.slow
def test_a_structureless_cloud_is_exact_where_its_simplices_fit_the_memory():
    value = persistence(points=structureless(350), caps=Caps(cpu_seconds=60.0, memory_bytes=2**30))
    assert "SimplexTree" in value.provenance.engine
    assert value.provenance.reason.startswith("No structure: distances vary by 2.")
    assert value.provenance.covering_radius == 0.0
    assert value.measured.peak_bytes <= value.provenance.predicted_bytes


def test_an_empty_cloud_is_refused():
    with pytest.raises(EmptyCloudError):
        persistence(points=np.empty((0, 384), dtype=np.float32), seed=0)


def test_a_cloud_with_a_missing_value_is_refused_with_its_row():
    points = circle(10)
    points[7, 0] = np.nan
    with pytest.raises(CloudError, match="row 7"):
        persistence(points=points, seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"landmarks": 0}, "0 were asked for"),
        ({"max_dimension": -1}, "max_dimension -1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        persistence(points=circle(10), **arguments)


@pytest.mark.parametrize(("arguments", "message"), [((0.0, 1), "time limit"), ((1.0, 0), "memory limit")])
def test_caps_that_allow_nothing_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Caps(*arguments)


def test_loading_the_topology_loads_no_heavy_library():
    program = (
        "import sys, aura.topology.persistence, aura.topology.plots, aura.topology.checks\n"
        "print(*sorted({'gudhi', 'sklearn', 'scipy', 'torch', 'matplotlib'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []


def test_the_engine_process_loads_no_torch():
    program = (
        "import sys, importlib\nfrom aura.topology.process import LIBRARIES\n"
        "[importlib.import_module(name) for names in LIBRARIES.values() for name in names]\n"
        "print(*sorted({'torch', 'transformers', 'mlflow'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []
