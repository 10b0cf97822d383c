"""What an outage of Neo4j costs: lost writes, the time until nothing waits any more, and what a writer feels of it.

A real Neo4j is started for this and killed with SIGKILL while lineage is written to it: materializations, and
placements in which objects move between tiers, so that edges and nodes also go. It stays down for a while, is started
again, and the writing goes on throughout. Every batch is also written to a graph in SQLite, which nobody disturbs; in
the end both have to have the same digest.

Settings are the defaults: the breaker opens after 3 failures in a row and tries again after 30 s.

    python benchmarks/graph_outage.py [--down SECONDS] [--every SECONDS] [--json]
"""

from __future__ import annotations

import argparse
import logging
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from report import Figure, as_json, figure, table, tell

from aura.graph.lineage import StoredSize, Version, materialized, placed
from aura.graph.model import Write
from aura.graph.opening import open_graph
from aura.graph.sqlite_graph import SqliteGraph
from aura.graph.store import GraphStore
from aura.services.recipes import RECIPES
from aura.services.server import Server
from aura.settings import Settings
from aura.settings_sections import GraphSettings

UP_SECONDS = 10.0
PATIENCE_SECONDS = 300.0
DRAINED_GOAL_SECONDS = 60.0
TIERS = ("L1", "L2", "L3")
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


def lineage(seed: int) -> Iterator[list[Write]]:
    """Facts without end: of five batches one is a placement of 60 objects, the others are materializations."""
    chance = random.Random(seed)  # noqa: S311
    number = 0
    while True:
        number += 1
        at = BEGINNING + timedelta(seconds=number)
        if number % 5 == 0:
            tiers = [chance.choice(TIERS) for _ in range(60)]
            objects = [StoredSize(f"values/{each}", tier, 65536) for each, tier in enumerate(tiers) if each % 7]
            yield placed(objects, TIERS)
        else:
            asset, before = number % 20, (number - 1) % 20
            made = Version(f"asset_{asset}", f"source_{number % 3}", f"v{number}")
            inputs = [Version(f"asset_{before}", f"source_{number % 3}", f"v{number - 1}")]
            yield materialized(made, inputs=inputs, run_id=f"run-{number}", at=at, cost={"wall_seconds": 0.5})


@dataclass
class Outage:
    """What was measured; seconds.

    Attributes:
        down: From the kill to the moment at which the server answered again.
        drained: From that moment until nothing waited any more.
        waited: Batches that waited when the server answered again.
        written: Batches in all.
        refused: Batches that were set aside.
        differing: 1 when the digests differ in the end, else 0.
        down_calls: Every call of `apply` while the server was down.
        up_calls: Every call of `apply` before.
    """

    down: float = 0.0
    drained: float = 0.0
    waited: int = 0
    written: int = 0
    refused: int = 0
    differing: int = 0
    down_calls: list[float] = field(default_factory=list)
    up_calls: list[float] = field(default_factory=list)


class Writer:
    """Writes the next batch to both graphs."""

    def __init__(self, graph: GraphStore, undisturbed: GraphStore, every: float) -> None:
        """Write a batch at most every so many seconds."""
        self.graph = graph
        self.undisturbed = undisturbed
        self.every = every
        self.batches = lineage(seed=0)
        self.written = 0

    def write(self) -> float:
        """Write one batch; returns how long the server's graph kept the caller."""
        batch = next(self.batches)
        started = time.perf_counter()
        self.graph.apply(batch)
        seconds = time.perf_counter() - started
        self.undisturbed.apply(batch)
        self.written += 1
        time.sleep(max(0.0, self.every - (time.perf_counter() - started)))
        return seconds

    def write_for(self, seconds: float) -> list[float]:
        """Write until the time is over; returns the seconds of each call."""
        end = time.perf_counter() + seconds
        calls = []
        while time.perf_counter() < end:
            calls.append(self.write())
        return calls


def measure(down_seconds: float, every: float) -> Outage:
    """Run the outage in a directory of its own."""
    outage = Outage()
    with tempfile.TemporaryDirectory(prefix="aura-benchmark-") as name:
        home = Path(name)
        server = Server(RECIPES["neo4j"], home / "services" / "neo4j", tethered=True)
        tell("starting Neo4j")
        server.start()
        settings = Settings(home=home, graph=GraphSettings(neo4j=server.address))
        try:
            with open_graph(settings) as graph, SqliteGraph(home / "undisturbed.db") as undisturbed:
                writer = Writer(graph, undisturbed, every)
                outage.up_calls = writer.write_for(UP_SECONDS)
                tell(f"killing Neo4j for {down_seconds:g} s")
                server.kill()
                killed = time.perf_counter()
                outage.down_calls = writer.write_for(down_seconds)
                server.start()
                answered = time.perf_counter()
                outage.down = answered - killed
                outage.waited = graph.status().waiting
                tell(f"Neo4j answers again, {outage.waited} batches wait")
                while graph.status().waiting and time.perf_counter() - answered < PATIENCE_SECONDS:
                    writer.write()
                outage.drained = time.perf_counter() - answered
                outage.written, outage.refused = writer.written, graph.status().refused
                tell("comparing the graphs")
                outage.differing = int(graph.digest() != undisturbed.digest())
        finally:
            server.kill()
    return outage


def figures_of(outage: Outage) -> list[Figure]:
    """The figures of the report."""

    def one(name: str, value: float, unit: str, goal: float | None = None) -> Figure:
        return figure(name, [float(value)], unit, goal=goal)

    return [
        one("graphs that differ afterwards", outage.differing, "graphs", 0),
        one("batches refused", outage.refused, "batches", 0),
        one("from the server's first answer until nothing waits", outage.drained, "s", DRAINED_GOAL_SECONDS),
        one("server not answering", outage.down, "s"),
        one("batches that waited", outage.waited, "batches"),
        one("batches written", outage.written, "batches"),
        *(
            one(f"a write while the server is {state}, {what}", value, "s")
            for state, calls in (("up", outage.up_calls), ("down", outage.down_calls))
            for what, value in (
                ("median", np.median(calls)),
                ("p99", np.quantile(calls, 0.99)),
                ("longest", max(calls)),
            )
        ),
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--down", type=float, default=60.0, help="seconds between the kill and the start")
    parser.add_argument("--every", type=float, default=0.1, help="seconds between two batches")
    parser.add_argument("--data", type=Path, help="accepted like everywhere, and without meaning here")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    chosen = parser.parse_args()
    logging.disable(logging.WARNING)  # every failure of an outage that is wanted
    figures = figures_of(measure(chosen.down, chosen.every))
    if chosen.json:
        as_json("graph_outage", figures)
    else:
        table(figures)


if __name__ == "__main__":
    main()
