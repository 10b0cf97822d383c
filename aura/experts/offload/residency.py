"""Modes: which experts are in fast memory, and when they are fetched.

Belongs here: one class a mode, each the `Source` of all layers. Does not: the kernel (`kernel`), moves (`shelf`), what
is expected (`forecast`), the thread and whether it pays (`ahead`).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from aura.experts.offload.shelf import Shelf
from aura.experts.offload.store import weights_of
from aura.tiers.records import Tier

if TYPE_CHECKING:
    import torch

    from aura.experts.offload.kernel import Weights

_clock = time.perf_counter


class Residency:
    """Gives out experts, layer by layer, in the order that the model computes them.

    Attributes:
        hits: Experts that were where they can be computed from when their layer was reached.
        misses: The others.
    """

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.hits = 0
        self.misses = 0

    def begin(self) -> None:
        """A request begins."""
        self.shelf.refresh()

    def each(
        self, layer: int, hidden: torch.Tensor, experts: Sequence[int], tokens: Sequence[int]
    ) -> Iterable[tuple[int, Weights]]:
        """The weights of a layer's experts; see `Source`."""
        raise NotImplementedError

    def end(self) -> None:
        """The request is over."""

    def close(self) -> None:
        """Release what the mode has of its own."""

    def _given(self, layer: int, expert: int) -> tuple[int, Weights]:
        part = self.shelf.read(self.shelf.number(layer, expert))
        return expert, weights_of(part, self.shelf.model.dtypes)

    def _count(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if self.shelf.tier(number) is Tier.L3:
                self.misses += 1
            else:
                self.hits += 1


class InPlace(Residency):
    """Every expert is used where it is, as the store's own layer places them."""

    def each(
        self, layer: int, hidden: torch.Tensor, experts: Sequence[int], tokens: Sequence[int]
    ) -> Iterator[tuple[int, Weights]]:
        """As `Residency.each`."""
        del hidden, tokens
        for expert in experts:
            self._count([self.shelf.number(layer, expert)])
            start = _clock()
            given = self._given(layer, expert)
            self.shelf.traffic.waited_seconds += _clock() - start
            yield given


class Cold(InPlace):
    """Every expert is read from L3; what others have brought up goes back before it is used."""

    def each(
        self, layer: int, hidden: torch.Tensor, experts: Sequence[int], tokens: Sequence[int]
    ) -> Iterator[tuple[int, Weights]]:
        """As `Residency.each`."""
        numbers = [self.shelf.number(layer, expert) for expert in experts]
        above = [number for number in numbers if self.shelf.tier(number) is not Tier.L3]
        if above:
            self.shelf.place(above, Tier.L3)
        yield from super().each(layer, hidden, experts, tokens)


class Lru(Residency):
    """Every expert is brought to fast memory before it is used, in place of those that were used longest ago."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self._used: OrderedDict[int, None] = OrderedDict()
        self._layer = shelf.model.layers

    def begin(self) -> None:
        """As `Residency.begin`; others may have moved some experts."""
        super().begin()
        self._follow()
        self.shelf.fit(np.array(list(self._used), dtype=np.int64))
        self._follow()

    def _follow(self) -> None:
        held = set(self.shelf.held.nonzero()[0].tolist())
        for number in list(self._used):
            if number not in held:
                del self._used[number]
        for number in sorted(held - self._used.keys()):
            self._used[number] = None

    def each(
        self, layer: int, hidden: torch.Tensor, experts: Sequence[int], tokens: Sequence[int]
    ) -> Iterator[tuple[int, Weights]]:
        """As `Residency.each`."""
        del hidden, tokens
        if layer <= self._layer and self.shelf.own:
            self.begin()
        self._layer = layer
        for expert in experts:
            number = self.shelf.number(layer, expert)
            start = _clock()
            if self.shelf.tier(number) is self.shelf.fast:
                self.hits += 1
                self._used[number] = None  # others may have moved it here
                self._used.move_to_end(number)
            else:
                self.misses += 1
                self._bring(number)
            given = self._given(layer, expert)
            self.shelf.traffic.waited_seconds += _clock() - start
            yield given

    def _bring(self, number: int) -> None:
        shelf = self.shelf
        self._used.pop(number, None)
        lacking, leaving = shelf.lacking(number), []
        while lacking > 0 and self._used:
            other, _ = self._used.popitem(last=False)
            leaving.append(other)
            lacking -= int(shelf.sizes[other])
        if lacking <= 0 and shelf.exchange(number, leaving):
            self._used[number] = None
