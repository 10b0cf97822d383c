"""What no eviction policy can beat.

Belongs here: offline bounds on hits, and the mean cost of several tiers from miss ratios. Does not: online policies.

References:
    L. A. Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal 5(2), 1966.
    R. L. Mattson, J. Gecsei, D. R. Slutz, I. L. Traiger, "Evaluation techniques for storage hierarchies", IBM Systems
        Journal 9(2), 1970: stack algorithms, of which the optimum is one.
    D. S. Berger, N. Beckmann, M. Harchol-Balter, "Practical bounds on optimal caching with variable object sizes",
        SIGMETRICS 2018: PFOO-L.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from aura.tiers.replay.policy import Outcome
from aura.tiers.replay.trace import Trace


def belady(trace: Trace, capacity: int) -> Outcome:
    """The most hits of any demand-filled cache of `capacity` objects, sizes left aside.

    The object whose next use is furthest is left out, the one that was just missed included, which makes it the
    optimum also over policies that refuse admission.
    """
    _check(capacity)
    hits, missed = _belady_hits(trace, capacity)
    return Outcome(len(trace), hits, len(trace), missed)


def _belady_hits(trace: Trace, capacity: int) -> tuple[int, int]:
    never = len(trace)
    held: dict[int, int] = {}
    furthest: list[tuple[int, int]] = []
    hits = 0
    for key, following in zip(trace.ids.tolist(), trace.next_uses().tolist(), strict=True):
        if key in held:
            hits += 1
        if following == never:
            held.pop(key, None)
            continue
        held[key] = following
        heapq.heappush(furthest, (-following, key))
        while len(held) > capacity:
            use, victim = heapq.heappop(furthest)
            if held.get(victim) == -use:
                del held[victim]
    return hits, len(trace) - hits


def pfoo_lower(trace: Trace, capacity: int) -> Outcome:
    """A bound for objects of several sizes: no policy within `capacity` bytes misses less often.

    Each reuse occupies size times length of its interval of the space-time that the cache has; the cheapest reuses are
    granted until `capacity` times the length of the trace is spent, and the last one in part, counted as a whole hit.
    A reuse with another size than before is no hit. Missed bytes are bounded by the same argument on their own: reuses
    of the shortest intervals first, which is the most bytes for the space-time.
    """
    _check(capacity)
    sizes = trace.weights
    following = trace.next_uses()
    reused = np.flatnonzero(following < len(trace))
    reused = reused[(sizes[following[reused]] == sizes[reused]) & (sizes[reused] <= capacity)]
    lengths = (following[reused] - reused).astype(np.float64)
    costs = lengths * sizes[reused]
    budget = float(capacity) * len(trace)
    spent = np.cumsum(np.sort(costs))
    hits = min(int(np.searchsorted(spent, budget, side="right")) + 1, len(costs))
    by_length = np.argsort(lengths, kind="stable")
    granted = np.searchsorted(np.cumsum(costs[by_length]), budget, side="right") + 1
    hit_bytes = int(sizes[reused[by_length[:granted]]].sum())
    total = int(sizes.sum())
    return Outcome(len(trace), hits, total, total - hit_bytes)


def optimum(trace: Trace, capacity: int) -> Outcome:
    """The bound that fits the trace: `belady` without sizes, `pfoo_lower` with sizes."""
    return belady(trace, capacity) if trace.sizes is None else pfoo_lower(trace, capacity)


def stacked_cost(costs: Sequence[float], miss_ratios: Sequence[float]) -> float:
    """Mean cost of an access to tiers that hold each object once, from fast to slow.

    A stack algorithm keeps in the first i tiers what it would keep in one cache of their capacities added up. With the
    miss ratios of the optimum this is the least mean cost that any placement on demand reaches, moves being free; with
    those of LRU it is the exclusive LRU cascade.

    Args:
        costs: Cost of a read from each tier, k of them, none below the one before.
        miss_ratios: Miss ratio of one cache as large as the first i tiers together, for i of 1 to k - 1.

    Returns:
        Mean cost, in the unit of `costs`.
    """
    if len(miss_ratios) != len(costs) - 1:
        raise ValueError(f"{len(costs)} tiers want {len(costs) - 1} miss ratios, not {len(miss_ratios)}")
    steps = np.diff(np.asarray(costs, dtype=np.float64))
    if (steps < 0).any():
        raise ValueError(f"costs are {list(costs)}: a slower tier is never cheaper; sort the tiers by cost first")
    return float(costs[0] + steps @ np.asarray(miss_ratios, dtype=np.float64))


def gap_closed(lru: float, policy: float, best: float) -> float | None:
    """Share of the gap between the miss ratios of LRU and of the optimum that a policy closes; None without a gap."""
    return (lru - policy) / (lru - best) if lru > best else None


def _check(capacity: int) -> None:
    if capacity < 1:
        raise ValueError(f"capacity is {capacity}: a cache holds at least one byte")
