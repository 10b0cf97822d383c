"""The planner's placement with prefetch: what is used where it is, what is exchanged, and what is fetched ahead.

Belongs here: the mode `planned`. Does not: the placement over the long run (`aura.tiers.planning`), which it begins
with.

Experts in the slow tier's shared memory are computed from where they are; moving them first would cost more than it
gains. What is in L3 has to be copied anyway, so it takes a place in fast memory if the one that would wait longest for
its next use (`waits`) leaves it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from aura.experts.offload.ahead import Loader, Ways
from aura.experts.offload.forecast import Floats, TransitionForecast
from aura.experts.offload.residency import Residency
from aura.experts.offload.shelf import Shelf
from aura.experts.offload.waits import Waits
from aura.tiers.records import Tier

if TYPE_CHECKING:
    import torch

    from aura.experts.offload.kernel import Weights

INLINE, BESIDE, TRANSITIONS, GATE = "inline", "beside", "transitions", "gate"
"""Ways: fetch when it is needed; this layer's while others of it are computed; also the next layer's, by the transition
forecast or by the next layer's gate, given what this layer is given ("speculative gating", arXiv 2312.17238)."""
LEAST_CHANCE = 0.3
"""Chance of being used from which an expert is fetched ahead."""
AHEAD_SHARE = 0.25
"""Of the experts that fast memory holds, those that may be fetched ahead for one layer, at most."""

Gate = Callable[["torch.Tensor"], Sequence[int] | None]
"""The experts that a layer's gate chooses, or None where it does not say."""

_clock = time.perf_counter


class Planned(Residency):
    """Fetches what is missing beside the computation, and ahead of it, as long as that pays.

    Attributes:
        decoding: The ways of a step of one token.
        reading: The ways of a step of many tokens, by seconds a token.
        useful: Experts that were fetched ahead and used in the layer that they were fetched for.
        useless: Those that were not.
    """

    def __init__(self, shelf: Shelf, transitions: TransitionForecast, gates: Sequence[Gate | None]) -> None:
        super().__init__(shelf)
        self._transitions = transitions
        self._gates = gates
        ways = [INLINE, BESIDE, TRANSITIONS, *([GATE] if any(gates) else [])]
        self.decoding = Ways(ways)
        self.reading = Ways([INLINE, BESIDE, TRANSITIONS], block=1)
        self.useful = 0
        self.useless = 0
        self._loader = Loader(self._fetch)
        self._choosing = threading.Lock()
        self._waits = Waits(shelf.model.experts)
        self._now = shelf.model.layers
        self._kept = np.zeros(len(shelf.keys), dtype=np.bool_)
        self._ahead: set[int] = set()
        self._before: list[int] = []
        self._step_began: float | None = None
        self._step_tokens = 0

    def expect(self, chances: Floats | None) -> None:
        """Tell how often each expert is used for a token of the request that begins, float64[layers, E]."""
        if chances is not None:
            self._waits.expect(chances)

    def begin(self) -> None:
        """As `Residency.begin`."""
        super().begin()
        self._fit()

    def each(
        self, layer: int, hidden: torch.Tensor, experts: Sequence[int], tokens: Sequence[int]
    ) -> Iterator[tuple[int, Weights]]:
        """As `Residency.each`."""
        count = hidden.shape[0]
        ways = self._step(layer, count)
        shelf = self.shelf
        numbers = {expert: shelf.number(layer, expert) for expert in experts}
        self._now = layer
        self._settle(layer, set(numbers.values()))
        here = [expert for expert in experts if shelf.tier(numbers[expert]) is not Tier.L3]
        missing = [expert for expert in experts if shelf.tier(numbers[expert]) is Tier.L3]
        self.hits += len(here)
        self.misses += len(missing)
        self._learn(layer, count, experts, tokens)
        kept = np.zeros_like(self._kept)
        kept[[*numbers.values(), *self._ahead]] = True
        self._kept = kept
        if ways.current != INLINE:
            self._loader.need(numbers[expert] for expert in missing)
            if ways.current != BESIDE and layer + 1 < shelf.model.layers:
                self._look_ahead(layer + 1, hidden, experts, ways.current)
        for expert in (*here, *missing):
            start = _clock()
            number = numbers[expert]
            if shelf.tier(number) is Tier.L3 and (ways.current == INLINE or self._loader.take(number)):
                self._fetch(number)
            given = self._given(layer, expert)
            shelf.traffic.waited_seconds += _clock() - start
            yield given
        self._before = list(experts) if count == 1 else []

    def end(self) -> None:
        """As `Residency.end`."""
        self._loader.idle()
        self._settle(self.shelf.model.layers, set())
        self._step_began = None
        self._now = self.shelf.model.layers
        self._before = []

    def close(self) -> None:
        """As `Residency.close`."""
        self._loader.close()

    def _step(self, layer: int, count: int) -> Ways:
        """The ways that this step chooses from; where layers begin again, the last step is over."""
        if layer <= self._now:
            now = _clock()
            if self._step_began is not None:
                ways = self.decoding if self._step_tokens == 1 else self.reading
                ways.step((now - self._step_began) / self._step_tokens)
            self._step_began, self._step_tokens = now, count
            if self.shelf.own:
                self.shelf.refresh()
                self._fit()
        return self.decoding if self._step_tokens == 1 else self.reading

    def _learn(self, layer: int, count: int, experts: Sequence[int], tokens: Sequence[int]) -> None:
        if count == 1 and layer and self._before:
            self._transitions.note(layer, self._before, experts)
        self._waits.learn(layer, count, experts, tokens)

    def _settle(self, layer: int, used: set[int]) -> None:
        """What was fetched ahead for this layer was of use, or not; what was not fetched in time is neither."""
        of_layer = {number for number in self._ahead if self.shelf.layer_of[number] <= layer}
        fetched = {number for number in of_layer if self.shelf.tier(number) is not Tier.L3}
        self.useful += len(fetched & used)
        self.useless += len(fetched - used)
        self._ahead = self._ahead - of_layer

    def _look_ahead(self, layer: int, hidden: torch.Tensor, experts: Sequence[int], way: str) -> None:
        """Have the experts fetched that the next layer will use, by all that is known."""
        shelf = self.shelf
        count = hidden.shape[0]
        gate = self._gates[layer] if way == GATE else None
        chosen = None if gate is None else gate(hidden)
        if chosen is None:
            chances = self._waits.chances(layer)
            if count == 1:
                chances = self._transitions.chances(layer, experts, chances)
            else:
                chances = 1 - (1 - np.minimum(chances, 1.0)) ** count
            likely = np.flatnonzero(chances >= LEAST_CHANCE)
            chosen = likely[np.argsort(-chances[likely], kind="stable")].tolist()
        most = max(1, int(AHEAD_SHARE * shelf.held.sum()))
        numbers = [shelf.number(layer, expert) for expert in chosen if expert < shelf.model.experts[layer]]
        wanted = [number for number in numbers if shelf.tier(number) is Tier.L3][:most]
        self._ahead |= set(wanted)
        self._kept[wanted] = True
        self._loader.want(wanted)

    def _fetch(self, number: int) -> None:
        """Bring an expert to fast memory if another one leaves that is not needed now; by either thread."""
        shelf = self.shelf
        with self._choosing:
            if shelf.tier(number) is not Tier.L3:
                return
            leaving = self._victims(number)
            if leaving is not None:
                shelf.exchange(number, leaving)

    def _victims(self, number: int) -> list[int] | None:
        """Those that wait longest for their next use, as many as have to leave; None if they do not suffice."""
        shelf = self.shelf
        return self._waits.victims(self._now, shelf.held & ~self._kept, shelf.sizes, shelf.lacking(number))

    def _fit(self) -> None:
        """Keep the budget if others have brought experts to fast memory: those leave that wait longest."""
        with self._choosing:
            self.shelf.fit(np.argsort(-self._waits.of_all(self._now), kind="stable"))
