"""How long each expert waits for its next use, and which leave fast memory by that.

Belongs here: the averages of what tokens used, and the choice of those that leave. Does not: moving them (`shelf`),
when (`planned`).

How long an expert waits is the rest of the cycle of layers, and one cycle for each token that is expected to pass
without it (SpecMD, arXiv 2602.03921). That is known from a short and a long moving average of what tokens used, as in
the tiers (ARMS, arXiv 2508.04417), and when a request begins from the kind of its prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aura.experts.offload.forecast import Floats
from aura.tiers.gaps import LONG, SHORT, SHORT_WEIGHT

KIND_WEIGHT = 0.5
"""Weight of what the kind of a prompt uses, against what was used last, when a request begins."""
LEAST = 1e-4
"""Chance of an expert that was never seen."""


class Waits:
    """The two averages of a model's experts. Numbers count experts from the first of the first layer."""

    def __init__(self, experts: Sequence[int]) -> None:
        """Begin with all alike.

        Args:
            experts: Number of experts in each layer.
        """
        self._layers, most = len(experts), max(experts)
        self._short: Floats = np.full((self._layers, most), 1.0 / most)
        self._long: Floats = self._short.copy()
        self._layer_of = np.repeat(np.arange(self._layers), experts)
        self._column = np.concatenate([np.arange(count) for count in experts])

    def expect(self, chances: Floats) -> None:
        """Tell how often each expert is used for a token of the request that begins, float64[layers, E]."""
        self._short += KIND_WEIGHT * (chances - self._short)
        self._long += KIND_WEIGHT * (chances - self._long)

    def learn(self, layer: int, count: int, experts: Sequence[int], tokens: Sequence[int]) -> None:
        """Of `count` tokens at once, so many used each of these experts of a layer."""
        shares = np.asarray(tokens) / count
        # Many tokens at once say what the text is like; in which order they used what is not known.
        rate = 1 - (1 - LONG) ** count
        for average, weight in ((self._short, SHORT if count == 1 else rate), (self._long, rate)):
            average[layer] *= 1 - weight
            average[layer, list(experts)] += weight * shares

    def chances(self, layer: int) -> Floats:
        """float64[E], the chance that the next token uses each expert of a layer."""
        found: Floats = SHORT_WEIGHT * self._short[layer] + (1 - SHORT_WEIGHT) * self._long[layer]
        return np.maximum(found, LEAST)

    def of_all(self, now: int) -> Floats:
        """float64[n], layers that pass until each expert is used again, the present one being `now`."""
        mean = SHORT_WEIGHT * self._short + (1 - SHORT_WEIGHT) * self._long
        chances = np.maximum(mean[self._layer_of, self._column], LEAST)
        found: Floats = (self._layer_of - now - 1) % self._layers + self._layers / chances
        return found

    def victims(
        self, now: int, can_leave: NDArray[np.bool_], sizes: NDArray[np.int64], lacking: int
    ) -> list[int] | None:
        """Those that wait longest, as many as have to leave.

        Args:
            now: The present layer.
            can_leave: bool[n], those to choose from.
            sizes: int64[n], bytes of each.
            lacking: Bytes that have to be had.

        Returns:
            Their numbers; None if all together do not suffice.
        """
        if lacking <= 0:
            return []
        wait = self.of_all(now)
        wait[~can_leave] = -1
        leaving = []
        while lacking > 0:
            other = int(wait.argmax())
            if wait[other] < 0:
                return None
            leaving.append(other)
            wait[other] = -1
            lacking -= int(sizes[other])
        return leaving
