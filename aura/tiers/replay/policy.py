"""What an eviction policy is to a replay, and the replay of a trace through one.

Belongs here: the interface, the outcome of a replay. Does not: any policy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from aura.tiers.replay.trace import Trace


class Policy(ABC):
    """A simulated cache: which keys it holds, never their values.

    Attributes:
        capacity: Bytes it may hold; with sizes of one, objects.
        used: Bytes it holds; never above the capacity.
        admitted: Bytes that were brought in since it was made, replacements of a changed size included.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}: a cache holds at least one byte")
        self.capacity = capacity
        self.used = 0
        self.admitted = 0

    @abstractmethod
    def access(self, key: int, size: int = 1) -> bool:
        """Read one object: whether it was there. Afterwards it may be, at the price of others.

        An object larger than the capacity is never kept. One that is there with another size counts as missed.
        """

    @abstractmethod
    def contents(self) -> Iterator[tuple[int, int]]:
        """Key and size of what is held, those first that would rather be evicted."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a replay came to.

    Attributes:
        accesses: Number of accesses.
        hits: Those that were answered by the cache.
        bytes: Bytes of all accesses.
        missed_bytes: Bytes of those that were not answered by the cache.
        admitted_bytes: Bytes that the policy brought in: the traffic into the tier. None for a bound.
    """

    accesses: int
    hits: int
    bytes: int
    missed_bytes: int
    admitted_bytes: int | None = None

    @property
    def miss_ratio(self) -> float:
        """Missed accesses over all accesses."""
        return 1 - self.hits / self.accesses


def replay(policy: Policy, trace: Trace) -> Outcome:
    """Pass all accesses of a trace, in order, to a policy."""
    access = policy.access
    hits, missed_bytes = 0, 0
    weights = trace.weights
    for key, size in zip(trace.ids.tolist(), weights.tolist(), strict=True):
        if access(key, size):
            hits += 1
        else:
            missed_bytes += size
    return Outcome(len(trace), hits, int(weights.sum()), missed_bytes, policy.admitted)
