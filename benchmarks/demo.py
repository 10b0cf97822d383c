"""How long the main job takes: `make demo` on the built-in sources in a fresh home, and again with nothing changed.

Each run is a process of its own, as a person starts it; installation is not part of it. How many documents were
encoded is read from the records that the runs left in MLflow.

    python benchmarks/demo.py [--runs N] [--json]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from report import PROJECT, Figure, as_json, figure, table, tell

from aura.measure.history import CostHistory
from aura.settings import Settings

FRESH_GOAL_SECONDS = 300.0
AGAIN_GOAL_SECONDS = 30.0
DOCUMENTS_GOAL = 5000


@dataclass(frozen=True)
class Job:
    """One run of the job.

    Attributes:
        seconds: From the start of the process to its end.
        documents: Documents that have an embedding afterwards.
        encoded: Documents that were encoded by this run.
    """

    seconds: float
    documents: int
    encoded: int


def run(home: Path) -> Job:
    """Run the job once in this home."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AURA_")}
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "aura_assets.demo"],
        cwd=PROJECT,
        env={**environment, "AURA_HOME": str(home)},
        stdout=sys.stderr,
        check=True,
    )
    seconds = time.perf_counter() - started
    settings = Settings(home=home)
    history = CostHistory(settings.tracking_uri, settings.measure.mlflow_experiment)
    last = {cost.partition: cost for cost in history.series("text_embeddings")}
    return Job(
        seconds,
        documents=int(sum(cost.figures.get("rows", 0) for cost in last.values())),
        encoded=int(sum(cost.figures.get("encoded", 0) for cost in last.values())),
    )


def figures_of(runs: int) -> list[Figure]:
    """Run the job twice in as many fresh homes."""
    fresh, again = [], []
    for number in range(runs):
        with tempfile.TemporaryDirectory(prefix="aura-demo-") as name:
            fresh.append(run(Path(name) / "home"))
            again.append(run(Path(name) / "home"))
        tell(f"run {number + 1} of {runs}: {fresh[-1].seconds:.1f} s, then {again[-1].seconds:.1f} s")
    return [
        figure("fresh home", [job.seconds for job in fresh], "s", goal=FRESH_GOAL_SECONDS),
        figure("nothing changed", [job.seconds for job in again], "s", goal=AGAIN_GOAL_SECONDS),
        figure("documents", [job.documents for job in fresh], "documents", goal=DOCUMENTS_GOAL, at_least=True),
        figure("encoded when nothing changed", [job.encoded for job in again], "documents", goal=0),
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1, help="how many fresh homes")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    chosen = parser.parse_args()
    if chosen.runs < 1:
        parser.error(f"--runs is {chosen.runs}: one is the least")
    figures = figures_of(chosen.runs)
    if chosen.json:
        as_json("demo", figures)
    else:
        table(figures)


if __name__ == "__main__":
    main()
