"""From a point cloud to its persistence diagrams, whatever the cloud: landmarks, engine, caps.

The engine is `aura.topology.engine` in a process of its own. Where it passes a cap, the number of landmarks is halved
and the diagrams say so, with the bound that holds for the smaller set.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from aura.topology import engine
from aura.topology.cloud import checked_cloud
from aura.topology.diagrams import Attempt, DiagramProvenance, PersistenceDiagrams
from aura.topology.landmarks import farthest_point_landmarks

LOG = logging.getLogger(__name__)

LANDMARKS = 1000
"""Measured on 5000 MiniLM embeddings of docstrings: 0.7 s CPU to choose them, 1 s for the diagram, less than 256 MiB.
A cloud of up to this many points is exact."""
CPU_SECONDS = 30.0
MEMORY_BYTES = 512 * 2**20
"""Twice what the default number of landmarks takes on real embeddings; the loaded libraries add 190 MiB."""
METRIC = "euclidean"
DONE = "done"
FEWEST_LANDMARKS = 8
"""An engine that fails on this few points (less than a thousandth of a second, less than a MiB) has other reasons."""
START_SECONDS = 60.0
"""Wall time allowed for the process to load its libraries; measured 2.8 s on an idle core."""


class EngineError(RuntimeError):
    """The engine failed for a reason other than its caps, or passed them however few landmarks it was given."""


@dataclass(frozen=True)
class Caps:
    """What one run of the engine may use beyond its loaded libraries: CPU time in seconds, memory in bytes."""

    cpu_seconds: float
    memory_bytes: int

    def __post_init__(self) -> None:
        if not self.cpu_seconds > 0:
            raise ValueError(f"time limit {self.cpu_seconds} s: expected more than 0")
        if self.memory_bytes < 1:
            raise ValueError(f"memory limit {self.memory_bytes} bytes: expected at least 1")


def cloud_diagrams(
    points: NDArray[np.floating],
    *,
    landmarks: int = LANDMARKS,
    max_dimension: int = 1,
    seed: int,
    time_limit_seconds: float = CPU_SECONDS,
    memory_limit_bytes: int = MEMORY_BYTES,
) -> PersistenceDiagrams:
    """Compute the Vietoris-Rips persistence diagrams of a cloud in Euclidean distance, up to the enclosing radius.

    Exact (covering radius 0) where the cloud has no more distinct points than `landmarks`; otherwise within 2*delta of
    the exact diagrams in bottleneck distance (Chazal, de Silva, Oudot, 2014).

    Args:
        points: float32 or float64 [n, d], n >= 1.
        landmarks: Most points to build the filtration on, at least 1.
        max_dimension: Highest dimension of homology.
        seed: Seed of the first landmark.
        time_limit_seconds: CPU time of one attempt. An attempt that stands still is ended after a minute plus four
            times as much wall time.
        memory_limit_bytes: Memory of one attempt beyond the loaded libraries.

    Returns:
        The diagrams; `provenance.attempts` lists the runs that passed a cap before the one that did not.

    Raises:
        CloudError: The cloud is empty, misshapen or not finite.
        ValueError: An argument is out of range.
        EngineError: The engine failed, or no number of landmarks stays within the caps.
    """
    if not 0 <= max_dimension <= np.iinfo(np.int8).max:
        raise ValueError(f"max_dimension {max_dimension}: expected 0 to {np.iinfo(np.int8).max}")
    caps = Caps(time_limit_seconds, memory_limit_bytes)
    cloud = checked_cloud(points)
    attempts: list[Attempt] = []
    count = landmarks
    while True:
        chosen = farthest_point_landmarks(cloud, count, seed=seed)
        count = len(chosen.indices)
        outcome, bars = _run_engine(_distances(cloud[chosen.indices]), max_dimension, caps)
        attempts.append(Attempt(count, outcome))
        if bars is not None:
            break
        if count <= FEWEST_LANDMARKS:
            raise EngineError(
                f"the Rips diagram of {count} landmarks ended with: {outcome}; the caps of {caps.cpu_seconds:g} s CPU"
                f" and {caps.memory_bytes} bytes are too small for any cloud: raise them"
            )
        LOG.warning("Rips diagram of %d landmarks: %s; trying %d", count, outcome, count // 2)
        count //= 2
    provenance = DiagramProvenance(
        points=len(cloud),
        landmarks=count,
        covering_radius=chosen.covering_radius,
        metric=METRIC,
        engine=f"gudhi {version('gudhi')} RipsPersistence, enclosing radius, F2",
        seed=seed,
        max_dimension=max_dimension,
        attempts=tuple(attempts),
    )
    return PersistenceDiagrams.from_bars(bars, provenance)


def _distances(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance matrix [m, m] from coordinate differences, hence symmetric and without cancellation."""
    # 0.55 s of CPU, which loading the asset definitions must not pay.
    from scipy.spatial.distance import pdist, squareform

    if len(points) == 1:
        return np.zeros((1, 1))
    distances: NDArray[np.float64] = squareform(pdist(points))
    return distances


def _run_engine(
    distances: NDArray[np.float64], max_dimension: int, caps: Caps
) -> tuple[str, NDArray[np.float64] | None]:
    """Run the engine once; return how it ended and its bars [k, 3], or None where it passed a cap."""
    command = [sys.executable, "-m", engine.__name__, f"--max-dimension={max_dimension}"]
    command += [f"--cpu-seconds={caps.cpu_seconds}", f"--memory-bytes={caps.memory_bytes}"]
    wall_seconds = START_SECONDS + 4 * caps.cpu_seconds
    try:
        # The command holds our own interpreter, our own module and three numbers.
        process = subprocess.run(  # noqa: S603
            command, input=engine.encode(distances), capture_output=True, timeout=wall_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no end within {wall_seconds:g} s of wall time", None
    if process.returncode == 0:
        return DONE, engine.decode(process.stdout)
    if process.returncode == engine.OUT_OF_MEMORY:
        return f"passed the memory limit of {caps.memory_bytes} bytes", None
    if process.returncode == -signal.SIGPROF:
        return f"passed the time limit of {caps.cpu_seconds:g} s CPU", None
    if process.returncode < 0:
        return f"stopped by {signal.Signals(-process.returncode).name}", None
    complaint = process.stderr.decode(errors="replace").strip()
    raise EngineError(
        f"{engine.__name__} exited with status {process.returncode} on {len(distances)} points: {complaint}"
    )
