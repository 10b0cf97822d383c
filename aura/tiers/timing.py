"""How long gets and puts of a tier take, measured in the owner's process on the code that real ones run.

Belongs here: placing, timing and taking away. Does not: fitting a model to it (`profile`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aura.tiers.codec import encode
from aura.tiers.copies import FastTier, Record
from aura.tiers.moving import copy_into, held_tier
from aura.tiers.records import Tier

if TYPE_CHECKING:
    from aura.tiers.local import LocalStore

PROBE_KEY = "\0probe"
"""The key of objects that exist only to be timed; the owner removes one that a kill left behind."""


def time_gets(store: LocalStore, keys: Sequence[str], tier: Tier | None) -> NDArray[np.float64]:
    """See `TieredStore.time_gets`."""
    if tier is None:
        return _timed_gets(store, keys)
    if tier != Tier.L3:
        held_tier(store, tier)
    with store.lock, _lent(store, list(dict.fromkeys(keys)), tier):
        return _timed_gets(store, keys)


def time_puts(store: LocalStore, sizes: Sequence[int], tier: Tier) -> NDArray[np.float64]:
    """See `TieredStore.time_puts`. The payload is incompressible; encoding counts for L3, where a put encodes."""
    held = None if tier == Tier.L3 else held_tier(store, tier)
    payload = np.random.default_rng(0).bytes(max(sizes, default=0))
    seconds = np.empty(len(sizes))
    for index, size in enumerate(sizes):
        with store.lock:
            part = payload[:size]
            seconds[index] = _timed_write(store, part) if held is None else _timed_copy(held, part)
    return seconds


def _timed_gets(store: LocalStore, keys: Sequence[str]) -> NDArray[np.float64]:
    clock = time.perf_counter_ns
    peek = store.peek
    spent = np.empty(len(keys), dtype=np.int64)
    for index, key in enumerate(keys):
        start = clock()
        peek(key)
        spent[index] = clock() - start
    return spent / 1e9


@contextmanager
def _lent(store: LocalStore, keys: Sequence[str], tier: Tier) -> Iterator[None]:
    """Let every object be read from `tier`, by a copy beside the one that it has; then as it was. Needs the lock."""
    before: list[Record] = []
    try:
        for key in keys:
            record, payload = store.read_locked(key)
            if record.tier != tier:
                lent = _at(record) if tier == Tier.L3 else copy_into(store.fast[tier], record, payload)
                before.append(record)
                store.show(lent)
        yield
    finally:
        for record in before:
            lent = store.records[record.key]
            if lent.tier != Tier.L3:
                store.fast[lent.tier].release(lent.key, lent.header.length, lent.slot)
            store.show(record)


def _at(record: Record) -> Record:
    """The same object as it is in L3."""
    return Record(record.key, record.id, record.header)


def _timed_write(store: LocalStore, part: bytes) -> float:
    start = time.perf_counter_ns()
    store.disk.write([(PROBE_KEY, encode(part, PROBE_KEY))], [], len(store.keys))
    spent = time.perf_counter_ns() - start
    store.disk.write([], [PROBE_KEY], len(store.keys))
    return spent / 1e9


def _timed_copy(held: FastTier, part: bytes) -> float:
    encoded = encode(part, PROBE_KEY)
    probe = Record(PROBE_KEY, 0, encoded.header)
    start = time.perf_counter_ns()
    copied = copy_into(held, probe, encoded.payload)
    spent = time.perf_counter_ns() - start
    held.release(PROBE_KEY, encoded.header.length, copied.slot)
    return spent / 1e9
