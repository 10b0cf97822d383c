"""How close the placement comes to its lower bound, and how long it takes.

The instances are synthetic, since they measure a solver: sizes are lognormal, accesses follow Zipf's law, the tiers'
lines are those of device memory, process memory, a Redis pool and a warm RocksDB of one machine, where the pool is
slower than the disk. In the crossing instances every object has a factor of its own in every tier (lognormal, sigma
0.5), as kinds that decode at different speed and objects that compress have; in the monotone ones all objects agree on
the order of the tiers. Everything is seeded: the ratios are the same on every machine, only the seconds differ. Seconds
are CPU seconds of this process, so that other work on the machine does not count.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from report import Figure, figure, tell
from scipy.optimize import linprog
from scipy.sparse import csr_array, vstack

from aura.tiers.planning.knapsack import Solution, solve_placement

OBJECTS = 100_000
ORACLE_OBJECTS = 10_000
"""HiGHS takes about a second for these, and half a minute for ten times as many."""

INTERCEPTS = np.array([5e-7, 2e-7, 4.5e-5, 8e-6])
SLOPES = np.array([2e-11, 1e-13, 6e-10, 3.4e-10])
SHARES = (0.05, 0.15, 0.25)
"""Capacities of the first three tiers as shares of all bytes; the last one has no limit."""


class Instance(NamedTuple):
    """Sizes int64[n], accesses float64[n], seconds of a get float64[n, 4], capacities in bytes."""

    sizes: np.ndarray
    weights: np.ndarray
    seconds: np.ndarray
    capacities: list[int | None]


def instance(n: int, seed: int, *, crossing: bool) -> Instance:
    """Make a seeded instance."""
    rng = np.random.default_rng(seed)
    sizes = np.maximum(256, rng.lognormal(np.log(64 << 10), 1.2, n)).astype(np.int64)
    weights = 1e6 * rng.permutation(1 / np.arange(1, n + 1) ** 0.9)
    seconds = INTERCEPTS + sizes[:, None] * SLOPES
    seconds = seconds * rng.lognormal(0.0, 0.5, (n, 4)) if crossing else np.sort(seconds, axis=1)
    return Instance(sizes, weights, seconds, [*(int(share * sizes.sum()) for share in SHARES), None])


def greedy_cost(given: Instance, *, own_order: bool) -> float:
    """Cost of the greedy placement by density: objects in order of accesses per byte, the densest first.

    Args:
        given: The instance.
        own_order: Each object goes to the tier where it costs least among those with room; otherwise to the first one
            with room in the order of the tiers' mean cost, as a cache hierarchy would have it.
    """
    room = [np.inf if limit is None else float(limit) for limit in given.capacities]
    common = given.seconds.mean(axis=0).argsort().tolist()
    orders = given.seconds.argsort(axis=1).tolist()
    cost = 0.0
    for index in np.argsort(-given.weights / given.sizes, kind="stable").tolist():
        size = float(given.sizes[index])
        tier = next(tier for tier in (orders[index] if own_order else common) if size <= room[tier])
        room[tier] -= size
        cost += float(given.weights[index] * given.seconds[index, tier])
    return cost


def relaxed_optimum(given: Instance) -> float:
    """Optimum of the linear relaxation by HiGHS (dual simplex)."""
    n, k = given.seconds.shape
    costs = (given.weights[:, None] * given.seconds).ravel()
    variables = np.arange(n * k)
    one_tier_each = csr_array((np.ones(n * k), (variables // k, variables)), shape=(n, n * k))
    limits = [(tier, limit) for tier, limit in enumerate(given.capacities) if limit is not None]
    filled = [
        csr_array((given.sizes / limit, (np.zeros(n, dtype=int), np.arange(n) * k + tier)), shape=(1, n * k))
        for tier, limit in limits
    ]
    result = linprog(
        costs / costs.max(), vstack(filled), np.ones(len(limits)), one_tier_each, np.ones(n), method="highs-ds"
    )
    if result.status != 0:
        raise RuntimeError(f"HiGHS found no optimum: {result.message}")
    return float(result.fun * costs.max())


def figures(data: Path | None, runs: int) -> list[Figure]:  # noqa: ARG001 - all modules of figures take a directory
    """Cost over the bound, seconds, and the bound against HiGHS; one instance a run."""
    found = []
    for name, crossing in (("crossing costs", True), ("monotone costs", False)):
        given = [instance(OBJECTS, seed, crossing=crossing) for seed in range(runs)]
        tell(f"placement: {OBJECTS:,} objects, {name}")
        solved = [_timed(each) for each in given]
        bounds = [solution.lower_bound for solution, _ in solved]
        what = f"{OBJECTS:,} objects x 4 tiers, {name}"
        ours = [solution.cost / solution.lower_bound for solution, _ in solved]
        found.append(figure(f"placement cost: {what}", ours, "ratio", against="dual bound", goal=1.001))
        excess = [1e6 * (ratio - 1) for ratio in ours]
        found.append(figure(f"placement cost above the bound: {what}", excess, "ppm", against="dual bound"))
        for greedy, own_order in (("density greedy", False), ("density greedy, each object's own order", True)):
            theirs = [greedy_cost(e, own_order=own_order) / bound for e, bound in zip(given, bounds, strict=True)]
            found.append(figure(f"{greedy}: {what}", theirs, "ratio", against="dual bound"))
        found.append(figure(f"placement time: {what}", [seconds for _, seconds in solved], "CPU s", goal=2.0))
    return [*found, *_against_the_oracle(runs)]


def _against_the_oracle(runs: int) -> list[Figure]:
    tell(f"placement: {ORACLE_OBJECTS:,} objects against HiGHS")
    tightness, quicker = [], []
    for seed in range(runs):
        given = instance(ORACLE_OBJECTS, seed, crossing=True)
        solution, seconds = _timed(given)
        started = time.process_time()
        best = relaxed_optimum(given)
        quicker.append(seconds / (time.process_time() - started))
        tightness.append(solution.lower_bound / best)
    what = f"{ORACLE_OBJECTS:,} objects x 4 tiers, crossing costs"
    return [
        figure(f"dual bound: {what}", tightness, "ratio", against="linear relaxation (HiGHS)"),
        figure(f"placement time: {what}", quicker, "ratio", against="linear relaxation alone (HiGHS)"),
    ]


def _timed(given: Instance) -> tuple[Solution, float]:
    started = time.process_time()
    solution = solve_placement(*given)
    return solution, time.process_time() - started
