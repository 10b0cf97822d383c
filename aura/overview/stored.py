"""What the store holds, as a client that never owns it.

Belongs here: the tiers with their recent gets, the published values with the tiers of their blocks. Does not: drawing.

To look must not change what is seen: lists and counters are no accesses, and the pointers of the values, which are,
are read only when a value was added, changed or removed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from aura.overview.machine import GAP_SECONDS
from aura.tiers.catalog import Catalog
from aura.tiers.owner import read_address
from aura.tiers.places import POINTERS, VALUES
from aura.tiers.published import Published
from aura.tiers.records import Entry, Tier, TierState
from aura.tiers.store import TieredStore, join_store

RECENT_SECONDS = 60.0
"""Gets of this long ago count as recent."""

SAMPLES = 3600
"""Samples of the tiers that stay in memory."""


@dataclass(frozen=True)
class TierSample:
    """The tiers at one moment.

    Attributes:
        at: Seconds on the viewer's clock.
        taken_at: When, in UTC.
        owner: What tells the store's owner from those before and after it; None if it cannot be told.
        states: What the store's owner says of each tier.
    """

    at: float
    taken_at: datetime
    owner: str | None
    states: Mapping[Tier, TierState]


@dataclass(frozen=True)
class TierRates:
    """What the tiers did between two samples.

    Attributes:
        taken_at: When that ended, in UTC.
        gets: Gets that the owner answered.
        hit_ratio: Share of them that a tier above the disk answered; None without a get.
        promotions: Objects that came in from a slower tier.
        demotions: Objects that came in from a faster one.
        bytes_moved: Bytes that these copied.
        seconds: Length of the time between.
    """

    taken_at: datetime
    gets: int
    hit_ratio: float | None
    promotions: int
    demotions: int
    bytes_moved: int
    seconds: float


@dataclass(frozen=True)
class TierFigures:
    """One tier now.

    Attributes:
        state: What the store's owner says; its gets count from when it opened the store.
        recent_gets: Gets within the last `recent_seconds`.
        recent_get_seconds: Seconds in these; None if they cannot be told.
        recent_seconds: Length of the window: RECENT_SECONDS, less while the page has not looked for that long.
    """

    state: TierState
    recent_gets: int
    recent_get_seconds: float | None
    recent_seconds: float


@dataclass(frozen=True)
class StoredValue:
    """A published value.

    Attributes:
        name: Its asset.
        partition: Its partition, None without.
        rows: Rows of its tables.
        tier_bytes: Payload bytes of its blocks by the fastest tier that holds them, fast tiers first.
        published_at: When it was published, in UTC.
    """

    name: str
    partition: str | None
    rows: int
    tier_bytes: Mapping[Tier, int]
    published_at: datetime

    @property
    def bytes(self) -> int:
        """Payload bytes of all blocks."""
        return sum(self.tier_bytes.values())


class StoreView:
    """Looks into one store. Thread-safe."""

    def __init__(self, directory: Path, timeout_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is opened yet.

        Args:
            directory: The store's directory.
            timeout_seconds: Longest wait for the owner in one call.
            clock: Seconds.
        """
        self._directory = directory
        self._timeout = timeout_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._joined: TieredStore | None = None
        self._samples: deque[TierSample] = deque(maxlen=SAMPLES)
        self._known: tuple[frozenset[str], list[Published]] = (frozenset(), [])

    def tiers(self) -> tuple[TierFigures, ...]:
        """The tiers that this machine has, from fast to slow.

        Raises:
            StoreError: The store has no owner that answers.
        """
        states = {state.tier: state for state in self.joined().tiers()}
        # Asked for after the counters: of an owner that has just gone the next ones count back.
        address = read_address(self._directory)
        now = TierSample(self._clock(), datetime.now(UTC), None if address is None else address.token, states)
        with self._lock:
            if self._samples and not _continues(self._samples[-1], now):
                self._samples.clear()
            self._samples.append(now)
            before = next(sample for sample in self._samples if now.at - sample.at <= RECENT_SECONDS)
        return tuple(
            TierFigures(
                state=state,
                recent_gets=state.gets - before.states[state.tier].gets,
                recent_get_seconds=_difference(before.states[state.tier].get_seconds, state.get_seconds),
                recent_seconds=now.at - before.at,
            )
            for state in states.values()
        )

    def rates(self, window: timedelta | None) -> list[TierRates]:
        """What the tiers did from look to look within the window, the oldest first; no further back than the owner.

        Nothing is told of the time between two looks that are more than `GAP_SECONDS` apart.
        """
        since = None if window is None else datetime.now(UTC) - window
        with self._lock:
            samples = [each for each in self._samples if since is None or each.taken_at >= since]
        return [_rates(before, after) for before, after in pairwise(samples) if after.at - before.at <= GAP_SECONDS]

    def values(self) -> tuple[StoredValue, ...]:
        """The published values, in order of name and partition.

        Raises:
            StoreError: The store has no owner that answers.
            CatalogError: A pointer is damaged.
        """
        store = self.joined()
        blocks = {entry.key: entry for entry in store.entries(VALUES)}
        return tuple(_stored(each, blocks) for each in self._published(store, frozenset(blocks)))

    def published(self) -> list[Published]:
        """What is published, in order of name and partition; no access where nothing has changed since the last look.

        Raises:
            StoreError: The store has no owner that answers.
            CatalogError: A pointer is damaged.
        """
        store = self.joined()
        return self._published(store, frozenset(entry.key for entry in store.entries(VALUES)))

    def _published(self, store: TieredStore, blocks: frozenset[str]) -> list[Published]:
        names = blocks | {entry.key for entry in store.entries(POINTERS)}
        with self._lock:
            known, published = self._known
        if names != known:
            published = Catalog(store).published()
            with self._lock:
                self._known = (names, published)
        return published

    def damaged(self) -> tuple[str, ...]:
        """Why pointers of published values cannot be read, with the remedy; each that is damaged is read.

        Raises:
            StoreError: The store has no owner that answers.
        """
        return tuple(Catalog(self.joined()).damaged(self.published()).values())

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            if self._joined is not None:
                self._joined.close()
                self._joined = None

    def joined(self) -> TieredStore:
        """The store, as a client that stays open.

        Raises:
            StoreError: It has no owner that answers.
        """
        with self._lock:
            if self._joined is None:
                self._joined = join_store(self._directory, timeout_seconds=self._timeout)
            return self._joined


def _continues(before: TierSample, now: TierSample) -> bool:
    """Whether the counters are the same owner's: it has not changed, has the same tiers, and counted nothing back."""
    return (
        before.owner == now.owner
        and before.states.keys() == now.states.keys()
        and all(
            earlier <= later
            for tier in now.states
            for earlier, later in zip(_counters(before.states[tier]), _counters(now.states[tier]), strict=True)
        )
    )


def _counters(state: TierState) -> tuple[float, ...]:
    """What only grows while an owner has the store."""
    return (
        state.gets,
        state.get_seconds or 0.0,
        state.puts,
        state.deletes,
        state.promotions,
        state.demotions,
        state.bytes_in,
    )


def stored_values(store: TieredStore, published: Iterable[Published]) -> tuple[StoredValue, ...]:
    """The published values with the tiers of their blocks."""
    blocks = {entry.key: entry for entry in store.entries(VALUES)}
    return tuple(_stored(each, blocks) for each in published)


def _rates(before: TierSample, after: TierSample) -> TierRates:
    def grown(count: Callable[[TierState], int], *tiers: Tier) -> int:
        return sum(count(after.states[tier]) - count(before.states[tier]) for tier in tiers or after.states)

    gets = grown(lambda state: state.gets)
    fast = [tier for tier in after.states if tier is not Tier.L3]
    return TierRates(
        taken_at=after.taken_at,
        gets=gets,
        hit_ratio=grown(lambda state: state.gets, *fast) / gets if gets and fast else None,
        promotions=grown(lambda state: state.promotions),
        demotions=grown(lambda state: state.demotions),
        bytes_moved=grown(lambda state: state.bytes_in),
        seconds=after.at - before.at,
    )


def _stored(published: Published, blocks: Mapping[str, Entry]) -> StoredValue:
    sizes: dict[Tier, int] = {}
    for key in published.keys:
        if key in blocks:
            sizes[blocks[key].tier] = sizes.get(blocks[key].tier, 0) + blocks[key].bytes
    tier_bytes = {tier: sizes[tier] for tier in Tier if tier in sizes}
    published_at = datetime.fromisoformat(published.created_at).astimezone(UTC)
    return StoredValue(published.name, published.partition, published.rows, tier_bytes, published_at)


def _difference(before: float | None, now: float | None) -> float | None:
    return None if before is None or now is None else max(0.0, now - before)
