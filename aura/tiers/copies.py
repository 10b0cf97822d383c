"""The fast tiers as the owner uses them: each holds copies of objects within its capacity.

Belongs here: L1 (live objects), L2 in the arena (live objects that are views of it) and L0 (slots of device memory)
behind one small interface, so that a further tier, such as a remote warm pool, is one more class.
Does not: which tier an object belongs in, and L3.

A copy is made in two steps. `reserve` takes the room, under the owner's lock. `fill` copies and verifies without it, so
that a large copy holds nobody up; only then the owner's index is flipped to the new record.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from aura.tiers.arena import Allocator, Arena
from aura.tiers.codec import Header, Kind, decode_verified
from aura.tiers.device import DeviceSlab
from aura.tiers.errors import CapacityError, CorruptObjectError
from aura.tiers.pressure import TIGHT, MemoryWatch
from aura.tiers.records import Tier
from aura.tiers.values import Part

NO_SLOT = -1


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """Where an object is read from: its fastest copy.

    Attributes:
        key: Its name.
        id: Its number, as in the header.
        header: What its payload has to be.
        tier: The tier of the copy.
        slot: Byte offset in a slab.
        part: The decoded object where it is kept decoded (L1, arena), else None.
        payload: What `part` is a view of. In the arena the slot is free when nobody has a view of it any more.
    """

    key: str
    id: int
    header: Header
    tier: Tier = Tier.L3
    slot: int = NO_SLOT
    part: Part | None = None
    payload: bytes | memoryview | None = None


class FastTier(ABC):
    """Copies of objects within a capacity. `fill` and `read` need no lock, the rest needs the owner's."""

    tier: Tier
    capacity_bytes: int
    objects: int = 0

    @property
    @abstractmethod
    def used_bytes(self) -> int:
        """Bytes taken."""

    def fits(self, length: int) -> bool:
        """Whether there is room for a payload now."""
        return self.used_bytes + length <= self.capacity_bytes

    @abstractmethod
    def reserve(self, length: int) -> int | None:
        """Take room for a payload: the slot, or None when it does not fit."""

    @abstractmethod
    def fill(self, key: str, header: Header, slot: int, payload: bytes | memoryview) -> Record:
        """Copy a payload into the reserved room and verify it there.

        Raises:
            CorruptObjectError: What is there now does not match the header.
            TierAbsentError: The tier does not take it.
        """

    @abstractmethod
    def read(self, record: Record) -> bytes | memoryview | None:
        """The payload as it is there now, or None when there is none. A slot may be reused meanwhile: verify."""

    @abstractmethod
    def release(self, key: str, length: int, slot: int) -> None:
        """Free what was reserved, filled or not."""

    @abstractmethod
    def close(self) -> None:
        """Give the memory back."""

    def take(self, key: str, length: int) -> int:
        """`reserve`, or say why not.

        Raises:
            CapacityError: It does not fit beside what the tier holds.
        """
        slot = self.reserve(length)
        if slot is None:
            free = max(0, self.capacity_bytes - self.used_bytes)
            cause = f"{free} of {self.capacity_bytes} bytes are free"
            if free >= length:
                cause += ", but not in one piece, or the machine or a control group is short of memory"
            raise CapacityError(
                f"An object of {length} bytes does not fit into {self.tier}",
                key=key,
                cause=cause,
                remedy="Move other objects out of the tier, or give it a larger budget.",
            )
        return slot


class ProcessTier(FastTier):
    """L1: objects of this process, decoded."""

    tier = Tier.L1

    def __init__(self, capacity_bytes: int, memory: MemoryWatch) -> None:
        """Begin empty.

        Args:
            capacity_bytes: The budget. `shrink` lowers it for as long as memory is short.
            memory: Says whether there is memory, whatever the budget is.
        """
        self.capacity_bytes = capacity_bytes
        self.memory = memory
        self._budget_bytes = capacity_bytes
        self._used_bytes = 0

    @property
    def used_bytes(self) -> int:
        """Payload bytes of the live objects."""
        return self._used_bytes

    def shrink(self) -> None:
        """Take no more than what is taken now, until `relax`."""
        self.capacity_bytes = self._used_bytes

    def relax(self) -> None:
        """Take up to the budget again, as far as there is memory."""
        self.capacity_bytes = min(self._budget_bytes, self._used_bytes + self.memory.spare())

    @property
    def shrunk(self) -> bool:
        """Whether the capacity is below the budget."""
        return self.capacity_bytes < self._budget_bytes

    def reserve(self, length: int) -> int | None:
        """See `FastTier.reserve`. None also where the memory of the machine or of a control group is short."""
        if self._used_bytes + length > self.capacity_bytes or not self.memory.admits(length):
            return None
        self._used_bytes += length
        self.objects += 1
        return NO_SLOT

    def fill(self, key: str, header: Header, slot: int, payload: bytes | memoryview) -> Record:
        """See `FastTier.fill`. Bytes are taken as they are; a view is copied into memory of its own."""
        own = payload if isinstance(payload, bytes) else bytes(payload)
        verify_copy(self.tier, key, header, own)
        part = decode_verified(header, own, key)
        return Record(key, header.id, header, self.tier, slot, part, own)

    def read(self, record: Record) -> bytes | memoryview | None:
        """See `FastTier.read`."""
        return record.payload

    def release(self, key: str, length: int, slot: int) -> None:  # noqa: ARG002 - the interface
        """Whoever still uses the live object keeps it alive."""
        self._used_bytes -= length
        self.objects -= 1

    def close(self) -> None:
        """Nothing to give back: the records hold the objects."""


class DeviceTier(FastTier):
    """L0: slots of device memory, copied out by every read."""

    tier = Tier.L0

    def __init__(self, slab: DeviceSlab) -> None:
        self.capacity_bytes = slab.capacity_bytes
        self._slab = slab
        self._allocator = Allocator(slab.capacity_bytes)

    @property
    def used_bytes(self) -> int:
        """Bytes of the slots."""
        return self._allocator.used_bytes

    def fits(self, length: int) -> bool:
        """See `FastTier.fits`: in one piece."""
        return self._allocator.fits(length)

    def reserve(self, length: int) -> int | None:
        """The first free slot that is large enough."""
        slot = self._allocator.allocate(length)
        self.objects += slot is not None
        return slot

    def fill(self, key: str, header: Header, slot: int, payload: bytes | memoryview) -> Record:
        """See `FastTier.fill`."""
        self._slab.write(slot, payload)
        verify_copy(self.tier, key, header, self._slab.read(slot, header.length) or b"")
        return Record(key, header.id, header, self.tier, slot)

    def read(self, record: Record) -> bytes | memoryview | None:
        """Copy the payload out."""
        return self._slab.read(record.slot, record.header.length)

    def release(self, key: str, length: int, slot: int) -> None:  # noqa: ARG002 - the interface
        """What is in the slot stays until it is overwritten."""
        self._allocator.release(slot, length)
        self.objects -= 1

    @property
    def tight(self) -> bool:
        """Whether the device has next to no memory left for others."""
        return self._slab.free_share() < 1 - TIGHT

    def resize(self, capacity_bytes: int) -> None:
        """Take this much of the device from now on; the tier is empty and has to be so before.

        Raises:
            CapacityError: The device has not even that much; the tier has no memory then.
        """
        self.capacity_bytes = 0
        self._allocator = Allocator(0)
        self._slab.resize(capacity_bytes)
        self.capacity_bytes = capacity_bytes
        self._allocator = Allocator(capacity_bytes)

    def close(self) -> None:
        """Give the slab back."""
        self._slab.close()


class ArenaTier(FastTier):
    """L2 in shared memory: what is read is a view of the arena, never a copy.

    A slot that was released while somebody still has a view of it is free when the last view is gone; until then it
    counts as used.
    """

    tier = Tier.L2

    def __init__(self, arena: Arena) -> None:
        self.capacity_bytes = arena.capacity_bytes
        self._arena = arena
        self._allocator = Allocator(arena.capacity_bytes)
        self._viewed: set[int] = set()
        self._released: dict[int, int] = {}

    @property
    def used_bytes(self) -> int:
        """Bytes of the slots, those included that are released and still viewed."""
        self._reclaim()
        return self._allocator.used_bytes

    def fits(self, length: int) -> bool:
        """See `FastTier.fits`: in one piece."""
        self._reclaim()
        return self._allocator.fits(length)

    def reserve(self, length: int) -> int | None:
        """The first free slot that is large enough."""
        self._reclaim()
        slot = self._allocator.allocate(length)
        self.objects += slot is not None
        return slot

    def fill(self, key: str, header: Header, slot: int, payload: bytes | memoryview) -> Record:
        """See `FastTier.fill`."""
        self._arena.write(slot, payload)
        verify_copy(self.tier, key, header, self._arena.peek(slot, header.length))
        self._viewed.add(slot)
        view = self._arena.view(slot, header.length)
        # Decoded bytes would be a copy outside of the arena.
        part = None if header.kind is Kind.BYTES else decode_verified(header, view, key)
        return Record(key, header.id, header, self.tier, slot, part, view)

    def read(self, record: Record) -> bytes | memoryview | None:
        """A view of the slot."""
        return record.payload

    def release(self, key: str, length: int, slot: int) -> None:  # noqa: ARG002 - the interface
        """The slot is free as soon as nobody views it."""
        self._reclaim()
        self.objects -= 1
        if slot in self._viewed:
            self._released[slot] = length
        else:
            self._allocator.release(slot, length)

    def close(self) -> None:
        """Give the arena back."""
        self._arena.close()

    def _reclaim(self) -> None:
        for slot in self._arena.unviewed():
            self._viewed.discard(slot)
            if slot in self._released:
                self._allocator.release(slot, self._released.pop(slot))


def verify_copy(tier: Tier, key: str, header: Header, payload: bytes | memoryview) -> None:
    """Raise CorruptObjectError when the payload of a copy does not match its header."""
    if not header.matches(payload):
        raise CorruptObjectError(
            f"The copy of {key!r} in {tier} differs from what was written",
            key=key,
            remedy=f"The memory of {tier.label} may be faulty; the object is safe in L3.",
        )
