"""Moving objects between tiers: copy, verify, flip the index, free.

Belongs here: the steps of a move and what makes one refused. Does not: which object should go where (`placement`,
`online`), and when (`upkeep`).

A killed owner loses nothing at any of the steps: the durable copy is in L3 throughout, and the fast tiers start empty.
Room is taken and the index flipped under the owner's lock, the copy is made without it. One thread does it all: reading
from the database and verifying hold the interpreter, so a second one would wait for most of the time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from aura.tiers.copies import FastTier, Record
from aura.tiers.errors import CapacityError, CorruptObjectError, StoreError, TierAbsentError
from aura.tiers.records import MoveReport, Tier

if TYPE_CHECKING:
    from aura.tiers.local import LocalStore

ATTEMPTS = 3
"""Times that a copy is begun anew because the object was written meanwhile."""


def move(store: LocalStore, targets: Mapping[str, Tier]) -> MoveReport:
    """See `TieredStore.move`. The lock is taken per object, so that writes are not held up."""
    start = time.perf_counter()
    falling, rising = _demotions_first(store, targets)
    moved = [_moved(store, key, Tier(targets[key])) for key in falling]
    moved += [_moved(store, key, Tier(targets[key])) for key in rising]
    store.check_open()
    return MoveReport(
        promoted=sum(rose for rose, _, _, _ in moved),
        demoted=sum(fell for _, fell, _, _ in moved),
        bytes_moved=sum(copied for _, _, copied, _ in moved),
        seconds=time.perf_counter() - start,
        refused=tuple(
            (key, reason) for key, (_, _, _, reason) in zip([*falling, *rising], moved, strict=True) if reason
        ),
    )


def copy_into(held: FastTier, record: Record, payload: bytes | memoryview) -> Record:
    """Take room, copy and verify; the caller flips the index to it or releases it. Needs the owner's lock.

    Raises:
        CapacityError: It does not fit beside what the tier holds.
        CorruptObjectError: What was written is not what is there.
        TierAbsentError: The tier does not take it.
    """
    slot = held.take(record.key, record.header.length)
    try:
        return held.fill(record.key, record.header, slot, payload)
    except StoreError:
        held.release(record.key, record.header.length, slot)
        raise


def held_tier(store: LocalStore, tier: Tier) -> FastTier:
    """The fast tier of that name.

    Raises:
        TierAbsentError: The store has none.
    """
    if tier == Tier.L3:
        raise TierAbsentError(
            "L3 is no fast tier", path=str(store.directory), remedy="It always holds every object; name another one."
        )
    if tier not in store.fast:
        raise TierAbsentError(
            f"This store has no {tier} ({tier.label})",
            path=str(store.directory),
            remedy="tiers() lists what it has; a tier needs a budget above zero, and L0 a device.",
        )
    return store.fast[tier]


def _demotions_first(store: LocalStore, targets: Mapping[str, Tier]) -> tuple[Sequence[str], Sequence[str]]:
    falling: list[str] = []
    rising: list[str] = []
    for key, target in targets.items():
        record = store.records.get(key)
        (falling if record is not None and record.tier < target else rising).append(key)
    return falling, rising


def _moved(store: LocalStore, key: str, target: Tier) -> tuple[bool, bool, int, str]:
    """Whether it rose, whether it fell, the bytes copied, and why it stayed."""
    try:
        before, copied = _move_one(store, key, target)
    except StoreError as error:
        return False, False, 0, str(error)
    if before is None:
        return False, False, 0, "no such object"
    return target < before, target > before, copied, ""


def _move_one(store: LocalStore, key: str, target: Tier) -> tuple[Tier | None, int]:
    """The tier where it was, None without an object, and the bytes copied."""
    held = None if target == Tier.L3 else held_tier(store, target)
    repaired = False
    for _ in range(ATTEMPTS):
        with store.lock:
            store.check_open()
            record = store.records.get(key)
            if record is None or record.tier == target:
                return (None if record is None else target), 0
            if record.tier < target:
                _check_unpinned(store, key, target)
            if held is None:
                store.drop_copy(key)
                store.count_move(record.id, record.tier, target, 0)
                return record.tier, 0
            slot = held.take(key, record.header.length)
            store.copies_under_way += 1
        copied, error, done = None, None, False
        try:
            copied, error = _filled(store, held, record, slot)
        finally:  # also when Ctrl-C ends the copy: close() waits for it, and the room has to be given back
            with store.lock:
                store.copies_under_way -= 1
                store.copies_ended.notify_all()
                if copied is not None and store.records.get(key) is record:
                    store.flip(record, copied)
                    store.count_move(record.id, record.tier, target, record.header.length)
                    done = True
                else:
                    held.release(key, record.header.length, slot)
        if done:
            return record.tier, record.header.length
        if isinstance(error, CorruptObjectError) and not repaired:
            # Either the source was bad, which reading it tells and repairs, or the object changed meanwhile.
            with store.lock:
                store.read_locked(key)
            repaired = True
        elif error is not None:
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame, which would keep the record's view alive
    raise CapacityError(
        f"{key!r} was written {ATTEMPTS} times while it was copied", key=key, remedy="Move it when it is at rest."
    )


def _filled(store: LocalStore, held: FastTier, record: Record, slot: int) -> tuple[Record | None, Exception | None]:
    try:
        payload = store.payload(record)
        if payload is None or len(payload) != record.header.length:
            return None, CorruptObjectError(f"The copy of {record.key!r} in {record.tier} is gone", key=record.key)
        return held.fill(record.key, record.header, slot, payload), None
    except Exception as error:  # noqa: BLE001 - raised by the caller, once the room is given back
        return None, error


def _check_unpinned(store: LocalStore, key: str, target: Tier) -> None:
    pinned = store.pins.get(key)
    if pinned is not None and pinned < target:
        raise CapacityError(f"{key!r} is pinned in {pinned}", key=key, remedy="Unpin it first.")
