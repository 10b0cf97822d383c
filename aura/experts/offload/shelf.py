"""The experts of one model on the tiers: where each is, and moving them within a budget.

Belongs here: numbers for keys, bytes in fast memory, the exchange of some experts for another. Does not: which
(`residency`).
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aura.experts.offload.errors import OffloadError
from aura.experts.offload.store import ExpertModel, model_key
from aura.tiers.local import LocalStore
from aura.tiers.records import Tier
from aura.tiers.store import TieredStore
from aura.tiers.values import Part


@dataclass(slots=True)
class Traffic:
    """What was read and moved.

    Attributes:
        reads: By tier, experts that were used from there without waiting for a move; in L3 each is a copy.
        bytes_read: Bytes copied: moved into fast memory, and read from L3 in passing.
        moved: Experts that were moved into fast memory.
        waited_seconds: Seconds that the computation waited for experts.
    """

    reads: dict[Tier, int]
    bytes_read: int = 0
    moved: int = 0
    waited_seconds: float = 0.0


class Shelf:
    """Where the experts of a model are. Numbers count them from the first of the first layer. Thread-safe.

    Attributes:
        own: Whether this process owns the store, and so knows at any time where everything is.
        fast: The tier whose bytes are the budget.
        slow: Where an expert goes that makes room.
        keys: By number.
        sizes: int64[n], bytes of each object.
        layer_of: int64[n], the layer of each.
        first: By layer, the number of its first expert.
        budget_bytes: Bytes that the model may take of the fast tier.
        traffic: Counted since `begin`.
    """

    def __init__(self, store: TieredStore, model: ExpertModel, budget_bytes: int | None) -> None:
        """Look where everything is.

        Raises:
            OffloadError: The store has no fast tier, or lacks an expert.
        """
        self.store = store
        self.model = model
        states = {state.tier: state for state in store.tiers()}
        self.own = isinstance(store, LocalStore)
        # What is in the process memory of another owner comes as a copy; its shared memory can be viewed.
        order = [Tier.L1, Tier.L2] if self.own or Tier.L2 not in states else [Tier.L2]
        fast = [tier for tier in order if tier in states]
        if not fast:
            raise OffloadError("the store has no fast tier; give it process_bytes or arena_bytes (`aura settings`)")
        self.fast, self.slow = fast[0], fast[1] if len(fast) > 1 else Tier.L3
        capacity = states[self.fast].capacity_bytes or 0
        self.budget_bytes = capacity if budget_bytes is None else min(capacity, budget_bytes)
        self.keys = model.keys
        self.first = np.concatenate([[0], np.cumsum(model.experts)]).tolist()
        self.layer_of = np.repeat(np.arange(model.layers), model.experts)
        sizes = {entry.key: entry.bytes for entry in store.entries(f"{model_key(model.name)}/")}
        missing = [key for key in self.keys if key not in sizes]
        if missing:
            raise OffloadError(f"the store lacks {missing[0]} and {len(missing) - 1} more; put the model in again")
        self.sizes = np.array([sizes[key] for key in self.keys], dtype=np.int64)
        self.traffic = Traffic(dict.fromkeys(Tier, 0))
        self._records = store.records if isinstance(store, LocalStore) else None
        self._lock = threading.Lock()
        self._tiers: list[Tier] = []
        self.held = np.zeros(len(self.keys), dtype=np.bool_)
        self.refresh()

    def number(self, layer: int, expert: int) -> int:
        """The number of an expert."""
        return int(self.first[layer]) + expert

    def refresh(self) -> None:
        """Look again where everything is: others may have moved it."""
        listed: dict[str, Tier] = {}
        if self._records is None:
            listed = {entry.key: entry.tier for entry in self.store.entries(f"{model_key(self.model.name)}/")}
        with self._lock:  # what an exchange has moved is not told as it was before
            if self._records is None:
                self._tiers = [listed.get(key, Tier.L3) for key in self.keys]
            else:
                self._tiers = [self.tier(number) for number in range(len(self.keys))]
            self.held = np.array([tier is self.fast for tier in self._tiers], dtype=np.bool_)

    def tier(self, number: int) -> Tier:
        """Where an expert is: as its owner knows, or in another process as it was when last looked at."""
        if self._records is not None:
            record = self._records.get(self.keys[number])
            return Tier.L3 if record is None else record.tier
        return self._tiers[number]

    def used_bytes(self) -> int:
        """Bytes that the model takes of the fast tier."""
        return int(self.sizes[self.held].sum())

    def read(self, number: int) -> Part:
        """The object, a view of it where it is in memory; an access that the store logs."""
        tier = self.tier(number)
        part = self.store.get(self.keys[number])
        with self._lock:  # an exchange by another thread counts too
            self.traffic.reads[tier] += 1
            if tier is Tier.L3:
                self.traffic.bytes_read += int(self.sizes[number])
        return part

    def lacking(self, number: int) -> int:
        """Bytes that have to leave the fast tier before an expert may come."""
        return self.used_bytes() + int(self.sizes[number]) - self.budget_bytes

    def exchange(self, number: int, leaving: Collection[int]) -> bool:
        """Bring an expert to the fast tier in place of others; whether it is there afterwards."""
        targets = {self.keys[other]: self.slow for other in leaving}
        report = self.store.move({**targets, self.keys[number]: self.fast})
        refused = {key for key, _ in report.refused}
        if refused & targets.keys():  # the slow tier is full: what left falls further, and the expert comes then
            falls = dict.fromkeys(refused & targets.keys(), Tier.L3)
            report = self.store.move({**falls, self.keys[number]: self.fast})
            refused = {key for key, _ in report.refused}
        came = self.keys[number] not in refused
        with self._lock:
            for other in leaving:
                self._tiers[other] = Tier.L3 if self.keys[other] in refused else self.slow
            self.held[list(leaving)] = False
            if came:
                self.held[number] = True
                self._tiers[number] = self.fast
                self.traffic.moved += 1
                self.traffic.bytes_read += int(self.sizes[number])
        return came

    def fit(self, order: NDArray[np.int64] | None = None) -> None:
        """Give back what the model takes of the fast tier beyond its budget.

        Args:
            order: int64[n], numbers, those first that leave first; None: from the end of the model on.
        """
        beyond = self.used_bytes() - self.budget_bytes
        if beyond <= 0:
            return
        order = np.arange(len(self.keys))[::-1] if order is None else order
        held = order[self.held[order]]
        leaving = held[: int(np.searchsorted(np.cumsum(self.sizes[held]), beyond)) + 1]
        report = self.store.move({self.keys[number]: self.slow for number in leaving})
        falls = {key: Tier.L3 for key, _ in report.refused}  # the slow tier is full
        if falls and self.slow is not Tier.L3:
            self.store.move(falls)
        self.refresh()

    def place(self, numbers: Sequence[int], tier: Tier) -> None:
        """Bring experts to a tier, as far as there is room."""
        self.store.move({self.keys[number]: tier for number in numbers})
        self.refresh()
