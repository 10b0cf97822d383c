"""Memory as it is predicted before an engine starts, over the peak that was measured in its process."""

from __future__ import annotations

import numpy as np
from report import Figure, figure, tell

from aura.topology.engines.task import Engine
from topology_figures.call import call
from topology_figures.clouds import clustered, structureless, torus


def inputs(seed: int) -> dict[str, dict[str, object]]:
    """By name: arguments of the call."""
    rng = np.random.default_rng(seed)
    return {
        "implicit, clustered 1,000": {"points": clustered(1000, seed)},
        "implicit, torus 1,000": {"points": torus(1000, seed)},
        "explicit, random 300": {"points": structureless(300, seed), "engine": Engine.SIMPLEX_TREE},
        "alpha, torus 20,000": {"points": torus(20_000, seed), "allow_gpl": True},
        "spanning tree, clustered 5,000": {"points": clustered(5000, seed), "max_dimension": 0},
        "cubical, 1,000 x 1,000": {"image": rng.normal(size=(1000, 1000))},
        "cubical, 40 x 40 x 40": {"image": rng.normal(size=(40, 40, 40)), "max_dimension": 2},
    }


def figures(runs: int) -> list[Figure]:  # noqa: ARG001 - memory hardly varies
    """Measure."""
    found = []
    for name, arguments in inputs(0).items():
        tell(f"memory, {name}")
        value, _ = call(**arguments)
        measured = value.measured
        if measured is None:
            raise SystemExit("the diagrams do not say what they took")
        ratio = value.provenance.predicted_bytes / measured.peak_bytes
        peak = f"{measured.peak_bytes / 2**20:.0f} MiB measured"
        found.append(figure(f"predicted / measured memory: {name}", [ratio], "ratio", against=peak))
    return found
