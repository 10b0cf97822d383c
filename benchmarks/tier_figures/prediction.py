"""How well the profile foretells the mean latency of a replay.

In every run a fresh store is filled with objects of all kinds, whose sizes lie between those that the profile is
measured with, and opened again, so that they are where objects of earlier days are. The profile is measured, the
objects are spread over L1, L2 and L3, and each trace is replayed three times: its accesses decide the order and the
popularity, its keys are dealt out to the objects. A run's figure is the median of the three absolute errors. Nothing of
the model was fitted to any trace.

The error of the means without interruptions is that of the model. That of the plain means also has the machine in it:
on a busy one, a get that is preempted for four milliseconds counts as much as two hundred that are not, and how often
that happens is another matter in every second. `interrupted` says how busy it was while the profile was measured.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from report import Figure, figure, tell

from aura.tiers.budgets import MIB, TierBudgets
from aura.tiers.planning.prediction import Replay, replay
from aura.tiers.planning.profile import TierProfile, measure_profile
from aura.tiers.planning.scratch import KINDS, scratch_object
from aura.tiers.records import Tier
from aura.tiers.replay.readers import Format, read_trace
from aura.tiers.store import TieredStore, open_store

OBJECTS = 400
LEAST_BYTES, MOST_BYTES = 6_000, 2_000_000
BUDGETS = TierBudgets(process_bytes=64 * MIB, arena_bytes=96 * MIB)
ACCESSES = 20_000
REPLAYS = 3
GOAL = 0.05


class Source(NamedTuple):
    """A trace: what it is, the pattern of its file, and how it is read; None by content."""

    name: str
    pattern: str
    layout: Format | None


SOURCES = (
    Source("web (cache2k web12)", "cache2k_web12.trace*", None),
    Source("database (cache2k orm-night)", "cache2k_orm-night.trace*", None),
    Source("MoE decoding (qwen)", "qwen.route.csv", "decoding"),
    Source("KV cache (Mooncake)", "mooncake_synthetic.jsonl", "blocks"),
)
UNIFORM = "uniform"
"""Where no trace is there: every object equally often."""


def figures(data: Path | None, runs: int) -> list[Figure]:
    """The error of each trace, with and without the machine's interruptions."""
    orders = _orders(data)
    replays: dict[str, list[list[Replay]]] = {name: [] for name in orders}
    interrupted = []
    for run in range(runs):
        with tempfile.TemporaryDirectory() as directory:
            profile, found = _one_run(Path(directory) / "store", orders, seed=run)
        interrupted.append(profile.interrupted)
        for name, each in found.items():
            replays[name].append(each)
    report = []
    for name, each in replays.items():
        plain = [statistics.median(abs(replay.relative_error) for replay in run) for run in each]
        calm = [statistics.median(abs(replay.calm_error) for replay in run) for run in each]
        mean = "mean latency of a replay"
        report.append(figure(f"{mean}, predicted, {name}", plain, "relative error", against="measured", goal=GOAL))
        report.append(
            figure(f"{mean} without interruptions, {name}", calm, "relative error", against="measured", goal=GOAL)
        )
    report.append(figure("interrupted: gets of the profile", interrupted, "ratio", against="without interruptions"))
    return report


def _orders(data: Path | None) -> dict[str, np.ndarray]:
    """The object of each read, int64[ACCESSES], by the name of the trace."""
    orders = {}
    for source in SOURCES:
        paths = [] if data is None else sorted(data.rglob(source.pattern))
        if not paths:
            tell(f"prediction: no trace {source.pattern} in {data}")
            continue
        trace = read_trace(paths[0], limit=ACCESSES, layout=source.layout)
        orders[source.name] = np.unique(trace.ids, return_inverse=True)[1] % OBJECTS
    return orders or {UNIFORM: np.random.default_rng(0).integers(0, OBJECTS, ACCESSES)}


def _one_run(
    directory: Path, orders: dict[str, np.ndarray], *, seed: int
) -> tuple[TierProfile, dict[str, list[Replay]]]:
    rng = np.random.default_rng(seed)
    with open_store(directory, budgets=BUDGETS) as store:
        _fill(store, rng)
        store.flush()
    with open_store(directory, budgets=BUDGETS) as store:
        tell(f"prediction: run {seed + 1}, measuring the profile")
        profile = measure_profile(store, seed=seed)
        keys = [entry.key for entry in store.entries()]
        tiers = (Tier.L1, Tier.L2, Tier.L3)
        refused = store.move({key: tiers[index] for key, index in zip(keys, rng.integers(0, 3, OBJECTS), strict=True)})
        if refused.refused:
            raise RuntimeError(f"{len(refused.refused)} objects found no room: {refused.refused[0][1]}")
        dealt = rng.permutation(OBJECTS)
        found: dict[str, list[Replay]] = {}
        for name, order in orders.items():
            reads = [keys[dealt[index]] for index in order]
            replays = (replay(store, profile, reads, seed=seed) for _ in range(REPLAYS))
            found[name] = [each for each in replays if each is not None]
    return profile, found


def _fill(store: TieredStore, rng: np.random.Generator) -> None:
    sizes = np.exp(rng.uniform(np.log(LEAST_BYTES), np.log(MOST_BYTES), OBJECTS)).astype(int).tolist()
    kinds = rng.integers(0, len(KINDS), OBJECTS).tolist()
    numbered = list(enumerate(zip(sizes, kinds, strict=True)))
    for start in range(0, OBJECTS, 20):
        store.write(
            {f"object/{n:04d}": scratch_object(KINDS[k], size, rng) for n, (size, k) in numbered[start : start + 20]}
        )
