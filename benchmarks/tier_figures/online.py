"""What accesses cost under the online layer, moves included, against an LRU cascade over the same tiers.

The costs of the tiers are measured first, on objects of bytes in a store in a temporary directory. Recorded traces are
then replayed in simulation: 5, 10 and 25 % of the bytes of a trace fit into fast memory, a third of them into L1.
Traces without sizes have objects of 64 KiB. The layer works as it does beside a store: it is told what was read in
batches of 1,024 accesses or a tenth of a second, gets following each other without a pause, and what it decides is in
place for the next batch. A move costs both sides the read of the copy and the write, as the store's mover makes it. The
cascade is also shown as it would be if built into the get, which promotes with the bytes at hand and pays for the write
alone, and with moves for free. A run is one measurement of the tiers with all replays.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
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
        cascade: Of the LRU cascade.
        inline_cascade: Of the cascade that promotes within the get, with the bytes at hand.
        free_cascade: Mean seconds of a cascade whose moves are free.
        optimum: Mean seconds of the stacked optimum, whose moves are free.
    """

    cell: Cell
    layer: Cost
    cascade: Cost
    inline_cascade: Cost
    free_cascade: float
    optimum: float

    @property
    def ratio(self) -> float:
        """Mean cost over that of the cascade."""
        return self.layer.mean_seconds / self.cascade.mean_seconds

    @property
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
    cascade = replay_cascade(cell.trace, tiers, object_bytes=cell.object_bytes)
    inline = replay_cascade(cell.trace, tiers, object_bytes=cell.object_bytes, bytes_at_hand=True)
    typical = float(cell.trace.weights.mean()) * cell.object_bytes
    table = CostTable(tiers, typical)
    gets = [float(table.get(tier, typical)) for tier in range(len(table.tiers))]
    # The fastest takes the room of L1 and the next that of L2, as the miss ratios were taken; a tier that is as slow as
    # L3 is of no use to the bound either.
    within = len(gets) - 1
    tell(f"{cell.name}: {layer.mean_seconds / cascade.mean_seconds:.3f} of the cascade")
    return Result(
        cell, layer, cascade, inline, stacked_cost(gets, cell.lru[:within]), stacked_cost(gets, cell.best[:within])
    )


def cost_figures(measured: list[list[Result]]) -> list[Figure]:
    """Seconds and bytes over those of the cascade."""
    means = [statistics.geometric_mean(each.ratio for each in results) for results in measured]
    worst = [max(each.ratio for each in results) for results in measured]
    free = [
        statistics.geometric_mean(each.layer.mean_seconds / each.free_cascade for each in results)
        for results in measured
    ]
    inline = [
        statistics.geometric_mean(each.layer.mean_seconds / each.inline_cascade.mean_seconds for each in results)
        for results in measured
    ]
    bound = [
        statistics.geometric_mean(each.layer.mean_seconds / each.optimum for each in results) for results in measured
    ]
    traffic = [
        sum(each.layer.moved_bytes for each in results) / sum(each.cascade.moved_bytes for each in results)
        for results in measured
    ]
    most_traffic = [max(each.bytes_ratio for each in results) for results in measured]
    cascade = "LRU cascade"
    found = [
        figure("mean access cost, moves included", means, "ratio", against=cascade, goal=COST_GOAL),
        figure("mean access cost, worst trace and capacity", worst, "ratio", against=cascade, goal=WORST_GOAL),
        figure("bytes moved", traffic, "ratio", against=cascade, goal=BYTES_GOAL),
        figure("bytes moved, worst trace and capacity", most_traffic, "ratio", against=cascade, goal=BYTES_GOAL),
        figure("mean access cost", inline, "ratio", against="LRU cascade that promotes within the get"),
        figure("mean access cost", free, "ratio", against="LRU cascade whose moves are free"),
        figure("mean access cost", bound, "ratio", against="stacked optimum whose moves are free"),
    ]
    for position, first in enumerate(measured[0]):
        ratios = [results[position].ratio for results in measured]
        found.append(figure(f"mean access cost, {first.cell.name}", ratios, "ratio", against=cascade))
    return found


def gap_figures(cells: list[Cell], measured: list[list[Result]]) -> list[Figure]:
    """Share of the gap from LRU to the optimum: of the policy access by access, and of the layer as it runs."""
    against = "LRU 0, optimum 1"
    unit = "share of the gap"
    found, everything = [], []
    for group in GROUPS:
        mine = {id(cell.trace): cell.trace.without_sizes() for cell in cells if cell.group is group}
        if not mine:
            continue
        shares = []
        for trace in mine.values():
            capacities = [max(1, int(share * trace.unique)) for share in SHARES]
            shares += closed(compare(trace, capacities, [PORTFOLIO], tell=tell), PORTFOLIO)
        everything += shares
        name = f"gap closed by the policy, {group.name}"
        mean = statistics.fmean(shares)
        found.append(figure(name, shares, unit, value=mean, against=against, goal=group.goal, at_least=True))
        layer = [each.gap_closed for each in measured[0] if each.cell.group is group and each.gap_closed is not None]
        name = f"gap closed by the layer as it runs, {group.name}"
        found.append(figure(name, layer, unit, value=statistics.fmean(layer), against=against))
    name = "gap closed by the policy, worst trace and capacity"
    found.append(figure(name, everything, unit, value=min(everything), against=against, goal=0.0, at_least=True))
    return found
