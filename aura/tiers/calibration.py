"""What a get and a put cost in each tier, measured within some tens of milliseconds when an owner begins.

Belongs here: the quick measurement that the online layer starts from. Does not: the profile that is published, with its
intervals (`profile`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from aura.tiers.codec import Header, decode_verified, encode
from aura.tiers.copies import FastTier
from aura.tiers.errors import StoreError
from aura.tiers.online.costs import TierCosts
from aura.tiers.records import Tier
from aura.tiers.timing import PROBE_KEY

if TYPE_CHECKING:
    from aura.tiers.local import LocalStore

SIZES = (4 << 10, 1 << 20)
REPEATS = 7
ROOM = 0.95
"""Share of a tier that the online layer fills: the rest is for alignment, and for what somebody still looks at."""


def measured_costs(store: LocalStore) -> list[TierCosts]:
    """The line through the medians of two sizes for each tier of a store; one that lacks room for them is left out."""
    payload = np.random.default_rng(0).bytes(max(SIZES))
    found = [_line(Tier.L3, None, [_of_disk(store, payload[:size]) for size in SIZES])]
    for tier, held in store.fast.items():
        points = [_of_copy(store, tier, held, payload[:size]) for size in SIZES]
        if all(points):
            found.append(_line(tier, int(ROOM * held.capacity_bytes), [point for point in points if point]))
    return found


def _line(tier: Tier, capacity: int | None, points: list[tuple[float, float]]) -> TierCosts:
    (small_get, small_put), (large_get, large_put) = points
    get_slope = max(0.0, large_get - small_get) / (SIZES[1] - SIZES[0])
    put_slope = max(0.0, large_put - small_put) / (SIZES[1] - SIZES[0])
    return TierCosts(
        tier,
        capacity,
        get_seconds=max(0.0, small_get - get_slope * SIZES[0]),
        get_seconds_per_byte=get_slope,
        put_seconds=max(0.0, small_put - put_slope * SIZES[0]),
        put_seconds_per_byte=put_slope,
    )


def _of_disk(store: LocalStore, payload: bytes) -> tuple[float, float]:
    """Seconds of a get; a put into L3 is paid by who writes, not by who moves."""
    encoded = encode(payload, PROBE_KEY)
    with store.lock:
        store.disk.write([(PROBE_KEY, encoded)], [], len(store.keys))
        try:
            return _median(lambda: _read(encoded.header, store.disk.read(PROBE_KEY))), 0.0
        finally:
            store.disk.write([], [PROBE_KEY], len(store.keys))


def _of_copy(store: LocalStore, tier: Tier, held: FastTier, payload: bytes) -> tuple[float, float] | None:
    """Seconds of a get and of a put; None where there is no room now."""
    header = encode(payload, PROBE_KEY).header
    with store.lock:
        slot = held.reserve(header.length)
        if slot is None:
            return None
        try:
            put = _median(lambda: held.fill(PROBE_KEY, header, slot, payload))
            record = held.fill(PROBE_KEY, header, slot, payload)
            if tier is Tier.L1:
                live = {PROBE_KEY: record.part}
                return _median(lambda: live[PROBE_KEY]), put
            return _median(lambda: _read(header, held.read(record))), put
        except StoreError:
            return None
        finally:
            held.release(PROBE_KEY, header.length, slot)


def _read(header: Header, payload: bytes | memoryview | None) -> None:
    if payload is not None and header.matches(payload):
        decode_verified(header, payload, PROBE_KEY)


def _median(work: Callable[[], object]) -> float:
    spent = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)
