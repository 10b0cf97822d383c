"""What a store says of itself: its tiers, its objects, and what was done to them.

Belongs here: the records that `TieredStore` returns. Does not: the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np
from numpy.typing import NDArray


class Tier(StrEnum):
    """A memory tier, from fast to slow by nominal order; what they really cost is measured, see `time_gets`."""

    L0 = "L0"
    L1 = "L1"
    L2 = "L2"
    L3 = "L3"

    @property
    def label(self) -> str:
        """What the tier is made of, in words."""
        return _LABELS[self]


_LABELS = {Tier.L0: "GPU memory", Tier.L1: "process memory", Tier.L2: "warm pool", Tier.L3: "RocksDB"}


class Operation(IntEnum):
    """What can be done to an object besides reading it."""

    PUT = 0
    DELETE = 1
    PROMOTION = 2
    DEMOTION = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """One object.

    Attributes:
        key: Its name.
        id: Its number: fits int32, unique in the store, stable across restarts, never given to another key again.
        kind: "bytes", "table" or "tensors".
        bytes: Size of the encoded payload; this is what counts against a tier's capacity.
        tier: The fastest tier that holds it.
        pinned: Whether it stays there, see `TieredStore.pin`.
    """

    key: str
    id: int
    kind: str
    bytes: int
    tier: Tier
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class TierState:
    """One tier that this store has.

    Attributes:
        tier: Which one.
        capacity_bytes: Its budget; None for L3, which is as large as the disk.
        used_bytes: Bytes taken: with alignment in L0 and L2, payload bytes in L1, payload bytes of all objects in L3;
            in the arena also what was dropped while somebody still has a view of it.
        objects: Number of objects it holds. L3 holds all of them.
        gets: Gets that the owner answered from this tier since it opened the store. What clients copy out of the arena
            themselves is in the access log only.
        get_seconds: Seconds in these gets. Of its own gets of live objects in L1 the owner repeats some of the latest
            every time it takes them in, and the mean is multiplied by the gets since the time before, since reading
            the clock for each would cost as much as the get; None as long as none was timed.
        puts: Objects written since the owner opened the store; in L3, where every put goes.
        deletes: Keys deleted since; in L3.
        promotions: Objects that came in from a slower tier since.
        demotions: Objects that came in from a faster tier since, by a move.
        bytes_in: Bytes copied in by moves since.
    """

    tier: Tier
    capacity_bytes: int | None
    used_bytes: int
    objects: int
    gets: int
    get_seconds: float | None
    puts: int = 0
    deletes: int = 0
    promotions: int = 0
    demotions: int = 0
    bytes_in: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Access:
    """The access log: what was read, in order.

    Attributes:
        ids: int32[n], ids of the objects that were got, oldest first.
        keys: The key of every id: `keys[id]`; "" for an id whose object was deleted.
        total: Gets since the owner opened the store, those included that the log no longer keeps.
    """

    ids: NDArray[np.int32]
    keys: tuple[str, ...]
    total: int


@dataclass(frozen=True, eq=False, slots=True)
class Operations:
    """What was done to objects besides reading them, in order.

    Attributes:
        rows: int64[n, 3], id of the object, `Operation`, and the tier as its number in `Tier`: where a put went, where
            a promotion or a demotion ended.
        total: Operations since the owner opened the store, those included that are no longer kept.
        reads: Gets since the owner opened the store, as in `Access`.
        deleted: Keys of the objects that were deleted in `rows`, by id, of the latest 100,000 deleted ones.
    """

    rows: NDArray[np.int64]
    total: int
    reads: int
    deleted: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Steered:
    """What the online layer does.

    Attributes:
        following: Name of the eviction policy that did best on a sample of the keys.
        switches: How often another one was taken up.
        reads: Reads that it took in.
        objects: Objects that it knows.
        seconds: CPU seconds that it used.
        short_of_cycle: (bytes of fast memory, bytes of one cycle) when objects are read in turn and the former are
            fewer; else None.
    """

    following: str
    switches: int
    reads: int
    objects: int
    seconds: float
    short_of_cycle: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class MoveReport:
    """What a `move` did.

    Attributes:
        promoted: Number of objects that went to a faster tier.
        demoted: Number of objects that went to a slower tier.
        bytes_moved: Bytes that were copied for it; dropping a copy moves none.
        seconds: Wall seconds it took.
        refused: (key, reason) of every object that stayed where it was although another tier was asked for.
    """

    promoted: int
    demoted: int
    bytes_moved: int
    seconds: float
    refused: tuple[tuple[str, str], ...]
