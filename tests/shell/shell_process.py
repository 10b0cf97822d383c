"""One run in a process of its own: `python shell_process.py PARTITION ASSET...`, with the settings of the environment.

Prints the outcome as JSON: success, failed steps, and the assets that were materialized.
"""

from __future__ import annotations

import json
import sys

from shell_graph import Graph

from aura.settings import load_settings


def main() -> None:
    partition, *assets = sys.argv[1:]
    graph = Graph(load_settings())
    outcome = graph.run_selection(assets, partition) if assets else graph.run("corpus", partition)
    print(
        json.dumps(
            {"success": outcome.success, "failed": dict(outcome.failed), "materialized": sorted(outcome.materialized)}
        )
    )


if __name__ == "__main__":
    main()
