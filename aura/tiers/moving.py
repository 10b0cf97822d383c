"""Moving objects between tiers: copy, verify, flip the index, free.

Belongs here: the steps of a move and what makes one refused. Does not: which object should go where (`placement`).

A killed owner loses nothing at any of the steps: the durable copy is in L3 throughout, and the fast tiers start empty.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aura.tiers.codec import Encoded
from aura.tiers.copies import FastTier, Record
from aura.tiers.errors import CapacityError, CorruptObjectError, StoreError, TierAbsentError
from aura.tiers.store import MoveReport, Tier

if TYPE_CHECKING:
    from aura.tiers.local import LocalStore


def move(store: LocalStore, targets: Mapping[str, Tier]) -> MoveReport:
    """See `TieredStore.move`. The lock is taken per object, so that writes are not held up."""
    start = time.perf_counter()
    promoted = demoted = bytes_moved = 0
    refused: list[tuple[str, str]] = []
    for key in _demotions_first(store, targets):
        target = Tier(targets[key])
        with store.lock:
            store.check_open()
            record = store.records.get(key)
            if record is None:
                refused.append((key, "no such object"))
                continue
            try:
                bytes_moved += _move_one(store, record, target)
            except StoreError as error:
                refused.append((key, str(error)))
                continue
            promoted += target < record.tier
            demoted += target > record.tier
    return MoveReport(promoted, demoted, bytes_moved, time.perf_counter() - start, tuple(refused))


def copy_into(held: FastTier, key: str, encoded: Encoded) -> Record:
    """Hold and verify a copy in a fast tier. Needs the owner's lock.

    Raises:
        CapacityError: It does not fit beside what the tier holds.
        CorruptObjectError: What was written is not what is there; the slot was freed.
    """
    copied = held.hold(key, encoded)
    if copied is None:
        free = held.capacity_bytes - held.used_bytes
        raise CapacityError(
            f"An object of {encoded.header.length} bytes does not fit into {held.tier}",
            key=key,
            cause=f"{free} of {held.capacity_bytes} bytes are free",
            remedy="Move other objects out of the tier, or give it a larger budget.",
        )
    written = held.read(copied)
    if written is None or not encoded.header.matches(written):
        held.release(copied)
        raise CorruptObjectError(
            f"The copy of {key!r} in {held.tier} differs from what was written",
            key=key,
            remedy=f"The memory of {held.tier.label} may be faulty; the object is safe in L3.",
        )
    return copied


def held_tier(store: LocalStore, tier: Tier) -> FastTier:
    """The fast tier of that name.

    Raises:
        TierAbsentError: The store has none.
    """
    if tier not in store.fast:
        raise TierAbsentError(
            f"This store has no {tier} ({tier.label})",
            path=str(store.directory),
            remedy="tiers() lists what it has; a tier needs a budget above zero, and L0 a device.",
        )
    return store.fast[tier]


def _demotions_first(store: LocalStore, targets: Mapping[str, Tier]) -> list[str]:
    def rises(key: str) -> bool:
        record = store.records.get(key)
        return record is None or record.tier >= targets[key]

    return sorted(targets, key=rises)


def _move_one(store: LocalStore, record: Record, target: Tier) -> int:
    """The bytes copied. Needs the lock."""
    if target == record.tier:
        return 0
    if target == Tier.L3:
        store.drop_copy(record.key)
        return 0
    held = held_tier(store, target)
    _, encoded = store.read_locked(record.key)
    copied = copy_into(held, record.key, encoded)
    store.drop_copy(record.key)
    store.records[record.key] = copied
    return record.header.length
