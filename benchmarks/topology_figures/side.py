"""One side of a comparison, in a process of its own: what it computes, how long that took, and how much memory.

Called as `side.py NAME ITEMS SEED`, with a name of `SIDES`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
from scipy.spatial.distance import pdist, squareform

from aura.topology.process import Measured, peak_bytes


def simplex_tree(distances: object) -> None:
    """The path of GUDHI's tutorials: a Rips complex, all its simplices, their persistence."""
    from gudhi import RipsComplex

    tree = RipsComplex(distance_matrix=distances).create_simplex_tree(max_dimension=2)
    tree.persistence()


def with_ripser(distances: object) -> None:
    """ripser.py."""
    from ripser import ripser

    ripser(distances, maxdim=1, distance_matrix=True)


SIDES = {"ripser": with_ripser, "simplex_tree": simplex_tree}


def run_side(name: str, items: int, seed: int) -> Measured:
    """Run a side on clustered vectors in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), name, str(items), str(seed)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    return Measured(**json.loads(finished.stdout))


def main() -> None:
    """Compute and print what it took, without the libraries and the input."""
    from clouds import clustered

    name, items, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    side = SIDES[name]
    # The libraries load on a small input.
    side(squareform(pdist(clustered(20, seed))))
    distances = squareform(pdist(clustered(items, seed)))
    before_bytes, before_seconds = psutil.Process().memory_info().rss, time.process_time()
    side(distances)
    seconds = time.process_time() - before_seconds
    print(json.dumps({"cpu_seconds": seconds, "peak_bytes": max(0, peak_bytes() - before_bytes)}))


if __name__ == "__main__":
    main()
