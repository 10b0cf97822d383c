"""Experts beside what is dense, beside what `transformers` has, and beside LRU where they live in the tiers.

    python benchmarks/experts.py [--only NAME ...] [--runs N] [--data DIR] [--json]

Parts are the modules of `expert_figures` that have a function `figures`, each described there and run in a process of
its own. All together take about an hour; `language` alone takes half of it, whatever the number of runs.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

from report import PROJECT, Figure, as_json, table

DATA = PROJECT.parent / "shared" / "data"
PARTS = tuple(
    each.stem
    for each in sorted((Path(__file__).parent / "expert_figures").glob("*.py"))
    if "\ndef figures(" in each.read_text()
)


def measure(part: str, data: Path, runs: int) -> list[Figure]:
    """The figures of one part."""
    found: list[Figure] = import_module(f"expert_figures.{part}").figures(data, runs)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="*", default=PARTS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--data", type=Path, default=DATA, help="directory with traces, searched in all its levels")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    chosen = parser.parse_args()
    # CPU seconds of several threads that wait for each other are no figures.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found: list[Figure] = []
    # What a part asks of its process, such as to hold on to freed memory, would change the figures of the next.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as alone:
        for name in chosen.only:
            found += alone.submit(measure, name, chosen.data, chosen.runs).result()
    if chosen.json:
        as_json("experts", found)
    else:
        table(found)


if __name__ == "__main__":
    main()
