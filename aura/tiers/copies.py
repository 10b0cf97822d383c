"""The fast tiers as the owner uses them: each holds copies of objects within its capacity.

Belongs here: L1 (live objects) and L0/L2 (slots of a slab) behind one small interface, so that a further tier, such as
a remote warm pool, is one more class. Does not: which tier an object belongs in, and L3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from aura.tiers.arena import Allocator, Slab
from aura.tiers.codec import Encoded, Header, decode_verified
from aura.tiers.store import Tier
from aura.tiers.values import Part

NO_SLOT = -1


@dataclass(frozen=True, slots=True)
class Record:
    """Where an object is read from: its fastest copy. `slot` is the byte offset in a slab."""

    key: str
    header: Header
    tier: Tier = Tier.L3
    slot: int = NO_SLOT


@dataclass(frozen=True, slots=True)
class Live:
    """An object of L1: decoded, with the encoded bytes that it is a view of."""

    id: int
    part: Part
    encoded: Encoded


class FastTier(ABC):
    """Copies of objects within a capacity.

    `read` needs no lock and may see a slot that was reused: verify what it gives. The rest needs the owner's lock.
    """

    tier: Tier
    capacity_bytes: int
    objects: int = 0

    @property
    @abstractmethod
    def used_bytes(self) -> int:
        """Bytes taken."""

    @abstractmethod
    def hold(self, key: str, encoded: Encoded) -> Record | None:
        """Copy an object in; where it is now, or None when it does not fit."""

    @abstractmethod
    def read(self, record: Record) -> bytes | memoryview | None:
        """The payload as it is there now, or None when there is none."""

    @abstractmethod
    def release(self, record: Record) -> None:
        """Free the slot."""

    @abstractmethod
    def close(self) -> None:
        """Give the memory back."""


class ProcessTier(FastTier):
    """L1: `live` is read without a lock by every get."""

    tier = Tier.L1

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.live: dict[str, Live] = {}
        self._used_bytes = 0

    @property
    def used_bytes(self) -> int:
        """Payload bytes of the live objects."""
        return self._used_bytes

    def hold(self, key: str, encoded: Encoded) -> Record | None:
        """Decode and keep; what it views must be memory of its own."""
        if self._used_bytes + encoded.header.length > self.capacity_bytes:
            return None
        self._used_bytes += encoded.header.length
        self.objects += 1
        self.live[key] = Live(encoded.header.id, decode_verified(encoded, key), encoded)
        return Record(key, encoded.header, self.tier)

    def read(self, record: Record) -> bytes | memoryview | None:
        """The bytes that the live object is a view of."""
        live = self.live.get(record.key)
        return None if live is None else live.encoded.payload

    def release(self, record: Record) -> None:
        """Drop the live object; whoever still uses it keeps it alive."""
        self.live.pop(record.key, None)
        self._used_bytes -= record.header.length
        self.objects -= 1

    def close(self) -> None:
        """Drop everything."""
        self.live.clear()


class SlabTier(FastTier):
    """L0 or L2: slots of a slab."""

    def __init__(self, tier: Tier, slab: Slab) -> None:
        self.tier = tier
        self.capacity_bytes = slab.capacity_bytes
        self._slab = slab
        self._allocator = Allocator(slab.capacity_bytes)

    @property
    def used_bytes(self) -> int:
        """Bytes of the slots."""
        return self._allocator.used_bytes

    def hold(self, key: str, encoded: Encoded) -> Record | None:
        """Copy into the first free slot that is large enough."""
        slot = self._allocator.allocate(encoded.header.length)
        if slot is None:
            return None
        self._slab.write(slot, encoded.payload)
        self.objects += 1
        return Record(key, encoded.header, self.tier, slot)

    def read(self, record: Record) -> bytes | memoryview | None:
        """Copy the payload out."""
        return self._slab.read(record.slot, record.header.length)

    def release(self, record: Record) -> None:
        """Free the slot; what is in it stays until it is overwritten."""
        self._allocator.release(record.slot, record.header.length)
        self.objects -= 1

    def close(self) -> None:
        """Give the slab back."""
        self._slab.close()
