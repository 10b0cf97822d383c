"""Persistence beside the libraries that it is made of and beside what people use instead.

    python benchmarks/topology.py [--only NAME ...] [--runs N] [--json]

Parts are the modules of `topology_figures` that have a function `figures`, each described there.
"""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from pathlib import Path

from report import Figure, as_json, table

PARTS = tuple(
    each.stem
    for each in sorted((Path(__file__).parent / "topology_figures").glob("*.py"))
    if "\ndef figures(" in each.read_text()
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="*", default=PARTS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    chosen = parser.parse_args()
    # CPU seconds of several threads that wait for each other are no figures.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found: list[Figure] = []
    for name in chosen.only:
        found += import_module(f"topology_figures.{name}").figures(chosen.runs)
    if chosen.json:
        as_json("topology", found)
    else:
        table(found)


if __name__ == "__main__":
    main()
