"""The encoders beside the libraries that they are made of: texts, images and sounds, on the same items in one run.

    python benchmarks/embeddings.py [--data DIR] [--only NAME ...] [--runs N] [--json]

Parts, each described in its module in `embedding_figures`: text (MiniLM), images and sounds (architectures of the usual
sizes), memory (peak over a stream), gpu (the same on CUDA).
"""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from pathlib import Path

from report import PROJECT, Figure, as_json, table

PARTS = ("text", "images", "sounds", "memory", "gpu")
DATA = PROJECT.parent / "shared" / "data"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="directory with spoken digits in `fsdd`")
    parser.add_argument("--only", choices=PARTS, nargs="*", default=PARTS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    # What a tokenizer says about forks, and progress bars, are no figures.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    found: list[Figure] = []
    for name in chosen.only:
        found += import_module(f"embedding_figures.{name}").figures(
            chosen.data if chosen.data.is_dir() else None, chosen.runs
        )
    if chosen.json:
        as_json("embeddings", found)
    else:
        table(found)


if __name__ == "__main__":
    main()
