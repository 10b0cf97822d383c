"""The online layer at work in an owner: what was read and done goes in, moves come out.

Belongs here: translating between the store's logs and the layer. Does not: deciding (`online`), or moving (`moving`).
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aura.tiers.calibration import DEAR, measured_costs
from aura.tiers.copies import ProcessTier
from aura.tiers.online.layer import OnlineLayer
from aura.tiers.records import MoveReport, Operation, Steered, Tier

if TYPE_CHECKING:
    from aura.tiers.local import LocalStore

logger = logging.getLogger(__name__)

TYPICAL_BYTES = 65536.0
"""Of an object, while the store is empty."""


class Steering:
    """One owner's online layer. Used by its upkeep alone, but for `state`.

    Attributes:
        incomplete: A tier could not be measured, or had less room than it may have, and should be measured again.
    """

    def __init__(self, store: LocalStore) -> None:
        """Measure the tiers, and begin with what they hold."""
        self._store = store
        costs = measured_costs(store)
        self._known = {cost.tier for cost in costs}
        process = store.fast.get(Tier.L1)
        shrunk = isinstance(process, ProcessTier) and process.shrunk
        self.incomplete = shrunk or any(cost.get_seconds >= DEAR for cost in costs)
        with store.lock:
            sizes = [record.header.length for record in store.records.values()]
        self._layer = OnlineLayer(costs, object_bytes=max(1.0, sum(sizes) / len(sizes)) if sizes else TYPICAL_BYTES)
        self._position = store.operations().total
        self._pinned: set[int] = set()
        self._warned: tuple[int, int] | None = None
        self._reads = 0
        self._seconds = 0.0
        with store.lock:
            held = [record for record in store.records.values() if record.tier is not Tier.L3]
        self._tell([record.id for record in held])

    def moves(self, ids: NDArray[np.int32], most_bytes: float) -> dict[str, Tier]:
        """What to move after these reads, in this order.

        Args:
            ids: int32[n], what was read since the last time, oldest first.
            most_bytes: Bytes that may be copied.
        """
        if not len(ids) and self._store.operations(self._position).total == self._position:
            return {}
        start = time.thread_time()
        self._catch_up()
        if len(ids):
            self._reads += len(ids)
            self._layer.observe(ids, self._sizes)
        moves = {self._store.keys[number]: tier for number, tier in self._layer.plan(most_bytes)}
        moves.pop("", None)
        self._warn()
        self._seconds += time.thread_time() - start
        return moves

    def done(self, moves: dict[str, Tier], report: MoveReport) -> None:
        """Learn what became of the moves: what was refused is not where the layer wanted it."""
        after = self._position + report.promoted + report.demoted
        if self._store.operations(after).total == after:
            self._position = after  # nobody else did anything meanwhile, and the layer knows of its own moves
        refused = {key for key, _ in report.refused}
        if refused:
            records = [self._store.records.get(key) for key in moves if key in refused]
            self._tell([record.id for record in records if record is not None])

    def state(self) -> Steered:
        """What the layer does at present."""
        return Steered(
            following=self._layer.following,
            switches=len(self._layer.switches),
            reads=self._reads,
            objects=self._layer.objects,
            seconds=self._seconds,
            short_of_cycle=self._layer.short_of_cycle,
        )

    def _catch_up(self) -> None:
        """Writes, deletes, pins, and moves by whomever."""
        done = self._store.operations(self._position)
        self._position = done.total
        deleted = done.rows[:, 1] == Operation.DELETE
        if deleted.any():
            self._layer.forget(done.rows[deleted, 0].astype(np.int32))
        self._tell(np.unique(done.rows[~deleted, 0]).tolist())
        with self._store.lock:
            pinned = {record.id for key in self._store.pins if (record := self._store.records.get(key)) is not None}
        fresh = list(pinned - self._pinned)
        self._tell(fresh)
        self._layer.pin(np.array(fresh, dtype=np.int32))
        self._layer.unpin(np.array(list(self._pinned - pinned), dtype=np.int32))
        self._pinned = pinned

    def _tell(self, ids: list[int]) -> None:
        """Where these objects are now. A tier that the layer does not use is as good as none."""
        store = self._store
        found = [store.records.get(store.keys[number]) for number in ids]
        records = [record for record in found if record is not None]
        if records:
            self._layer.placed(
                np.array([record.id for record in records], dtype=np.int32),
                [record.tier if record.tier in self._known else Tier.L3 for record in records],
                np.array([record.header.length for record in records], dtype=np.int64),
            )

    def _sizes(self, ids: NDArray[np.int32]) -> NDArray[np.int64]:
        """int64[n], bytes of each object; -1 for one that is gone."""
        store = self._store
        records = (store.records.get(store.keys[number]) for number in ids.tolist())
        return np.array([-1 if record is None else record.header.length for record in records], dtype=np.int64)

    def _warn(self) -> None:
        short = self._layer.short_of_cycle
        if short is not None and self._warned is None:
            logger.warning(
                "fast memory has %d bytes, and what is read in turn takes %d: least recently used would evict"
                " everything just before it is read again. Give the tiers larger budgets, or read in smaller turns.",
                *short,
            )
        self._warned = short
