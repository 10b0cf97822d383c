"""The tiered store beside what it is made of, beside other caches, and beside what is possible.

    python benchmarks/tiers.py [--data DIR] [--only NAME ...] [--runs N] [--json]

Parts, each described in its module in `tier_figures`: latency (gets), promotion (bandwidth), placement (the planner),
prediction (the cost model against a replay), online (the online layer on recorded traces), control_plane (what that
layer uses).
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from report import PROJECT, Figure, as_json, table

PARTS = ("latency", "promotion", "placement", "prediction", "online", "control_plane")
DATA = PROJECT.parent / "shared" / "data"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="directory with access traces in `traces`")
    parser.add_argument("--only", choices=PARTS, nargs="*", default=PARTS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    found: list[Figure] = []
    for name in chosen.only:
        found += import_module(f"tier_figures.{name}").figures(
            chosen.data if chosen.data.is_dir() else None, chosen.runs
        )
    if chosen.json:
        as_json("tiers", found)
    else:
        table(found)


if __name__ == "__main__":
    main()
