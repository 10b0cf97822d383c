"""What accesses cost under the online layer, moves included, against LRU cascades over the same tiers and against none.

The costs of the tiers are measured first, on objects of bytes in a store in a temporary directory. Recorded traces are
then replayed in simulation: 5, 10 and 25 % of the bytes of a trace fit into fast memory, a third of them into L1.
Traces without sizes have objects of 64 KiB. The layer works as it does beside a store: it is told what was read in
batches of 1,024 accesses or a tenth of a second, gets following each other without a pause, and what it decides is in
place for the next batch. A move costs the layer the read of the copy and the write, as the store's mover makes it.

The goals are held against the strongest cascade: one that is built into the get, which promotes with the bytes at hand
and pays for the write alone. A cascade whose moves cost what they cost the layer is shown too, and one with moves for
free. No cache at all is every get from L3: where L3 is cheap, that is less than any cascade costs. A run is one
measurement of the tiers with all replays.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from report import Figure, figure, tell
from tier_policies import DATA, DEFAULT_LIMIT, GROUPS, SHARES, Group, closed

from aura.tiers.budgets import TierBudgets
from aura.tiers.online.costs import CostTable, TierCosts
from aura.tiers.online.simulate import Cost, replay_cascade, replay_layer
from aura.tiers.planning.profile import TierProfile, measure_profile
from aura.tiers.records import Tier
from aura.tiers.replay.comparison import compare
from aura.tiers.replay.lru import Lru
from aura.tiers.replay.optimum import belady, gap_closed, stacked_cost
from aura.tiers.replay.policies import PORTFOLIO
from aura.tiers.replay.policy import replay
from aura.tiers.replay.readers import read_trace
from aura.tiers.replay.trace import Trace
from aura.tiers.store import open_store

KIB, MIB = 1 << 10, 1 << 20
OBJECT_BYTES = 64 * KIB
PROFILE_SIZES = (16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB)
FIRST_SHARE = 1 / 3
"""Of fast memory that is L1; the rest is L2."""
COST_GOAL, WORST_GOAL, BYTES_GOAL = 0.85, 1.02, 0.5


@dataclass(frozen=True)
class Cell:
    """One trace at one capacity.

    Attributes:
        trace: The accesses.
        group: What kind of trace it is.
        share: Of all bytes that fit into fast memory.
        lru: Miss ratios of LRU with the room of L1, and of L1 and L2 together.
        best: Those of the optimum.
    """

    trace: Trace
    group: Group
    share: float
    lru: tuple[float, float]
    best: tuple[float, float]

    @property
    def object_bytes(self) -> int:
        """Bytes of an object, for a trace without sizes."""
        return OBJECT_BYTES if self.trace.sizes is None else 1

    @property
    def name(self) -> str:
        """Trace and share."""
        return f"{self.trace.name} at {self.share:.0%}"


@dataclass(frozen=True)
class Result:
    """One cell with measured costs.

    Attributes:
        cell: Which one.
        layer: Of the online layer.
        cascade: Of the LRU cascade that promotes within the get, with the bytes at hand.
        mover_cascade: Of the LRU cascade whose moves cost what they cost the layer.
        no_cache: Of L3 alone.
        free_cascade: Mean seconds of a cascade whose moves are free.
        optimum: Mean seconds of the stacked optimum, whose moves are free.
    """

    cell: Cell
    layer: Cost
    cascade: Cost
    mover_cascade: Cost
    no_cache: Cost
    free_cascade: float
    optimum: float

    def ratio(self) -> float:
        """Mean cost over that of the cascade."""
        return self.layer.mean_seconds / self.cascade.mean_seconds

    def bytes_ratio(self) -> float:
        """Bytes moved over those of the cascade."""
        return self.layer.moved_bytes / self.cascade.moved_bytes

    @property
    def gap_closed(self) -> float | None:
        """Share of the gap in misses of L3 that the layer closes, its batches and the price of moves included."""
        return gap_closed(self.cell.lru[1], self.layer.miss_ratio, self.cell.best[1])


def figures(data: Path | None, runs: int) -> list[Figure]:
    """All figures of the online layer; none where there is no trace."""
    directory = data or DATA
    cells = list(all_cells(directory))
    if not cells:
        tell(f"online layer: no trace in {directory}")
        return []
    measured = [[replayed(cell, profile) for cell in cells] for profile in map(measured_tiers, range(runs))]
    return [*cost_figures(measured), *gap_figures(cells, measured)]


def all_cells(directory: Path) -> Iterator[Cell]:
    """Every trace at every capacity, with the miss ratios that no cost changes, in objects."""
    for group in GROUPS:
        for path in sorted(path for pattern in group.patterns for path in directory.rglob(pattern)):
            trace = read_trace(path, limit=DEFAULT_LIMIT, layout=group.layout)
            tell(f"{trace.name}: {len(trace):,} accesses to {trace.unique:,} objects")
            unit = trace.without_sizes()
            for share in SHARES:
                rooms = [max(1, int(part * share * trace.unique)) for part in (FIRST_SHARE, 1)]
                lru = tuple(replay(Lru(room), unit).miss_ratio for room in rooms)
                best = tuple(belady(unit, room).miss_ratio for room in rooms)
                yield Cell(trace, group, share, (lru[0], lru[1]), (best[0], best[1]))


def measured_tiers(seed: int) -> TierProfile:
    """Measure a store of this machine."""
    tell("measuring the tiers")
    budgets = TierBudgets(process_bytes=256 * MIB, arena_bytes=256 * MIB)
    with (
        tempfile.TemporaryDirectory(prefix="aura-online-") as home,
        open_store(Path(home) / "store", budgets=budgets) as store,
    ):
        return measure_profile(store, sizes=PROFILE_SIZES, repeats=5, seed=seed)


def tier_costs(profile: TierProfile, tier: Tier, capacity: int | None) -> TierCosts:
    """The lines of a tier."""
    lines = [profile.line_seconds(tier, (0, 1), "bytes", operation) for operation in ("get", "put")]
    (get, get_one), (put, put_one) = (line.tolist() for line in lines)
    return TierCosts(tier, capacity, get, get_one - get, put, put_one - put)


def replayed(cell: Cell, profile: TierProfile) -> Result:
    """Replay a trace through the layer and the cascade."""
    fast = int(cell.share * cell.trace.footprint * cell.object_bytes)
    first = int(FIRST_SHARE * fast)
    rooms = ((Tier.L1, first), (Tier.L2, fast - first), (Tier.L3, None))
    tiers = [tier_costs(profile, tier, room) for tier, room in rooms]
    layer = replay_layer(cell.trace, tiers, object_bytes=cell.object_bytes)
    cascade = replay_cascade(cell.trace, tiers, object_bytes=cell.object_bytes, bytes_at_hand=True)
    mover = replay_cascade(cell.trace, tiers, object_bytes=cell.object_bytes)
    no_cache = replay_cascade(cell.trace, tiers[-1:], object_bytes=cell.object_bytes)
    typical = float(cell.trace.weights.mean()) * cell.object_bytes
    table = CostTable(tiers, typical)
    gets = [float(table.get(tier, typical)) for tier in range(len(table.tiers))]
    # The fastest takes the room of L1 and the next that of L2, as the miss ratios were taken; a tier that is as slow as
    # L3 is of no use to the bound either.
    within = len(gets) - 1
    tell(f"{cell.name}: {layer.mean_seconds / cascade.mean_seconds:.3f} of the cascade")
    bounds = [stacked_cost(gets, ratios[:within]) for ratios in (cell.lru, cell.best)]
    return Result(cell, layer, cascade, mover, no_cache, *bounds)


def cost_figures(measured: list[list[Result]]) -> list[Figure]:
    """Seconds and bytes over those of the cascades and of no cache."""

    def mean(ratio: Callable[[Result], float]) -> list[float]:
        return [statistics.geometric_mean(map(ratio, results)) for results in measured]

    def worst(ratio: Callable[[Result], float]) -> list[float]:
        return [max(map(ratio, results)) for results in measured]

    def without(each: Result) -> float:
        return each.no_cache.mean_seconds / each.cascade.mean_seconds

    def over_none(each: Result) -> float:
        return each.layer.mean_seconds / each.no_cache.mean_seconds

    traffic = [
        sum(each.layer.moved_bytes for each in results) / sum(each.cascade.moved_bytes for each in results)
        for results in measured
    ]
    cost, cascade, none = "mean access cost", "LRU cascade that promotes within the get", "no cache"
    somewhere = "worst trace and capacity"
    found = [
        figure(f"{cost}, moves included", mean(Result.ratio), "ratio", against=cascade, goal=COST_GOAL),
        figure(f"{cost}, {somewhere}", worst(Result.ratio), "ratio", against=cascade, goal=WORST_GOAL),
        figure("bytes moved", traffic, "ratio", against=cascade, goal=BYTES_GOAL),
        figure(f"bytes moved, {somewhere}", worst(Result.bytes_ratio), "ratio", against=cascade, goal=BYTES_GOAL),
        figure("no cache at all (everything in L3)", mean(without), "ratio", against=cascade),
        figure(f"no cache at all (everything in L3), {somewhere}", worst(without), "ratio", against=cascade),
        figure("layer over no cache", mean(over_none), "ratio", against=none),
        figure(f"layer over no cache, {somewhere}", worst(over_none), "ratio", against=none),
        figure(
            f"{cost}, moves of both alike",
            mean(lambda each: each.layer.mean_seconds / each.mover_cascade.mean_seconds),
            "ratio",
            against="LRU cascade whose moves cost as the layer's",
        ),
        figure(
            f"{cost}, moves of the other side free",
            mean(lambda each: each.layer.mean_seconds / each.free_cascade),
            "ratio",
            against="LRU cascade whose moves are free",
        ),
        figure(
            f"{cost}, over what is possible",
            mean(lambda each: each.layer.mean_seconds / each.optimum),
            "ratio",
            against="stacked optimum whose moves are free",
        ),
    ]
    for position, first in enumerate(measured[0]):
        here = [results[position] for results in measured]
        found.append(figure(f"{cost}, {first.cell.name}", [each.ratio() for each in here], "ratio", against=cascade))
        found.append(
            figure(f"layer over no cache, {first.cell.name}", [over_none(each) for each in here], "ratio", against=none)
        )
    return found


def gap_figures(cells: list[Cell], measured: list[list[Result]]) -> list[Figure]:
    """Share of the gap in hits from LRU to the optimum: of the replay's portfolio, and of the layer as it runs."""
    policy: dict[Group, list[float]] = {}
    layer: dict[Group, list[float]] = {}
    for group in GROUPS:
        mine = {id(cell.trace): cell.trace.without_sizes() for cell in cells if cell.group is group}
        for trace in mine.values():
            capacities = [max(1, int(share * trace.unique)) for share in SHARES]
            policy.setdefault(group, []).extend(closed(compare(trace, capacities, [PORTFOLIO], tell=tell), PORTFOLIO))
        if mine:
            shares = (each.gap_closed for each in measured[0] if each.cell.group is group)
            layer[group] = [share for share in shares if share is not None]
    found = []
    for whose, closed_by in (
        ("the replay's portfolio policy, not by the owner's layer", policy),
        ("the layer as it runs", layer),
    ):
        name = f"gap closed by {whose}"
        for group, shares in closed_by.items():
            found.append(_gap(f"{name}, {group.name}", shares, statistics.fmean(shares), group.goal))
        everything = [share for shares in closed_by.values() for share in shares]
        found.append(_gap(f"{name}, worst trace and capacity", everything, min(everything), 0.0))
    return found


def _gap(name: str, shares: list[float], value: float, goal: float) -> Figure:
    against = "LRU 0, optimum 1"
    return figure(name, shares, "share of the gap", value=value, against=against, goal=goal, at_least=True)
