"""The portfolio: no fixed policy is safe on all traces, so shadows of several tell which one to follow.

Shadows see the accesses to a sample of the keys and have that share of the capacity (C. Waldspurger, N. Park,
A. Garthwaite, I. Ahmad, "Efficient MRC construction with SHARDS", FAST 2015). The cache follows another policy when the
paired difference of the hits of the two shadows is beyond chance. All figures below are fixed for every trace.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aura.tiers.replay.arc import Arc
from aura.tiers.replay.cycle_aware import CycleAware
from aura.tiers.replay.hit_density import HitDensity
from aura.tiers.replay.lru import Lru
from aura.tiers.replay.one_hit_gate import OneHitGate
from aura.tiers.replay.policy import Policy
from aura.tiers.replay.ranked import Ranked, Ranking
from aura.tiers.replay.s3_fifo import S3Fifo
from aura.tiers.replay.w_tinylfu import WTinyLfu

SHADOW_OBJECTS = 1024
"""Objects that a shadow holds; fewer only where the cache itself does."""
HORIZON = 16384
"""Latest accesses to sampled keys that are compared."""
COMPARE_EVERY = 256
"""Accesses to sampled keys between two comparisons."""
STANDARD_ERRORS = 2.0
"""Difference in hits, in its standard errors, from which another policy is followed."""
SPREAD, PRIME_BITS = 0x9E3779B97F4A7C15, 40
"""Multiplicative hash: the golden ratio in 64 bits, of which the upper 24 are used."""

PLAIN: dict[str, type[Policy]] = {
    "lru": Lru,
    "one-hit-gate": OneHitGate,
    "s3-fifo": S3Fifo,
    "arc": Arc,
    "w-tinylfu": WTinyLfu,
}
RANKINGS: dict[str, type[Ranking]] = {"cycle-aware": CycleAware, "hit-density": HitDensity}
CANDIDATES = (*PLAIN, *RANKINGS)


class Portfolio(Policy):
    """Follows the policy whose shadow does best, beginning with LRU.

    What the scores need is recorded once for all reads, so that a policy that is taken up knows the past at once; its
    cache takes over the contents of the one before.

    Attributes:
        following: Name of the policy that is followed.
        switches: (access, name) of each change.
    """

    def __init__(self, capacity: int, *, object_bytes: float = 1.0) -> None:
        """Make an empty one.

        Args:
            capacity: Bytes.
            object_bytes: Roughly the bytes of one object; it decides how many keys are sampled.
        """
        super().__init__(capacity)
        self.following = "lru"
        self.switches: list[tuple[int, str]] = []
        self._cycles = CycleAware()
        self._rankings: dict[str, Ranking] = {"cycle-aware": self._cycles, "hit-density": HitDensity()}
        for ranking in self._rankings.values():
            ranking.reserve(round(capacity / object_bytes))
        share = min(1.0, SHADOW_OBJECTS * object_bytes / capacity)
        self._sampled_below = round(share * 2**24)
        self._shadows = [self._made(name, max(1, round(share * capacity))) for name in CANDIDATES]
        self._cache = self._made(self.following, capacity)
        self._hits = np.zeros((HORIZON, len(CANDIDATES)), dtype=np.int8)
        self._sampled = 0
        self._accesses = 0
        self._adopted = 0

    @property
    def cycle(self) -> float | None:
        """Length of the cycle in accesses, where there is one; a cache that holds less than one has no use for LRU."""
        return self._cycles.cycle

    def access(self, key: int, size: int = 1) -> bool:
        """Read one object, as `Policy.access`."""
        self._accesses += 1
        for ranking in self._rankings.values():
            ranking.record(key)
        if ((key * SPREAD & (2**64 - 1)) >> PRIME_BITS) < self._sampled_below:
            self._hits[self._sampled % HORIZON] = [shadow.access(key, size) for shadow in self._shadows]
            self._sampled += 1
            if self._sampled % COMPARE_EVERY == 0:
                self._compare()
        hit = self._cache.access(key, size)
        self.used, self.admitted = self._cache.used, self._adopted + self._cache.admitted
        return hit

    def contents(self) -> Iterator[tuple[int, int]]:
        """What is held, as `Policy.contents`."""
        return self._cache.contents()

    def _made(self, name: str, capacity: int) -> Policy:
        if name in PLAIN:
            return PLAIN[name](capacity)
        return Ranked(capacity, self._rankings[name], recording=False)

    def _compare(self) -> None:
        seen = self._hits[: min(self._sampled, HORIZON)].astype(np.float64)
        ahead = seen - seen[:, [CANDIDATES.index(self.following)]]
        errors = np.sqrt(np.square(ahead).sum(axis=0))
        total = ahead.sum(axis=0)
        beyond_chance = total > STANDARD_ERRORS * np.maximum(errors, 1)
        if beyond_chance.any():
            self._follow(CANDIDATES[int(np.where(beyond_chance, total, -np.inf).argmax())])

    def _follow(self, name: str) -> None:
        before = self._cache
        self._cache = self._made(name, self.capacity)
        # Those that are in the cache already are not brought in again.
        self._adopted += before.admitted
        for key, size in before.contents():
            if isinstance(self._cache, Ranked):
                self._cache.adopt(key, size)
            else:
                self._cache.access(key, size)
        self._adopted -= self._cache.admitted
        self.following = name
        self.switches.append((self._accesses, name))
