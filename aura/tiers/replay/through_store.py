"""The replay of a trace with real bytes through a real store, whose residents a policy or the online layer decides.

Belongs here: filling the store, moving what is decided, measuring every get. Does not: deciding.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aura.tiers.budgets import TierBudgets
from aura.tiers.errors import CapacityError, StoreUnavailableError
from aura.tiers.local import LocalStore
from aura.tiers.records import Tier
from aura.tiers.replay.policy import Policy
from aura.tiers.replay.trace import Trace
from aura.tiers.store import TieredStore, open_store

KEY_PREFIX = "object/"
MOVE_EVERY = 256
"""Accesses between two moves: the policy is followed in batches, as a mover in the background would."""
ROUND_EVERY = 1000
"""Gets between two rounds of the online layer: a tenth of a second at 10,000 a second."""
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
        move_seconds: Wall seconds in moves, all together, and for the online layer in its decisions; not part of the
            gets.
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
    sizes = _sizes(trace)
    budgets = TierBudgets(process_bytes=policy.capacity, arena_bytes=0)
    # Beforehand, so that what the policy computes does not displace the store's data from the processor's caches.
    moves = _planned_moves(trace, sizes, policy)
    with open_store(directory, budgets=budgets) as store:
        _fill(store, sizes, seed)

        def follow(batch: int) -> tuple[int, float, int]:
            report = store.move(moves[batch])
            return report.bytes_moved, report.seconds, len(report.refused)

        return _replay(store, trace, MOVE_EVERY, follow)


def replay_online(directory: Path, trace: Trace, capacity: int, *, seed: int = 0) -> StoreOutcome:
    """The same with the store's own online layer, which is told after every `ROUND_EVERY` gets.

    Args:
        directory: Where the store is made; must not hold one.
        trace: The accesses, with sizes.
        capacity: Bytes of process memory.
        seed: Of the random bytes.

    Raises:
        CapacityError: All objects together are more than `MOST_BYTES`.
        StoreError: The store refuses.
    """
    sizes = _sizes(trace)
    budgets = TierBudgets(process_bytes=capacity, arena_bytes=0, background_bytes_per_second=0, online=True)
    store = open_store(directory, budgets=budgets)
    if not isinstance(store, LocalStore):
        raise StoreUnavailableError("The store has another owner", path=str(directory), remedy="Name a new directory.")
    with store:
        store.upkeep.stop()  # its rounds are counted in gets here, not in seconds
        _fill(store, sizes, seed)
        store.upkeep.round()

        def follow(_: int) -> tuple[int, float, int]:
            before, start = store.tiers()[0].bytes_in, time.perf_counter()
            store.upkeep.round()
            spent = time.perf_counter() - start
            return store.tiers()[0].bytes_in - before, spent, 0

        return _replay(store, trace, ROUND_EVERY, follow)


def _sizes(trace: Trace) -> dict[int, int]:
    """Bytes of each object."""
    if trace.footprint > MOST_BYTES:
        most = f"{MOST_BYTES / 2**30:.0f} GiB"
        raise CapacityError(
            f"The objects of {trace.name} have {trace.footprint / 2**30:.1f} GiB, more than {most}",
            remedy="Replay fewer accesses (--limit) or smaller objects (--object-bytes).",
        )
    ids, first = np.unique(trace.ids, return_index=True)
    return dict(zip(ids.tolist(), trace.weights[first].tolist(), strict=True))


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


def _replay(
    store: TieredStore, trace: Trace, batch_length: int, follow: Callable[[int], tuple[int, float, int]]
) -> StoreOutcome:
    """Get everything, and after each batch move; `follow` says bytes, seconds, and how many were refused."""
    keys = [_key(number) for number in trace.ids.tolist()]
    seconds = np.zeros(len(keys))
    moved_bytes, move_seconds, refused = 0, 0.0, 0
    for batch, first in enumerate(range(0, len(keys), batch_length)):
        for place in range(first, min(first + batch_length, len(keys))):
            started = time.perf_counter()
            store.get(keys[place])
            seconds[place] = time.perf_counter() - started
        copied, spent, stayed = follow(batch)
        moved_bytes += copied
        move_seconds += spent
        refused += stayed
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
