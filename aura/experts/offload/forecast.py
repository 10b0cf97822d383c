"""Which experts will be used: after those of the layer before, and by the kind of prompt. Learned from routing.

Belongs here: counts and what they promise. Does not: fetching (`residency`), the routing table
(`aura.experts.routing`), whose transitions can be where a forecast begins.

That experts follow each other from layer to layer is used for prefetching by Mixtral-offloading (arXiv 2312.17238) and
MoE-Infinity (arXiv 2401.14361), from which also comes that a request is known by its matrix of activations.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PRIOR_TOKENS = 16.0
"""Tokens that what is known of the past counts for, against what the request itself shows."""
REQUESTS_KEPT = 512
"""Latest requests that the kinds of prompts are learned from."""
FEWEST_REQUESTS = 4
"""Requests below which all prompts are of one kind."""
OWN_REQUESTS = 2.0
"""Requests of its own after which a kind counts as much as all requests together."""


def transition_counts(transitions: pa.Table, experts: Sequence[int]) -> Floats:
    """The counts of a routing table's transitions, float64[layers - 1, E, E], for a forecast to begin with.

    Args:
        transitions: Columns layer, expert, next_expert, pairs; as `aura.experts.routing.table` has them.
        experts: Number of experts in each layer of the model.

    Raises:
        ValueError: The table names layers or experts that the model lacks.
    """
    found = np.zeros((max(0, len(experts) - 1), max(experts), max(experts)))
    rows = tuple(transitions[name].to_numpy() for name in ("layer", "expert", "next_expert"))
    if len(rows[0]) and any(rows[axis].max() >= found.shape[axis] for axis in range(3)):
        highest = tuple(int(column.max()) for column in rows)
        raise ValueError(f"transitions go up to layer, expert and next expert {highest}; the model has {list(experts)}")
    found[rows] = transitions["pairs"].to_numpy()
    return found


class TransitionForecast:
    """P(expert in the next layer | experts in this one), from counts.

    Attributes:
        counts: float64[layers - 1, E, E], tokens that used an expert and, one layer on, another one.
        used: float64[layers - 1, E], tokens that used the first of them.
    """

    def __init__(self, experts: Sequence[int], choices: int, counts: Floats | None = None) -> None:
        """Begin with nothing, or with the transitions of a routing table.

        Args:
            experts: Number of experts in each layer.
            choices: Experts that a token uses in a layer, k.
            counts: As the attribute; None begins with nothing.

        Raises:
            ValueError: The counts have another shape.
        """
        expected = (max(0, len(experts) - 1), max(experts), max(experts))
        if counts is not None and counts.shape != expected:
            raise ValueError(f"transitions have the shape {counts.shape}; the model's are {expected}")
        self.counts = np.zeros(expected) if counts is None else counts.astype(np.float64)
        self.used: Floats = self.counts.sum(axis=2) / choices

    def note(self, layer: int, before: Sequence[int], now: Sequence[int]) -> None:
        """One token used `before` in the layer before `layer`, and `now` in it."""
        self.counts[layer - 1][np.ix_(before, now)] += 1
        self.used[layer - 1][list(before)] += 1

    def chances(self, layer: int, before: Sequence[int], otherwise: Floats) -> Floats:
        """float64[E], the chance of each expert of `layer` after `before` in the layer before.

        Args:
            layer: Which one; 1 is the first that has one before it.
            before: Experts that were used there.
            otherwise: float64[E], what is expected of each without knowing them.
        """
        chosen = list(before)
        counts, used = self.counts[layer - 1][chosen], self.used[layer - 1][chosen, None]
        found: Floats = ((counts + PRIOR_TOKENS * otherwise) / (used + PRIOR_TOKENS)).mean(axis=0)
        return found


class RequestForecast:
    """How often each expert is used for a token of a request, by the kind of its prompt.

    Kinds are clusters of prompts (k-means, seeded) by the mean of the embeddings of their tokens. They are found anew
    whenever the number of requests has doubled.
    """

    def __init__(self, choices: int, *, kinds: int = 8, seed: int = 0) -> None:
        """Begin with nothing.

        Args:
            choices: Experts that a token uses in a layer, k.
            kinds: Kinds of prompts, at most.
            seed: Of k-means.

        Raises:
            ValueError: There is less than one kind.
        """
        if kinds < 1:
            raise ValueError(f"kinds is {kinds}: there is at least one kind of prompt")
        self._choices = choices
        self._kinds = kinds
        self._seed = seed
        self._prompts: deque[NDArray[np.float32]] = deque(maxlen=REQUESTS_KEPT)
        self._shares: deque[NDArray[np.float32]] = deque(maxlen=REQUESTS_KEPT)
        self._centers: NDArray[np.float32] | None = None
        self._labels: list[int] = []
        self._past: list[NDArray[np.float32]] = []
        self._seen = 0
        self._learn_at = FEWEST_REQUESTS

    @property
    def kinds(self) -> int:
        """Kinds that are told apart at present."""
        return 1 if self._centers is None else len(self._centers)

    def note(self, prompt: NDArray[np.float32], activations: NDArray[np.int64]) -> None:
        """A request is over.

        Args:
            prompt: float32[d], as for `kind`.
            activations: int64[layers, E], tokens that used each expert.
        """
        used = activations.sum(axis=1, keepdims=True)
        if not used.any():
            return
        if self._centers is not None and len(self._labels) == REQUESTS_KEPT:
            self._labels.pop(0)
        self._prompts.append(prompt.astype(np.float32))
        self._shares.append(self._shares_of(activations))
        if self._centers is not None:
            self._labels.append(self.kind(prompt))
        self._seen += 1
        if self._seen >= self._learn_at:
            self._learn_at = 2 * self._seen
            self._learn()

    def remember(self, activations: NDArray[np.int64]) -> None:
        """A request of the past, of whose prompt nothing is known, int64[layers, E]: it tells of all kinds alike."""
        if activations.any():
            self._past.append(self._shares_of(activations))

    def _shares_of(self, activations: NDArray[np.int64]) -> NDArray[np.float32]:
        used = activations.sum(axis=1, keepdims=True)
        found: NDArray[np.float32] = (self._choices * activations / np.maximum(used, 1)).astype(np.float32)
        return found

    def kind(self, prompt: NDArray[np.float32]) -> int:
        """The number of the kind of a prompt, float32[d]."""
        if self._centers is None:
            return 0
        return int(((self._centers - prompt) ** 2).sum(axis=1).argmin())

    def expected(self, kind: int) -> Floats | None:
        """float64[layers, E], the share of a request's tokens that use each expert; None before the first request."""
        if not (self._shares or self._past):
            return None
        everyone: Floats = np.stack([*self._past, *self._shares]).mean(axis=0, dtype=np.float64)
        own = np.flatnonzero(np.array(self._labels) == kind)
        if not len(own):
            return everyone
        weight = len(own) / (len(own) + OWN_REQUESTS)
        of_kind = np.stack([self._shares[place] for place in own]).mean(axis=0, dtype=np.float64)
        found: Floats = weight * of_kind + (1 - weight) * everyone
        return found

    def _learn(self) -> None:
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        prompts = np.stack(self._prompts)
        kinds = min(self._kinds, len(prompts) // 2, len(np.unique(prompts, axis=0)))
        if kinds < 2:
            return
        with threadpool_limits(1):  # threads that wait for each other would hold up the answer
            found = KMeans(n_clusters=kinds, n_init=4, random_state=self._seed).fit(prompts)
        self._centers, self._labels = found.cluster_centers_.astype(np.float32), found.labels_.tolist()
