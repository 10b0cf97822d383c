"""What a Redis in a black hole costs who reads from the warm pool of the tiers, with a breaker in front of each call.

A real Redis is started behind a proxy that stops passing bytes on without telling anyone, and later begins again. A
caller reads one copy from the pool every few milliseconds throughout: time-outs of 0.5 s, a breaker that opens after 3
failures in a row and tries again every 3 s. The same caller without the breaker is measured beside it.

    python benchmarks/redis_blackhole.py [--silent SECONDS] [--every SECONDS] [--json]
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from redis import RedisError
from report import PROJECT, Figure, as_json, figure, table, tell

from aura.resilience.breaker import BreakerState, CircuitBreaker
from aura.services.recipes import RECIPES
from aura.services.server import Server
from aura.tiers.budgets import RedisAddress
from aura.tiers.codec import encode
from aura.tiers.copies import Record
from aura.tiers.moving import copy_into
from aura.tiers.redis_pool import FAILURES, RedisTier

# The proxy is that of the tests.
sys.path.insert(0, str(PROJECT / "tests" / "resilience"))
from resilience_fault_proxy import FaultProxy

RESET_SECONDS = 3.0
NEVER = 10**9
HEALTHY_SECONDS = 3.0
PATIENCE_SECONDS = 60.0
CALL_GOAL_SECONDS = 1.0
PAYLOAD_BYTES = 64 * 1024
CAPACITY_BYTES = 2**20
RECOVERY_GOAL_SECONDS = 5.0


@dataclass
class Silence:
    """What one caller met.

    Attributes:
        calls: Seconds of each call while nothing came through.
        healthy_calls: Seconds of each call before.
        failures_to_open: Calls that failed before the breaker opened.
        recovery: Seconds from healing to the first answer.
    """

    calls: list[float] = field(default_factory=list)
    healthy_calls: list[float] = field(default_factory=list)
    failures_to_open: int = 0
    recovery: float = 0.0


def call(pool: RedisTier, record: Record, every: float) -> tuple[float, bool]:
    """Read once; returns the seconds and whether an answer came."""
    started = time.perf_counter()
    answered = pool.read(record) is not None
    seconds = time.perf_counter() - started
    time.sleep(max(0.0, every - seconds))
    return seconds, answered


def measure(server: Server, failures: int, silent_seconds: float, every: float) -> Silence:
    """Read before, during and after a black hole."""
    met = Silence()
    place = urlsplit(server.address)
    breaker = CircuitBreaker("Redis", failures, RESET_SECONDS, on=(RedisError, OSError))
    with FaultProxy(place.hostname, place.port) as proxy, tempfile.TemporaryDirectory() as name:
        address = RedisAddress(f"redis://127.0.0.1:{proxy.port}/0")
        pool = RedisTier(address, Path(name), CAPACITY_BYTES, breaker)
        record = copy_into(pool, "benchmark", encode(bytes(PAYLOAD_BYTES)))
        end = time.perf_counter() + HEALTHY_SECONDS
        while time.perf_counter() < end:
            met.healthy_calls.append(call(pool, record, every)[0])
        proxy.silence()
        end = time.perf_counter() + silent_seconds
        while time.perf_counter() < end:
            met.calls.append(call(pool, record, every)[0])
            if breaker.reading().state is BreakerState.CLOSED:
                met.failures_to_open += 1
        met.failures_to_open += 1  # the one that opened it
        proxy.heal()
        healed = time.perf_counter()
        while not call(pool, record, every)[1] and time.perf_counter() - healed < PATIENCE_SECONDS:
            pass
        met.recovery = time.perf_counter() - healed
        pool.close()
    return met


def figures_of(guarded: Silence, bare: Silence) -> list[Figure]:
    """The figures of the report."""

    def one(name: str, value: float, unit: str, goal: float | None = None) -> Figure:
        return figure(name, [float(value)], unit, goal=goal)

    def milliseconds(name: str, seconds: float, goal: float | None = None) -> Figure:
        return one(name, 1e3 * seconds, "ms", None if goal is None else 1e3 * goal)

    return [
        milliseconds("a call in the black hole, p99", np.quantile(guarded.calls, 0.99), CALL_GOAL_SECONDS),
        milliseconds("a call in the black hole, longest", max(guarded.calls), CALL_GOAL_SECONDS),
        milliseconds("a call in the black hole, median", np.median(guarded.calls)),
        milliseconds("a call before, median", np.median(guarded.healthy_calls)),
        one("failures until the breaker opens", guarded.failures_to_open, "calls", FAILURES),
        one("from healing to the first answer", guarded.recovery, "s", RECOVERY_GOAL_SECONDS),
        milliseconds("without a breaker, a call in the black hole, median", np.median(bare.calls)),
        milliseconds("without a breaker, a call in the black hole, p99", np.quantile(bare.calls, 0.99)),
        one("without a breaker, from healing to the first answer", bare.recovery, "s"),
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--silent", type=float, default=20.0, help="seconds in which nothing comes through")
    parser.add_argument("--every", type=float, default=0.01, help="seconds between two calls")
    parser.add_argument("--data", type=Path, help="accepted like everywhere, and without meaning here")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    chosen = parser.parse_args()
    logging.disable(logging.WARNING)  # every failure of an outage that is wanted
    with tempfile.TemporaryDirectory(prefix="aura-benchmark-") as name:
        server = Server(RECIPES["redis"], Path(name) / "redis", tethered=True)
        server.start()
        try:
            tell("calling with a breaker")
            guarded = measure(server, FAILURES, chosen.silent, chosen.every)
            tell("calling without one")
            bare = measure(server, NEVER, chosen.silent, chosen.every)
        finally:
            server.kill()
    figures = figures_of(guarded, bare)
    if chosen.json:
        as_json("redis_blackhole", figures)
    else:
        table(figures)


if __name__ == "__main__":
    main()
