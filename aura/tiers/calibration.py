"""What a get and a put cost in each tier, measured within some tens of milliseconds when an owner begins.

Belongs here: the quick measurement that the online layer starts from. Does not: the profile that is published, with its
intervals (`profile`).
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from aura.tiers.codec import Header, decode_verified, encode
from aura.tiers.copies import FastTier, Record
from aura.tiers.errors import StoreError
from aura.tiers.moving import move
from aura.tiers.online.costs import TierCosts
from aura.tiers.records import Tier
from aura.tiers.timing import PROBE_KEY

if TYPE_CHECKING:
    from aura.tiers.local import LocalStore

logger = logging.getLogger(__name__)

DEAR = 1e3
"""Seconds that nothing pays for."""
SMALL_BYTES, LARGE_BYTES = 4 << 10, 1 << 20
"""Sizes of the probes; they are smaller where a tier has little room."""
LEAST_BYTES = 1024
"""A smaller tier is not measured."""
REPEATS = 7
READ_OBJECTS = 32
"""Objects of the store that are read to see how its disk compares to a probe that was just written."""
ROOM = 0.95
"""Share of a tier that the online layer fills: the rest is for alignment, and for what somebody still looks at."""

Points = list[tuple[int, float, float]]
"""Bytes, seconds of a get, seconds of a put."""


def measured_costs(store: LocalStore) -> list[TierCosts]:
    """The line through the medians of two sizes for each tier of a store.

    Where a tier is full, some of what it holds is demoted for the moment. A tier that is too small is left out.
    """
    payload = np.random.default_rng(0).bytes(LARGE_BYTES)
    disk = [(size, _of_disk(store, payload[:size]), 0.0) for size in (SMALL_BYTES, LARGE_BYTES)]
    found = [_line(Tier.L3, None, _as_read(store, disk))]
    for tier, held in store.fast.items():
        small, large = min(SMALL_BYTES, held.capacity_bytes // 16), min(LARGE_BYTES, held.capacity_bytes // 2)
        if held.capacity_bytes < LEAST_BYTES:
            logger.info("%s has %d bytes: too few for the online layer", tier, held.capacity_bytes)
            continue
        demoted = _cleared(store, tier, large)
        points = [(size, *_of_copy(store, tier, held, payload[:size])) for size in (small, large)]
        move(store, dict.fromkeys(demoted, tier))
        found.append(_line(tier, int(ROOM * held.capacity_bytes), points))
    return found


def _line(tier: Tier, capacity: int | None, points: Points) -> TierCosts:
    (small, small_get, small_put), (large, large_get, large_put) = points
    get_slope = max(0.0, large_get - small_get) / (large - small)
    put_slope = max(0.0, large_put - small_put) / (large - small)
    return TierCosts(
        tier,
        capacity,
        get_seconds=max(0.0, small_get - get_slope * small),
        get_seconds_per_byte=get_slope,
        put_seconds=max(0.0, small_put - put_slope * small),
        put_seconds_per_byte=put_slope,
    )


def _of_disk(store: LocalStore, payload: bytes) -> float:
    """Seconds of a get; a put into L3 is paid by who writes, not by who moves."""
    encoded = encode(payload, PROBE_KEY)
    with store.lock:
        store.disk.write([(PROBE_KEY, encoded)], [], len(store.keys))
        try:
            return _median(lambda: _read(encoded.header, store.disk.read(PROBE_KEY)))
        finally:
            store.disk.write([], [PROBE_KEY], len(store.keys))


def _as_read(store: LocalStore, points: Points) -> Points:
    """The points of a probe, scaled to what objects of the store take that nobody has just written."""
    with store.lock:
        keys = [record.key for record in store.records.values() if record.tier is Tier.L3]
    line = _line(Tier.L3, None, points)
    ratios = []
    for key in keys[:: max(1, len(keys) // READ_OBJECTS)][:READ_OBJECTS]:
        start = time.perf_counter()
        try:
            store.peek(key)
        except StoreError:
            continue  # gone, or damaged: whoever reads it is told
        spent, record = time.perf_counter() - start, store.records.get(key)
        if record is not None:
            ratios.append(spent / (line.get_seconds + line.get_seconds_per_byte * record.header.length))
    factor = max(1.0, statistics.median(ratios)) if ratios else 1.0
    return [(size, factor * get, put) for size, get, put in points]


def _cleared(store: LocalStore, tier: Tier, length: int) -> list[str]:
    """Demote objects of a full tier until a probe fits; their keys."""
    held = store.fast[tier]
    demoted: list[str] = []
    for key in store.upkeep.coldest(tier):
        with store.lock:
            if held.fits(length):
                break
        move(store, {key: Tier.L3})
        demoted.append(key)
    return demoted


def _of_copy(store: LocalStore, tier: Tier, held: FastTier, payload: bytes) -> tuple[float, float]:
    """Seconds of a get and of a put; without end where the tier refuses, so that nothing is moved there."""
    header = encode(payload, PROBE_KEY).header

    def put() -> Record:
        slot = held.take(PROBE_KEY, header.length)
        try:
            return held.fill(PROBE_KEY, header, slot, payload)
        finally:
            held.release(PROBE_KEY, header.length, slot)

    with store.lock:
        try:
            put_seconds = _median(put)
            slot = held.take(PROBE_KEY, header.length)
            record = held.fill(PROBE_KEY, header, slot, payload)
        except StoreError as error:
            logger.warning("%s could not be measured, and the online layer leaves it alone for now: %s", tier, error)
            return DEAR, DEAR
        if tier is Tier.L1:
            live = {PROBE_KEY: record.part}
            get_seconds = _median(lambda: live[PROBE_KEY])
        else:
            get_seconds = _median(lambda: _read(header, held.read(record)))
        held.release(PROBE_KEY, header.length, slot)
        return get_seconds, put_seconds


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
