"""What tiers cost, and what a plan of moves is: the types at the boundary of the online layer.

Belongs here: these types and the seconds that follow from them. Does not: measuring (`aura.tiers.planning.profile`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aura.tiers.records import Tier

MOST_SCALED = 4.0
"""Most by which the worth of a read is raised for an object whose move is dear: beyond that it had better stay."""

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TierCosts:
    """One tier: its room, and the lines that give the seconds of a get and of a put.

    Attributes:
        tier: Which one.
        capacity_bytes: Bytes it may hold; None for L3, which holds the durable copy of every object.
        get_seconds: Seconds of a get of no bytes.
        get_seconds_per_byte: Added for each byte.
        put_seconds: Seconds of a put of no bytes; of no account in L3, where the copy already is.
        put_seconds_per_byte: Added for each byte.
    """

    tier: Tier
    capacity_bytes: int | None
    get_seconds: float
    get_seconds_per_byte: float
    put_seconds: float
    put_seconds_per_byte: float

    def __post_init__(self) -> None:
        if (self.capacity_bytes is None) != (self.tier is Tier.L3):
            raise ValueError(f"{self.tier} has capacity {self.capacity_bytes}; L3 has None, every other tier bytes")
        if self.capacity_bytes is not None and self.capacity_bytes < 0:
            raise ValueError(f"{self.tier} has capacity {self.capacity_bytes}; bytes are zero or more")
        for name in ("get_seconds", "get_seconds_per_byte", "put_seconds", "put_seconds_per_byte"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{self.tier} has {name} {getattr(self, name)}; measured seconds are finite and >= 0")


@dataclass(frozen=True, eq=False, slots=True)
class Moves:
    """Moves in the order in which they have to be made: what frees room comes first.

    Attributes:
        ids: int32[m], the objects, each once.
        tiers: Where each goes, m of them.
        bytes: int64[m], bytes that each move copies: none where a copy is only dropped.
    """

    ids: NDArray[np.int32]
    tiers: tuple[Tier, ...]
    bytes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[tuple[int, Tier]]:
        return zip(self.ids.tolist(), self.tiers, strict=True)


class CostTable:
    """The tiers of a store as arrays, from the cheapest get to the dearest, as measured; L3 is always the last.

    A tier whose get of a typical object is no cheaper than that of L3 is left out: nothing is gained by a copy there.

    Attributes:
        tiers: k tiers; position in it is how the layer numbers them.
        capacities: int64[k - 1], bytes of the fast ones.
    """

    def __init__(self, tiers: Sequence[TierCosts], typical_bytes: float) -> None:
        """Sort the tiers by cost.

        Raises:
            ValueError: A tier is named twice, or L3 is missing.
        """
        names = [each.tier for each in tiers]
        if len(set(names)) != len(names) or Tier.L3 not in names:
            raise ValueError(f"tiers are {', '.join(names)}; each belongs there once, and L3 among them")

        def get(each: TierCosts) -> float:
            return each.get_seconds + each.get_seconds_per_byte * typical_bytes

        durable = next(each for each in tiers if each.tier is Tier.L3)
        fast = sorted((each for each in tiers if each.capacity_bytes and get(each) < get(durable)), key=get)
        ordered = [*fast, durable]
        self.tiers = tuple(each.tier for each in ordered)
        self.capacities = np.array([each.capacity_bytes for each in fast], dtype=np.int64)
        self._get = np.array([[each.get_seconds, each.get_seconds_per_byte] for each in ordered])
        self._put = np.array([[each.put_seconds, each.put_seconds_per_byte] for each in ordered])
        self._typical_prices = self.prices(typical_bytes)

    def get(self, tiers: NDArray[np.int8] | int, sizes: Rows | Floats) -> Floats:
        """float64[..., n], seconds of a get from each tier of objects of these sizes; tiers int8[..., n] or one."""
        found: Floats = self._get[tiers, 0] + self._get[tiers, 1] * sizes
        return found

    def worth(self, sizes: Rows) -> Floats:
        """float64[k - 1, n], seconds that a read which each fast tier saves is worth, for objects of these sizes.

        That is what a get there saves over one from L3. An object whose move costs more such reads than that of a
        typical one, as that of a small object does, is worth as much more: the reads to expect are known only up to the
        price of a typical move, and what reaches that price has to be able to pay for its own.
        """
        saved = self._get[-1] - self._get[:-1]
        difference: Floats = saved[:, :1] + saved[:, 1:] * sizes
        if not len(saved):
            return difference
        moves = np.stack([self.move(len(saved), tier, sizes) for tier in range(len(saved))])
        found: Floats = np.clip(moves / self._typical_prices[:, None], difference, MOST_SCALED * difference)
        return np.where(difference > 0, found, difference)

    def move(self, source: NDArray[np.int8] | int, target: int, sizes: Rows | Floats) -> Floats:
        """float64[n], seconds of reading the copy and writing it to another tier."""
        found: Floats = self.get(source, sizes) + self._put[target, 0] + self._put[target, 1] * sizes
        return found

    def prices(self, size: float) -> Floats:
        """float64[k - 1], a move from L3 to each fast tier, in what a get of such an object saves there."""
        sizes, last = np.array([size]), len(self.capacities)
        return np.array(
            [
                float((self.move(last, tier, sizes) / (self.get(last, sizes) - self.get(tier, sizes)))[0])
                for tier in range(last)
            ]
        )
