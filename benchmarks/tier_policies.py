"""How much of the gap between LRU and the offline optimum each eviction policy closes, on recorded access traces.

Every policy is replayed at three capacities, 5, 10 and 25 % of the objects of a trace, all objects counting as one.
The optimum is Belady's. A share of 0 is LRU, 1 the optimum. What is measured is exact and the same on every machine.

    python benchmarks/tier_policies.py [--data DIR] [--limit N] [--json]
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from pathlib import Path

from report import PROJECT, Figure, as_json, figure, table, tell

from aura.tiers.replay.comparison import YARDSTICK, Row, compare
from aura.tiers.replay.policies import POLICIES, PORTFOLIO
from aura.tiers.replay.readers import Format, read_trace

SHARES = (0.05, 0.10, 0.25)
DEFAULT_LIMIT = 250_000
DATA = PROJECT.parent / "shared" / "data"


@dataclass(frozen=True)
class Group:
    """Traces of one kind.

    Attributes:
        name: What they are.
        patterns: Names of their files.
        layout: How they are read; None by content.
        goal: Share of the gap that the portfolio has to close.
    """

    name: str
    patterns: tuple[str, ...]
    layout: Format | None
    goal: float


GROUPS = (
    Group("block, database, web", ("*.trace", "*.trace.xz", "*.trace.gz"), None, 0.25),
    Group("MoE decoding", ("*.route.csv",), "decoding", 0.25),
    Group("KV cache", ("*.jsonl",), "blocks", 0.05),
)


def replayed(directory: Path, group: Group, limit: int) -> dict[str, list[Row]]:
    """The comparison of each trace of a group."""
    found = {}
    for path in sorted(path for pattern in group.patterns for path in directory.rglob(pattern)):
        trace = read_trace(path, limit=limit, layout=group.layout).without_sizes()
        capacities = [max(1, int(share * trace.unique)) for share in SHARES]
        tell(f"{trace.name}: {len(trace):,} accesses to {trace.unique:,} objects")
        found[trace.name] = compare(trace, capacities, POLICIES)
    return found


def closed(rows: list[Row], policy: str) -> list[float]:
    """Share of the gap at each capacity that has one."""
    return [row.gap_closed for row in rows if row.policy == policy and row.gap_closed is not None]


def brought_in(rows: list[Row], policy: str) -> list[float]:
    """Objects that a policy brought in over those of LRU, at each capacity."""
    objects = [row.outcome.admitted_bytes or 0 for row in rows if row.policy == policy]
    of_lru = [row.outcome.admitted_bytes or 0 for row in rows if row.policy == YARDSTICK]
    return [mine / theirs for mine, theirs in zip(objects, of_lru, strict=True)]


def group_figures(group: Group, comparisons: dict[str, list[Row]]) -> list[Figure]:
    """What each policy closes on the mean of the group, and the portfolio on each trace."""
    figures = []
    for policy in POLICIES:
        if policy == YARDSTICK:
            continue
        runs = [share for rows in comparisons.values() for share in closed(rows, policy)]
        goal = group.goal if policy == PORTFOLIO else None
        figures.append(_share(f"{group.name}: {policy}", runs, goal))
    figures += [_share(f"{name}: {PORTFOLIO}", closed(rows, PORTFOLIO), None) for name, rows in comparisons.items()]
    ratios = [ratio for rows in comparisons.values() for ratio in brought_in(rows, PORTFOLIO)]
    value = statistics.geometric_mean(ratios)
    figures.append(figure(f"{group.name}: {PORTFOLIO}, brought in", ratios, "ratio", value=value, against="LRU"))
    return figures


def worst_figures(comparisons: dict[str, list[Row]]) -> list[Figure]:
    """The least that the portfolio closes: of a trace on the mean of its capacities, and of any capacity."""
    of_traces = [statistics.fmean(closed(rows, PORTFOLIO)) for rows in comparisons.values()]
    of_all = [share for rows in comparisons.values() for share in closed(rows, PORTFOLIO)]
    return [
        _share("worst trace: portfolio", of_traces, 0.0, value=min(of_traces)),
        _share("worst trace and capacity: portfolio", of_all, 0.0, value=min(of_all)),
    ]


def _share(name: str, runs: list[float], goal: float | None, *, value: float | None = None) -> Figure:
    mean = statistics.fmean(runs) if value is None else value
    return figure(
        name, runs, "share of the gap", value=mean, against="LRU 0, optimum 1", goal=goal, at_least=goal is not None
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="directory with traces, searched in all its levels")
    parser.add_argument("--limit", type=int, default=DEFAULT_LIMIT, help="accesses of each trace, from its start")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    chosen = parser.parse_args()
    if chosen.limit < 1:
        parser.error(f"--limit is {chosen.limit}: one is the least")
    if not chosen.data.is_dir():
        parser.error(f"there is no directory {chosen.data}: name one with traces by --data")
    figures: list[Figure] = []
    everything: dict[str, list[Row]] = {}
    for group in GROUPS:
        comparisons = replayed(chosen.data, group, chosen.limit)
        if comparisons:
            figures += group_figures(group, comparisons)
            everything |= comparisons
        else:
            tell(f"{group.name}: no trace ({', '.join(group.patterns)}) in {chosen.data}")
    if not everything:
        parser.error(f"there is no trace in {chosen.data}")
    figures += worst_figures(everything)
    if chosen.json:
        as_json("tier_policies", figures)
    else:
        table(figures)


if __name__ == "__main__":
    main()
