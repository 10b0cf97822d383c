"""Policies against LRU and the optimum on one trace, over several capacities.

Belongs here: which runs make a comparison, and its rows. Does not: how it is printed or drawn.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from aura.tiers.replay.optimum import gap_closed, optimum
from aura.tiers.replay.policies import make_policy
from aura.tiers.replay.policy import Outcome, replay
from aura.tiers.replay.portfolio import Portfolio
from aura.tiers.replay.trace import Trace

YARDSTICK, OPTIMUM = "lru", "optimum"


@dataclass(frozen=True, slots=True)
class Row:
    """One policy at one capacity.

    Attributes:
        policy: Its name, or `OPTIMUM` for the bound.
        capacity: Bytes; objects where the trace has no sizes.
        outcome: What it came to.
        gap_closed: Share of the gap in misses between LRU and the optimum; None without a gap.
        followed: What the portfolio followed in the end; "" for others.
        cycle: Length of the cycle that the portfolio found, in accesses; None without one.
    """

    policy: str
    capacity: int
    outcome: Outcome
    gap_closed: float | None
    followed: str = ""
    cycle: float | None = None


def compare(
    trace: Trace,
    capacities: Sequence[int],
    policies: Iterable[str],
    *,
    tell: Callable[[str, float], None] = lambda _said, _part: None,
) -> list[Row]:
    """Replay a trace through each policy at each capacity, LRU first and the bound last.

    Args:
        trace: The accesses.
        capacities: Bytes; objects where the trace has no sizes.
        policies: Names of policies.
        tell: Is told what is run next, and which part of all is done.
    """
    rows = []
    chosen = tuple(dict.fromkeys((YARDSTICK, *policies)))
    object_bytes = float(trace.weights.mean())
    for round_, capacity in enumerate(capacities):
        best = optimum(trace, capacity)
        yardstick: Outcome | None = None
        for number, name in enumerate(chosen):
            tell(f"{trace.name}: {name} with {capacity}", (round_ + number / len(chosen)) / len(capacities))
            policy = make_policy(name, capacity, object_bytes=object_bytes)
            outcome = replay(policy, trace)
            yardstick = yardstick or outcome
            closed = gap_closed(yardstick.miss_ratio, outcome.miss_ratio, best.miss_ratio)
            if isinstance(policy, Portfolio):
                rows.append(Row(name, capacity, outcome, closed, policy.following, policy.cycle))
            else:
                rows.append(Row(name, capacity, outcome, closed))
        rows.append(Row(OPTIMUM, capacity, best, None))
    return rows


def mean_gap_closed(rows: Iterable[Row], policy: str) -> float | None:
    """Mean share of the gap that a policy closes over the capacities with a gap; None without one."""
    closed = [row.gap_closed for row in rows if row.policy == policy and row.gap_closed is not None]
    return statistics.fmean(closed) if closed else None
