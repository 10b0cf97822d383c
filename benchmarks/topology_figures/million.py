"""A million points in 384 dimensions: averaged landscapes with bands, their time, and memory that stays put.

The points lie in 12 clusters of 8 dimensions each, as unit vectors, like text embeddings do; they are made in blocks
and written to a file. The averaging runs in a process of its own that reads the rows it needs, once on a hundredth of
the file and once on all of it. What counts as memory is the largest resident set beyond what the loaded libraries take.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from report import PROJECT, Figure, figure, tell

POINTS, DIMENSION = 1_000_000, 384
CLUSTERS, CLUSTER_DIMENSION = 12, 8
BLOCK = 20_000
SUBSAMPLE, SUBSAMPLES = 300, 100
SEED = 7
MEMORY_GROWTH = 1.1
"""Goal: the largest resident set on all points relative to that on a hundredth of them."""

AVERAGE = """
import json, os, sys, time
import numpy as np
import gudhi.sklearn, scipy.spatial.distance
from aura.topology.subsamples import averaged_landscapes

path, points, dimension, size, count, seed = sys.argv[1], *map(int, sys.argv[2:])
file = open(path, "rb")

class Rows:
    def __len__(self):
        return points
    def __getitem__(self, rows):
        # Read and not mapped: the kernel maps 64 KiB around each row that is cached, and counts them as resident.
        read = (os.pread(file.fileno(), dimension * 4, int(row) * dimension * 4) for row in rows)
        return np.frombuffer(b"".join(read), dtype=np.float32).reshape(len(rows), dimension)

def resident(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key))
    return int(line.split()[1]) / 1024

loaded, wall, cpu = resident("VmRSS"), time.perf_counter(), time.process_time()
provenance = averaged_landscapes(Rows(), size=size, count=count, seed=seed).provenance
found = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
found |= {"loaded": loaded, "peak": resident("VmHWM"), "half_widths": provenance.half_widths}
print(json.dumps(found | {"guarantee": provenance.guarantee}))
"""


def figures(runs: int) -> list[Figure]:
    """All rows about a million points; one run, however many are asked for."""
    del runs
    with tempfile.TemporaryDirectory(prefix="aura-million-") as home:
        path = Path(home) / "points.float32"
        tell(f"making {POINTS} points")
        started = time.process_time()
        write_clusters(path)
        made = time.process_time() - started
        few = average(path, POINTS // 100)
        tell("averaging over all points")
        all_points = average(path, POINTS)
    name = f"{SUBSAMPLES} landscapes of {SUBSAMPLE} of {POINTS:,} points x {DIMENSION}"
    beyond = [each["peak"] - each["loaded"] for each in (few, all_points)]
    return [
        figure("making a million points, blocks to a file", [made], "CPU s"),
        figure(f"{name}: wall time", [all_points["wall"]], "s"),
        figure(f"{name}: CPU time", [all_points["cpu"]], "CPU s"),
        figure(f"{name}: memory beyond the libraries", [beyond[1]], "MiB", against=f"{file_mebibytes():.0f} MiB file"),
        figure(
            "memory of the process, 100 times the points",
            [all_points["peak"] / few["peak"]],
            "ratio",
            against=f"{POINTS // 100:,} points",
            goal=MEMORY_GROWTH,
        ),
        *(
            figure(f"half width of the 95 % band, H{dimension}", [width], "distance")
            for dimension, width in enumerate(all_points["half_widths"])
        ),
    ]


def file_mebibytes() -> float:
    """Size of all points in float32."""
    return POINTS * DIMENSION * 4 / 2**20


def write_clusters(path: Path) -> None:
    """Write the points, float32 [POINTS, DIMENSION], a block at a time."""
    rng = np.random.default_rng(SEED)
    centres = rng.standard_normal((CLUSTERS, DIMENSION), dtype=np.float32)
    frames = rng.standard_normal((CLUSTERS, CLUSTER_DIMENSION, DIMENSION), dtype=np.float32)
    with path.open("wb") as file:
        for _ in range(POINTS // BLOCK):
            member = np.sort(rng.integers(CLUSTERS, size=BLOCK))
            within = rng.standard_normal((BLOCK, CLUSTER_DIMENSION), dtype=np.float32) * np.float32(0.15)
            block = np.concatenate([within[member == k] @ frames[k] + centres[k] for k in range(CLUSTERS)])
            block /= np.linalg.norm(block, axis=1, keepdims=True)
            file.write(block[rng.permutation(BLOCK)].tobytes())


def average(path: Path, points: int) -> dict:
    """Average over the first points of a file in a process of its own; return what it measured."""
    command = [sys.executable, "-c", AVERAGE, path, points, DIMENSION, SUBSAMPLE, SUBSAMPLES, SEED]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    finished = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=environment)
    if finished.returncode:
        raise RuntimeError(f"averaging over {points} points failed: {finished.stderr[-2000:]}")
    measured = json.loads(finished.stdout)
    tell(f"{points} points: {measured['guarantee']}")
    return measured
