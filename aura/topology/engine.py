"""The computation of a Rips diagram, and the process it runs in.

`rips_bars` is the plain call. `python -m aura.topology.engine` runs it in a process of its own under a cap on memory
and on CPU time: on structureless clouds in high dimension the matrix reduction grows without warning (500 random unit
vectors in 384 dimensions want more than 5 GB, 500 real text embeddings 20 MB), and nothing about the input tells the
two apart beforehand. The distance matrix arrives on standard input and the bars leave on standard output, both in npy
format without pickle.
"""

from __future__ import annotations

import argparse
import importlib
import io
import resource
import signal
import sys

import numpy as np
import psutil
from numpy.typing import NDArray

OUT_OF_MEMORY = 3
"""Exit status of the process when the computation asked for more memory than its cap."""


def rips_bars(distances: NDArray[np.float64], max_dimension: int) -> NDArray[np.float64]:
    """Compute the persistence of the Vietoris-Rips filtration, over the field of two elements.

    The filtration value of a simplex is its diameter. It stops at the enclosing radius (the smallest of the largest
    distances from one point to all others): from there on the complex is a cone, so no bar of dimension 1 or more
    outlives it. Cohomology with clearing after Bauer, "Ripser" (2021), in GUDHI's fork.

    Args:
        distances: float64 [m, m], at least one point. An asymmetry by rounding is removed with the larger of the two
            entries: GUDHI 3.13 reads both triangles, and a matrix that is off by 1e-15 gives a wrong H1 or no end.
        max_dimension: Highest dimension of homology, at least 0.

    Returns:
        float64 [k, 3]: dimension, birth, death (infinite for the essential class of H0), sorted by these.

    Raises:
        MemoryError: The reduction ran out of memory.
    """
    from gudhi.sklearn import RipsPersistence

    rips = RipsPersistence(
        homology_dimensions=range(max_dimension + 1), input_type="full distance matrix", homology_coeff_field=2
    )
    (diagrams,) = rips.fit_transform([np.maximum(distances, distances.T)])
    bars = np.concatenate([np.column_stack((np.full(len(d), k), d)) for k, d in enumerate(diagrams)])
    return bars[np.lexsort((bars[:, 2], bars[:, 1], bars[:, 0]))]


def encode(array: NDArray[np.float64]) -> bytes:
    """Write an array in npy format."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def decode(data: bytes) -> NDArray[np.float64]:
    """Read an array in npy format; an array that needs pickle is refused with `ValueError`."""
    array: NDArray[np.float64] = np.load(io.BytesIO(data), allow_pickle=False)
    return array


def cap_resources(cpu_seconds: float, memory_bytes: int) -> None:
    """Cap what this process may use from now on, beyond what it holds already.

    Passing the memory cap makes allocations fail; passing the CPU time ends the process with SIGPROF. CPU time and not
    wall time, so that a busy machine gives the same diagrams as an idle one.
    """
    cap = psutil.Process().memory_info().vms + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (cap, cap))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)


def main() -> int:
    """Read a distance matrix, compute its bars under the caps, write them; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m aura.topology.engine", description=main.__doc__)
    parser.add_argument("--max-dimension", type=int, required=True)
    parser.add_argument("--cpu-seconds", type=float, required=True)
    parser.add_argument("--memory-bytes", type=int, required=True)
    options = parser.parse_args()
    distances = decode(sys.stdin.buffer.read())
    # Loaded before the caps start, so that these speak of the computation alone.
    importlib.import_module("gudhi.sklearn")
    cap_resources(options.cpu_seconds, options.memory_bytes)
    try:
        result = encode(rips_bars(distances, options.max_dimension))
    except MemoryError:
        return OUT_OF_MEMORY
    sys.stdout.buffer.write(result)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
