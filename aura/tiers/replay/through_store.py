"""The replay of a trace with real bytes through a real store, a policy deciding what lives in process memory.

Belongs here: filling the store, moving what the policy decides, measuring every get. Does not: the policies.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aura.tiers.budgets import TierBudgets
from aura.tiers.errors import CapacityError
from aura.tiers.records import Tier
from aura.tiers.replay.policy import Policy
from aura.tiers.replay.trace import Trace
from aura.tiers.store import TieredStore, open_store

KEY_PREFIX = "object/"
MOVE_EVERY = 256
"""Accesses between two moves: the policy is followed in batches, as a mover in the background would."""
WRITE_BYTES = 8 << 20
"""Bytes of one atomic write while the store is filled."""
MOST_BYTES = 2 << 30
"""Bytes of all objects, at most."""


@dataclass(frozen=True, slots=True)
class StoreOutcome:
    """What was measured.

    Attributes:
        accesses: Number of gets.
        from_memory: Those that process memory answered.
        mean_get_seconds: Wall seconds of a get.
        p99_get_seconds: Wall seconds that 99 % of the gets stay below.
        moved_bytes: Bytes that were copied into process memory.
        move_seconds: Wall seconds in moves, all together; not part of the gets.
        refused: Objects that process memory had no room for.
    """

    accesses: int
    from_memory: int
    mean_get_seconds: float
    p99_get_seconds: float
    moved_bytes: int
    move_seconds: float
    refused: int


def replay_through_store(directory: Path, trace: Trace, policy: Policy, *, seed: int = 0) -> StoreOutcome:
    """Fill a new store with random bytes, then get what the trace accesses.

    Args:
        directory: Where the store is made; must not hold one.
        trace: The accesses, with sizes; an object has the size of its first access.
        policy: What is kept in process memory; its capacity is that tier's budget in bytes.
        seed: Of the random bytes.

    Raises:
        CapacityError: All objects together are more than `MOST_BYTES`.
        StoreError: The store refuses.
    """
    ids, first = np.unique(trace.ids, return_index=True)
    sizes = dict(zip(ids.tolist(), trace.weights[first].tolist(), strict=True))
    if trace.footprint > MOST_BYTES:
        most = f"{MOST_BYTES / 2**30:.0f} GiB"
        raise CapacityError(
            f"The objects of {trace.name} have {trace.footprint / 2**30:.1f} GiB, more than {most}",
            remedy="Replay fewer accesses (--limit) or smaller objects (--object-bytes).",
        )
    budgets = TierBudgets(process_bytes=policy.capacity, arena_bytes=0)
    # Beforehand, so that what the policy computes does not displace the store's data from the processor's caches.
    moves = _planned_moves(trace, sizes, policy)
    with open_store(directory, budgets=budgets) as store:
        _fill(store, sizes, seed)
        return _replay(store, trace, moves)


def _key(number: int) -> str:
    return f"{KEY_PREFIX}{number}"


def _fill(store: TieredStore, sizes: dict[int, int], seed: int) -> None:
    random = np.random.default_rng(seed)
    waiting: dict[str, bytes] = {}
    held = 0
    for number, size in sizes.items():
        waiting[_key(number)] = random.bytes(size)
        held += size
        if held >= WRITE_BYTES:
            store.write(waiting)
            waiting, held = {}, 0
    if waiting:
        store.write(waiting)


def _planned_moves(trace: Trace, sizes: dict[int, int], policy: Policy) -> list[dict[str, Tier]]:
    """What changes its tier after each batch of accesses."""
    moves = []
    before: set[int] = set()
    numbers = trace.ids.tolist()
    for start in range(0, len(numbers), MOVE_EVERY):
        for number in numbers[start : start + MOVE_EVERY]:
            policy.access(number, sizes[number])
        held = {number for number, _ in policy.contents()}
        targets = {_key(number): Tier.L3 for number in before - held}
        moves.append(targets | {_key(number): Tier.L1 for number in held - before})
        before = held
    return moves


def _replay(store: TieredStore, trace: Trace, moves: list[dict[str, Tier]]) -> StoreOutcome:
    keys = [_key(number) for number in trace.ids.tolist()]
    seconds = np.zeros(len(keys))
    moved_bytes, move_seconds, refused = 0, 0.0, 0
    for batch, targets in enumerate(moves):
        for place in range(batch * MOVE_EVERY, min((batch + 1) * MOVE_EVERY, len(keys))):
            started = time.perf_counter()
            store.get(keys[place])
            seconds[place] = time.perf_counter() - started
        report = store.move(targets)
        moved_bytes += report.bytes_moved
        move_seconds += report.seconds
        refused += len(report.refused)
    answered = {state.tier: state.gets for state in store.tiers()}
    return StoreOutcome(
        len(trace),
        answered[Tier.L1],
        float(seconds.mean()),
        float(np.quantile(seconds, 0.99)),
        moved_bytes,
        move_seconds,
        refused,
    )
