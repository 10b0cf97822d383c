"""What the owner of a store does in the background: folds counts, moves what was asked for, makes room.

Belongs here: the thread, the queue of moves and its cap on bandwidth, who is demoted when a tier is full.
Does not: the steps of a move (`moving`), which object belongs where (`placement`, `online`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aura.tiers.allocation import give_back
from aura.tiers.copies import DeviceTier, ProcessTier
from aura.tiers.errors import CapacityError, StoreError
from aura.tiers.moving import held_tier, move
from aura.tiers.records import Steered, Tier
from aura.tiers.steering import Steering

if TYPE_CHECKING:
    from aura.tiers.local import LocalStore

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.1
"""Between two rounds, unless somebody asks."""
MEASURE_AGAIN_SECONDS = 30.0
"""After which the tiers are measured again, if one could not be; then after twice as long, and so on."""
IDLE_SECONDS = 0.5
"""The same while nothing is read."""


class Bucket:
    """A token bucket: bytes that may be moved now, at most one second's worth (0: no cap)."""

    def __init__(self, bytes_per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = bytes_per_second
        self._clock = clock
        self._left = float(bytes_per_second)
        self._filled = clock()

    def room(self) -> bool:
        """Whether anything may be moved now."""
        return self.left > 0

    @property
    def left(self) -> float:
        """Bytes that may be moved now; not above zero after a large object."""
        now = self._clock()
        self._left = min(float(self._rate), self._left + (now - self._filled) * self._rate)
        self._filled = now
        return self._left if self._rate else float("inf")

    def take(self, size: int) -> None:
        """Count what was moved; a large object may go beyond what was left, and the next waits the longer."""
        self._left -= size


class Upkeep:
    """The background thread of one owner. `ask` is for any thread."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._asked: dict[str, Tier] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._bucket = Bucket(0)
        self._position = 0
        self._idle = False
        self._online = False
        self._steering: Steering | None = None
        self._measure_at = 0.0
        self._measure_after = MEASURE_AGAIN_SECONDS
        self._last_read = np.zeros(0, dtype=np.int64)

    def start(self, bytes_per_second: int, *, online: bool) -> None:
        """Begin, with a cap on the bytes that are moved in the background (0: none), with the online layer or not."""
        self._bucket = Bucket(bytes_per_second)
        self._online = online and bool(self._store.fast)
        self._thread = threading.Thread(target=self._run, name="aura-store-upkeep", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what was asked for and not begun is left undone."""
        self._stopped.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def ask(self, targets: Mapping[str, Tier]) -> None:
        """Queue moves; the latest target of a key counts."""
        if targets:
            with self._lock:
                self._asked.update(targets)
            self._wake.set()

    def round(self) -> None:
        """One round of everything."""
        self._store.fold()
        ids = self._listen()
        self._mind_memory()
        self._restore_pins()
        fetched = self._fetch()
        if self._online:
            self._steer(ids)
        self._idle = not (len(ids) or fetched)

    def steered(self) -> Steered | None:
        """See `TieredStore.steered`."""
        return None if self._steering is None else self._steering.state()

    def coldest(self, tier: Tier) -> list[str]:
        """Unpinned objects of a tier, those first that were not read for longest."""
        with self._store.lock:
            held = [record for record in self._store.records.values() if record.tier is tier]
        unpinned = [record for record in held if record.key not in self._store.pins]
        return [record.key for record in sorted(unpinned, key=lambda record: self._read_at(record.id))]

    def _run(self) -> None:
        while True:
            self._wake.wait(IDLE_SECONDS if self._idle else PAUSE_SECONDS)
            self._wake.clear()
            if self._stopped.is_set():
                return
            try:
                self.round()
            except StoreError as error:
                if not self._stopped.is_set():
                    logger.warning("the upkeep of %s failed and is tried again: %s", self._store.directory, error)
            except Exception:
                # A mistake in what only makes the store faster must not end what keeps it within its memory.
                logger.exception("the upkeep of %s failed and is tried again", self._store.directory)

    def relieve(self, tier: Tier, size: int) -> int:
        """See `TieredStore.relieve`."""
        held = held_tier(self._store, tier)
        if isinstance(held, ProcessTier):
            freed = self.free(tier, size)
            with self._store.lock:
                held.shrink()
            give_back()
            return freed
        return self._shrink_device(held, size) if isinstance(held, DeviceTier) else 0

    def _shrink_device(self, held: DeviceTier, size: int) -> int:
        """Give at least half of L0 back to the device; what was read last comes back in the background."""
        store = self._store
        warmest = self.coldest(Tier.L0)[::-1]
        with store.lock:
            store.check_open()
            store.copies_ended.wait_for(lambda: store.copies_under_way == 0)
            before = held.capacity_bytes
            for key, record in list(store.records.items()):
                if record.tier is Tier.L0:
                    store.drop_copy(key)
            try:
                held.resize(max(0, min(before // 2, before - size)))
            except CapacityError as error:  # others took what was given back; all of it is theirs then
                logger.warning("%s", error)
            freed = before - held.capacity_bytes
        self.ask(dict.fromkeys(reversed(warmest), Tier.L0) | {k: t for k, t in store.pins.items() if t is Tier.L0})
        return freed

    def _mind_memory(self) -> None:
        """Give memory back while it is short: first what was not read for longest."""
        for held in self._store.fast.values():
            if isinstance(held, ProcessTier):
                self._mind_process(held)
            elif isinstance(held, DeviceTier) and held.capacity_bytes and held.tight:
                freed = self._shrink_device(held, 0)
                logger.warning("the device is short of memory: L0 gave %d bytes back", freed)

    def _mind_process(self, held: ProcessTier) -> None:
        with self._store.lock:
            tight = held.memory.excess()
            if tight is None and held.shrunk:
                held.relax()
        if tight is None:
            return
        freed = self.free(Tier.L1, tight.excess_bytes)
        with self._store.lock:
            held.shrink()
        if freed:
            give_back()
            logger.warning(
                "%s is short of memory (%d of %d bytes in use): %d bytes of L1 were demoted to L3",
                *(tight.where, tight.used_bytes, tight.limit_bytes, freed),
            )

    def _steer(self, ids: NDArray[np.int32]) -> None:
        now = time.monotonic()
        if self._steering is None or (self._steering.incomplete and now > self._measure_at):
            self._steering = Steering(self._store)
            self._measure_at, self._measure_after = now + self._measure_after, 2 * self._measure_after
        moves = self._steering.moves(ids, self._bucket.left)
        if moves:
            report = move(self._store, moves)
            self._bucket.take(report.bytes_moved)
            self._steering.done(moves, report)

    def _listen(self) -> NDArray[np.int32]:
        before = self._position
        ids, self._position = self._store.accesses_after(before)
        if len(ids):
            self._remember(ids, self._position)
        return ids

    def _remember(self, ids: NDArray[np.int32], position: int) -> None:
        if ids.max() >= len(self._last_read):
            grown = np.zeros(max(2 * len(self._last_read), int(ids.max()) + 1), dtype=np.int64)
            grown[: len(self._last_read)] = self._last_read
            self._last_read = grown
        self._last_read[ids] = np.arange(position - len(ids), position) + 1

    def _read_at(self, number: int) -> int:
        return int(self._last_read[number]) if number < len(self._last_read) else 0

    def _restore_pins(self) -> None:
        """Ask for what is pinned and not in its tier: it was written, or its copy was damaged."""
        with self._store.lock:
            found = {key: (tier, self._store.records.get(key)) for key, tier in self._store.pins.items()}
        with self._lock:  # without waking the thread again: what does not fit is tried once a round
            self._asked.update(
                {key: tier for key, (tier, record) in found.items() if record is not None and record.tier > tier}
            )

    def _fetch(self) -> int:
        """Bring up what was asked for, as far as the cap allows; how many were looked at."""
        fetched: set[str] = set()
        coldest: dict[Tier, deque[str]] = {}
        while self._bucket.room() and not self._stopped.is_set() and (asked := self._next_asked()):
            key, tier = asked
            fetched.add(key)
            record = self._store.records.get(key)
            if record is None or record.tier <= tier or tier not in self._store.fast:
                continue
            if tier not in coldest:
                coldest[tier] = deque(self.coldest(tier))
            if not self._make_room(tier, record.header.length, coldest[tier], fetched):
                logger.debug("%r does not fit into %s, whatever else is demoted", key, tier)
                continue
            report = move(self._store, {key: tier})
            self._bucket.take(report.bytes_moved)
            for _, reason in report.refused:
                logger.debug("%r was not moved to %s: %s", key, tier, reason)
        return len(fetched)

    def _next_asked(self) -> tuple[str, Tier] | None:
        with self._lock:
            key = next(iter(self._asked), None)
            return None if key is None else (key, self._asked.pop(key))

    def _make_room(self, tier: Tier, length: int, coldest: deque[str], keep: set[str]) -> bool:
        """Demote what was not read for longest until a payload fits; nothing where that would not help."""
        store, held = self._store, self._store.fast[tier]
        with store.lock:
            pinned = (store.records.get(key) for key in store.pins)
            stays = sum(record.header.length for record in pinned if record is not None and record.tier is tier)
        if length > held.capacity_bytes - stays:
            return False
        while True:
            with store.lock:
                if held.fits(length):
                    return True
            falling, freed = {}, 0
            while coldest and freed < max(length, 1):
                record = store.records.get(coldest.popleft())
                if record is not None and record.tier is tier and record.key not in keep:
                    falling[record.key] = Tier.L3
                    freed += record.header.length
            if not falling:
                return False
            move(store, falling)

    def free(self, tier: Tier, size: int) -> int:
        """Demote the coldest unpinned objects of a tier to L3 until `size` bytes are free; the bytes that were."""
        freed, falling = 0, {}
        for key in self.coldest(tier):
            record = self._store.records.get(key)
            if freed >= size:
                break
            if record is not None:
                falling[key] = Tier.L3
                freed += record.header.length
        move(self._store, falling)
        return freed
