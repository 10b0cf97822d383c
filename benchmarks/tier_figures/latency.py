"""What a get costs in each tier over what the raw thing costs: a dictionary, a copy of memory, the bare clients.

Both sides of a ratio take turns, many short rounds of each, and a ratio is that of their medians: what else the machine
does hits both alike. Objects are read in a shuffled order; those of 4 KiB and more are together larger than the caches
of the processor, since a tier is seldom read twice at the same place. The copy of memory reads the same bytes of the
arena.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cachetools
import numpy as np
import rocksdict
from report import Figure, figure, tell

from aura.services.recipe import MissingSoftwareError
from aura.services.recipes import RECIPES
from aura.services.server import Server
from aura.tiers.budgets import RedisAddress, TierBudgets
from aura.tiers.local import DATABASE
from aura.tiers.records import Tier
from aura.tiers.store import TieredStore, open_store
from aura.tiers.values import Part

KIB, MIB = 1 << 10, 1 << 20
LIVE_OBJECTS = 1000
LIVE_BYTES = 100
"""Of the objects of L1: their lookup is timed, not their content."""
SPREAD_BYTES = 64 * MIB
ROUNDS = 15
GOALS = {4 * KIB: 1.3, 64 * KIB: 1.05, MIB: 1.05}
ARENA_GOAL = 1.3


@dataclass(frozen=True)
class Ratio:
    """One measured ratio and what it has to be."""

    name: str
    against: str
    goal: float
    value: float
    at_least: bool = False


def figures(data: Path | None, runs: int) -> list[Figure]:
    """All rows about gets; those about Redis only where it is installed."""
    del data
    found: list[Figure] = []
    for name, measure in (("L1", live), ("L2 arena", arena), ("L3", disk), ("L2 Redis", redis)):
        tell(f"gets of {name}")
        with tempfile.TemporaryDirectory(prefix="aura-latency-") as home:
            each = [list(measure(Path(home) / str(run))) for run in range(runs)]
        for same in zip(*each, strict=True):
            values = [one.value for one in same]
            one = same[0]
            found.append(figure(one.name, values, "ratio", against=one.against, goal=one.goal, at_least=one.at_least))
    return found


def live(home: Path) -> Iterator[Ratio]:
    """L1, its access log included, beside a dictionary of the same objects and beside an LRU cache."""
    with open_store(home, budgets=TierBudgets(process_bytes=MIB, arena_bytes=0)) as store:
        keys = filled(store, LIVE_BYTES, LIVE_OBJECTS, Tier.L1)
        plain = store.get_many(keys)
        cache: cachetools.LRUCache[str, Part] = cachetools.LRUCache(2 * LIVE_OBJECTS)
        cache.update(plain)
        ours, theirs, cached = medians(
            [each(store.get, keys), each(plain.get, keys), each(cache.get, keys)], 5 * ROUNDS
        )
        yield Ratio("L1 get with the access log", "dict.get", 3.0, ours / theirs)
        yield Ratio(
            "L1 get with the access log, times faster", "cachetools.LRUCache.get", 3.0, cached / ours, at_least=True
        )


def arena(home: Path) -> Iterator[Ratio]:
    """L2 in the owner: arrays are viewed, bytes have to be copied."""
    for size in (64 * KIB, MIB, 8 * MIB):
        for kind in ("arrays", "bytes"):
            budgets = TierBudgets(process_bytes=0, arena_bytes=SPREAD_BYTES + 16 * MIB)
            with open_store(home / f"{kind}{size}", budgets=budgets) as store:
                keys = filled(store, size, max(8, SPREAD_BYTES // size), Tier.L2, arrays=kind == "arrays")
                places = [np.frombuffer(store.records[key].payload, dtype=np.uint8) for key in keys]
                target = np.empty(size + KIB, dtype=np.uint8)
                copied = partial(copy_to, target)
                ours, theirs = medians([each(store.get, keys), each(copied, places)])
                del places
            yield Ratio(f"L2 arena get, {kind} of {size // KIB} KiB", "memcpy", ARENA_GOAL, ours / theirs)


def disk(home: Path) -> Iterator[Ratio]:
    """L3 beside the same database, opened by rocksdict with its defaults but for compression, which the store lacks."""
    for size, goal in GOALS.items():
        place = home / str(size)
        with open_store(place, budgets=TierBudgets(process_bytes=0, arena_bytes=0)) as store:
            keys = filled(store, size, SPREAD_BYTES // size, Tier.L3)
            store.checkpoint(place / "copy")
            with bare(place / "copy" / DATABASE) as database:
                ours, theirs = medians([each(store.get, keys), each(database.get, [key.encode() for key in keys])])
        yield Ratio(f"L3 get of {size // KIB} KiB", "rocksdict", goal, ours / theirs)


def redis(home: Path) -> Iterator[Ratio]:
    """L2 in Redis beside a bare client of the same server."""
    server = Server(RECIPES["redis"], home / "server", tethered=True)
    try:
        server.start()
    except MissingSoftwareError as error:
        tell(f"left out: {error}")
        return
    import redis as client_library

    try:
        client = client_library.Redis.from_url(server.address)
        for size, goal in GOALS.items():
            pool = RedisAddress(server.address, timeout_seconds=30)
            budgets = TierBudgets(process_bytes=0, arena_bytes=2 * SPREAD_BYTES, warm_pool=pool)
            with open_store(home / str(size), budgets=budgets) as store:
                keys = filled(store, size, min(500, SPREAD_BYTES // size), Tier.L2)
                names = {name.rsplit(b":", 1)[1].decode(): name for name in client.scan_iter("aura:*", count=1000)}
                ours, theirs = medians([each(store.get, keys), each(client.get, [names[key] for key in keys])])
            yield Ratio(f"L2 Redis get of {size // KIB} KiB", "redis-py", goal, ours / theirs)
    finally:
        server.kill()


def copy_to(target: np.ndarray, source: np.ndarray) -> None:
    """Copy one array to the beginning of another."""
    np.copyto(target[: len(source)], source)


def filled(store: TieredStore, size: int, count: int, tier: Tier, *, arrays: bool = False) -> list[str]:
    """Keys of objects of this size in a tier, in a shuffled order; on disk they are out of the write buffer."""
    rng = np.random.default_rng(size)
    keys = [f"{number}" for number in range(count)]
    for key in keys:
        store.put(key, {"w": rng.random(size // 8)} if arrays else rng.bytes(size))
    store.flush()
    if tier is not Tier.L3:
        moved_all(store, keys, tier)
    return [keys[number] for number in rng.permutation(count)]


def moved_all(store: TieredStore, keys: Sequence[str], tier: Tier) -> None:
    """Move all of them, or stop."""
    report = store.move(dict.fromkeys(keys, tier))
    if report.refused:
        raise RuntimeError(f"{len(report.refused)} objects do not go to {tier}: {report.refused[0][1]}")


@contextmanager
def bare(path: Path) -> Iterator[rocksdict.Rdict]:
    """The database without the store."""
    options = rocksdict.Options(raw_mode=True)
    options.set_compression_type(rocksdict.DBCompressionType.none())
    families = {"headers": options, "system": options}
    database = rocksdict.Rdict(
        str(path), options, column_families=families, access_type=rocksdict.AccessType.read_only()
    )
    try:
        yield database
    finally:
        database.close()


def each(call: Callable[[object], object], arguments: Sequence[object]) -> Callable[[], float]:
    """Seconds of one call with each argument, on the average."""

    def work() -> float:
        start = time.perf_counter()
        for argument in arguments:
            call(argument)
        return (time.perf_counter() - start) / len(arguments)

    return work


def medians(sides: Sequence[Callable[[], float]], rounds: int = ROUNDS) -> list[float]:
    """The median of each, taken in turns; the first turn does not count."""
    turns = [[side() for side in sides] for _ in range(rounds + 1)][1:]
    return [statistics.median(turn[number] for turn in turns) for number in range(len(sides))]
