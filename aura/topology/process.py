"""An engine in a process of its own, under a cap on memory and on CPU time, so that no input takes the machine down.

On structureless clouds in high dimension the reduction grows without warning (500 random unit vectors in 384 dimensions
want more than 5 GB, 500 real text embeddings 20 MB). Arrays arrive on the process's standard input and leave on its
standard output, in npy format without pickle; the task is an argument, in JSON.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from pydantic import TypeAdapter

from aura.topology.engines.task import Arrays, Bars, Engine, Measured, Task, compute, engine_module

OUT_OF_MEMORY = 3
"""Exit status of the process when the computation asked for more memory than its cap."""
DONE = "done"
START_SECONDS = 60.0
"""Wall time allowed for the process to load its libraries; measured 2.8 s on an idle core."""
LIBRARIES = {
    Engine.RIPS: ("gudhi.sklearn", "scipy.spatial.distance", "scipy.sparse.csgraph"),
    Engine.SIMPLEX_TREE: ("gudhi", "scipy.spatial.distance", "scipy.sparse.csgraph"),
    Engine.ALPHA: ("gudhi",),
    Engine.SPANNING_TREE: ("scipy.spatial.distance", "scipy.sparse.csgraph"),
    Engine.SPARSE_RIPS: ("gudhi", "scipy.spatial.distance"),
    Engine.CUBICAL: ("gudhi.sklearn",),
}
"""Loaded before the caps start, so that these speak of the computation alone."""
CPU_SECONDS = 30.0
MEMORY_BYTES = 512 * 2**20
"""Twice what a thousand points take on real embeddings; the loaded libraries add 190 MiB."""


class EngineError(RuntimeError):
    """The engine failed or crashed for a reason other than its caps, or passed them with the fewest landmarks too."""


@dataclass(frozen=True)
class Caps:
    """What one run of an engine may use beyond its loaded libraries and its input.

    Attributes:
        cpu_seconds: CPU time. A run that stands still is ended after a minute plus four times as much wall time.
        memory_bytes: Address space.
    """

    cpu_seconds: float = CPU_SECONDS
    memory_bytes: int = MEMORY_BYTES

    def __post_init__(self) -> None:
        if not self.cpu_seconds > 0:
            raise ValueError(f"time limit {self.cpu_seconds} s: expected more than 0")
        if self.memory_bytes < 1:
            raise ValueError(f"memory limit {self.memory_bytes} bytes: expected at least 1")


@dataclass(frozen=True)
class Run:
    """How one run of an engine ended.

    Attributes:
        outcome: `DONE`, or the cap that it passed.
        measured: What it used. Where it was stopped from outside that is the time cap, the most it can have been, with
            an unknown peak.
        bars: None where it passed a cap.
    """

    outcome: str
    measured: Measured
    bars: Bars | None = None


_TASK = TypeAdapter(Task)


def run(task: Task, arrays: Arrays, caps: Caps) -> Run:
    """Run an engine once, in a process of its own.

    Raises:
        EngineError: It failed for a reason other than its caps, or was ended by a signal; that of the kernel when the
            machine's memory is used up, SIGKILL, counts as a cap.
    """
    command = [sys.executable, "-m", __name__, json.dumps(asdict(task))]
    command += [str(caps.cpu_seconds), str(caps.memory_bytes), str(len(arrays))]
    stopped = Measured(cpu_seconds=caps.cpu_seconds, peak_bytes=0)
    wall_seconds = START_SECONDS + 4 * caps.cpu_seconds
    # A threaded matrix product burns CPU time that the caps would count, for nothing on a busy machine.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    try:
        # The command holds our own interpreter, our own module, a task and three numbers.
        process = subprocess.run(  # noqa: S603
            command, input=encode(arrays), capture_output=True, timeout=wall_seconds, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        return Run(f"no end within {wall_seconds:g} s of wall time", stopped)
    if process.returncode == 0:
        bars, figures = decode(process.stdout, 2)
        return Run(DONE, Measured(cpu_seconds=float(figures[0]), peak_bytes=int(figures[1])), bars)
    memory_passed = f"passed the memory limit of {caps.memory_bytes} bytes"
    if process.returncode == OUT_OF_MEMORY:
        return Run(memory_passed, Measured(cpu_seconds=float(process.stdout), peak_bytes=caps.memory_bytes))
    if process.returncode == -signal.SIGABRT and b"bad_alloc" in process.stderr:
        # Thrown where C++ may not throw, which ends the process.
        return Run(memory_passed, stopped)
    if process.returncode == -signal.SIGPROF:
        return Run(f"passed the time limit of {caps.cpu_seconds:g} s CPU", stopped)
    if process.returncode == -signal.SIGKILL:
        return Run("stopped by SIGKILL", stopped)
    complaint = process.stderr.decode(errors="replace").strip()
    if process.returncode < 0:
        ended = f"crashed with {signal.Signals(-process.returncode).name}"
    else:
        ended = f"exited with status {process.returncode}"
    raise EngineError(f"the engine {task.engine} {ended}: {complaint or 'it said nothing'}")


def encode(arrays: Arrays) -> bytes:
    """Write arrays in npy format, one after the other; one that needs pickle is refused with `ValueError`."""
    buffer = io.BytesIO()
    for array in arrays:
        np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def decode(data: bytes, count: int) -> list[NDArray[np.float64]]:
    """Read `count` arrays in npy format; one that needs pickle is refused with `ValueError`."""
    buffer = io.BytesIO(data)
    return [np.load(buffer, allow_pickle=False) for _ in range(count)]


def cap_resources(caps: Caps) -> None:
    """Cap what this process may use from now on, beyond what it holds already.

    Passing the memory cap makes allocations fail; passing the CPU time ends the process with SIGPROF. CPU time and not
    wall time, so that a busy machine gives the same diagrams as an idle one.
    """
    cap = psutil.Process().memory_info().vms + caps.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (cap, cap))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, caps.cpu_seconds)


def peak_bytes() -> int:
    """Peak of this process's resident memory; 0 where the system does not tell.

    Not from `getrusage`: on Linux a new process starts with the peak of the one that started it.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def main() -> int:
    """Read arrays, compute the task's bars under the caps, write them with what it took; return the exit status.

    Without the memory for it, the CPU time is all that is written.
    """
    task = _TASK.validate_json(sys.argv[1])
    caps = Caps(cpu_seconds=float(sys.argv[2]), memory_bytes=int(sys.argv[3]))
    arrays = decode(sys.stdin.buffer.read(), int(sys.argv[4]))
    for library in LIBRARIES[task.engine]:
        importlib.import_module(library)
    engine_module(task.engine)
    before_bytes, before_seconds = psutil.Process().memory_info().rss, time.process_time()
    cap_resources(caps)
    try:
        bars = compute(task, arrays)
        figures = np.array([time.process_time() - before_seconds, max(0, peak_bytes() - before_bytes)])
        result = encode([bars, figures])
    except MemoryError:
        sys.stdout.write(str(time.process_time() - before_seconds))
        return OUT_OF_MEMORY
    finally:
        # What the libraries do when the process ends is not the computation.
        signal.setitimer(signal.ITIMER_PROF, 0.0)
    sys.stdout.buffer.write(result)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
