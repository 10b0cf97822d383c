"""Counts of a routing, gathered batch by batch; memory does not grow with the number of tokens.

Belongs here: what is counted. Does not: what the counts say (`figures`), tables of them (`table`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, zip_longest

import numpy as np

from aura.experts.routing.batch import LayerRouting, RoutedBatch, Stack
from aura.experts.routing.errors import RoutedModelError
from aura.experts.routing.figures import overlap

VOCABULARY_BYTES = 64 << 20
"""What the counts by token id may take, over all layers. Ids that find no room are not counted: with `prefer` those are
the rare ones, without it the ones that come last."""

SAMPLE_BYTES = 64 << 20
"""What the choices of single tokens, which shuffles deal, may take: of all tokens, or of as many as fit."""

OTHER_TOKENS = "the earlier checkpoint reads other tokens than the model: saturation needs the same tokenizer in both"


@dataclass(frozen=True)
class LayerForm:
    """What is known of a sparse layer before anything runs.

    Attributes:
        name: Name of its block in the model.
        stack: "encoder" or "decoder".
        experts: Number of experts E.
        top_k: Choices per token k.
        scoring: How the router's logits become probabilities: "softmax", "sigmoid", ...
    """

    name: str
    stack: Stack
    experts: int
    top_k: int
    scoring: str


@dataclass(eq=False)
class LayerCounts:
    """The counts of one layer with E experts.

    Attributes:
        load: Assignments before capacity [E], int64.
        kept: Assignments after capacity [E], int64.
        probability: Sum of the router probabilities over all tokens [E], float64.
        gate: Sum of the router probabilities over the expert's own assignments [E], float64.
        weight: Sum of the weights over the expert's own assignments [E], float64; 0 for dropped ones.
        pairs: Tokens that chose both experts [E, E], int64, upper triangle.
        onwards: Pairs of an assignment here and one of the same token in the next layer of the stack [E, E'], int64;
            None in the last layer of a stack.
        vocabulary: Assignments by code of the token id [codes, E], int64.
        sample: Room for the choices of sampled tokens [m, k], uint16; see `RoutingTally.sample`.
        agreed: Assignments that the earlier checkpoint made too.
    """

    load: np.ndarray
    kept: np.ndarray
    probability: np.ndarray
    gate: np.ndarray
    weight: np.ndarray
    pairs: np.ndarray
    onwards: np.ndarray | None
    vocabulary: np.ndarray
    sample: np.ndarray
    agreed: int = 0


@dataclass(eq=False)
class _Vocabulary:
    """Codes of the token ids of one stack, given out as ids are first seen.

    Attributes:
        most: How many there are to give.
        codes: The code of each id from 0, -1 for none.
        used: How many have been given.
        sample: Room for the code of each sampled token [m], int64.
    """

    most: int
    sample: np.ndarray
    codes: np.ndarray = field(default_factory=lambda: np.full(0, -1, np.int64))
    used: int = 0

    def give(self, ids: np.ndarray) -> None:
        """Give codes to ids [n], each named once, as long as there are any."""
        missing = int(ids.max(initial=-1)) + 1 - len(self.codes)
        self.codes = np.concatenate([self.codes, np.full(max(missing, 0), -1, np.int64)])
        new = ids[self.codes[ids] < 0][: self.most - self.used]
        self.codes[new] = self.used + np.arange(len(new))
        self.used += len(new)

    def encode(self, tokens: np.ndarray) -> np.ndarray:
        """The code of each token [T]; -1 where there was none left."""
        self.give(_by_frequency(tokens))
        encoded: np.ndarray = self.codes[tokens]
        return encoded


def _by_frequency(tokens: np.ndarray) -> np.ndarray:
    """The ids that occur among tokens, the most frequent first and among equals the lowest."""
    ids, counts = np.unique(tokens, return_counts=True)
    ordered: np.ndarray = ids[np.argsort(-counts, kind="stable")]
    return ordered


class RoutingTally:
    """Counts the routing of `texts` texts through layers of these forms.

    Attributes:
        forms: The layers.
        layers: Their counts.
        items: Assignments of each text to the experts of all layers side by side [texts, sum of E], int32.
        item_tokens: Tokens of each text [texts], int64.
        tokens: Tokens so far.
        truncated: Texts whose end was cut off.
        most_ids: Token ids of a stack that are counted at most.
        compared: Whether an earlier checkpoint was compared.
    """

    def __init__(self, forms: Sequence[LayerForm], texts: int) -> None:
        self.forms = tuple(forms)
        sizes = [form.experts for form in forms]
        ends = np.cumsum(sizes).tolist()
        self.columns = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        self._most_sampled = SAMPLE_BYTES // sum(8 + 2 * form.top_k for form in forms)
        self._sampler = np.random.default_rng(0)
        self.layers = [self._counts(number) for number in range(len(forms))]
        self.items = np.zeros((texts, ends[-1]), np.int32)
        self.item_tokens = np.zeros(texts, np.int64)
        self.tokens = 0
        self.truncated = 0
        self.compared = False
        self.most_ids = VOCABULARY_BYTES // (8 * ends[-1])
        self._vocabularies = {
            form.stack: _Vocabulary(self.most_ids, np.zeros(self._most_sampled, np.int64)) for form in forms
        }

    def _counts(self, number: int) -> LayerCounts:
        experts, following = self.forms[number].experts, self._following(number)
        return LayerCounts(
            load=np.zeros(experts, np.int64),
            kept=np.zeros(experts, np.int64),
            probability=np.zeros(experts),
            gate=np.zeros(experts),
            weight=np.zeros(experts),
            pairs=np.zeros((experts, experts), np.int64),
            onwards=None if following is None else np.zeros((experts, self.forms[following].experts), np.int64),
            vocabulary=np.zeros((0, experts), np.int64),
            sample=np.zeros((self._most_sampled, self.forms[number].top_k), np.uint16),
        )

    def prefer(self, ids: np.ndarray) -> None:
        """Count these token ids before any others, as many as there is room for.

        Args:
            ids: Ids that the tokens of all stacks have [n], int64, each once; the most wanted first.
        """
        for vocabulary in self._vocabularies.values():
            vocabulary.give(ids)

    def sample(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows in `vocabulary` [m], -1 for none, and the choices in a layer [m, k] of sampled tokens.

        All tokens as long as they fit into `SAMPLE_BYTES`, then an even draw from them.
        """
        drawn = min(self.tokens, self._most_sampled)
        return self._vocabularies[self.forms[number].stack].sample[:drawn], self.layers[number].sample[:drawn]

    def _following(self, number: int) -> int | None:
        """The next layer of the same stack, whose tokens are the same."""
        following = number + 1
        same = following < len(self.forms) and self.forms[following].stack == self.forms[number].stack
        return following if same else None

    def add_all(self, batches: Iterable[RoutedBatch], earlier: Iterable[RoutedBatch] | None = None) -> None:
        """Count batches, beside those of an earlier checkpoint on the same texts if there are any."""
        if earlier is None:
            for batch in batches:
                self.add(batch)
            return
        for batch, before in zip_longest(batches, earlier):
            if batch is None or before is None:
                raise RoutedModelError(OTHER_TOKENS)
            self.add(batch, before)

    def add(self, batch: RoutedBatch, earlier: RoutedBatch | None = None) -> None:
        """Count one batch.

        Raises:
            RoutedModelError: The earlier checkpoint read other tokens, or has other layers.
        """
        if earlier is not None:
            self._check_same(batch, earlier)
            self.compared = True
        sampled, places = self._draw(len(batch.texts))
        self.tokens += len(batch.texts)
        self.truncated += batch.truncated
        self.item_tokens += np.bincount(batch.texts, minlength=len(self.item_tokens))
        codes = {stack: self._vocabularies[stack].encode(tokens) for stack, tokens in batch.tokens.items()}
        for stack, each in codes.items():
            self._vocabularies[stack].sample[places] = each[sampled]
        for number, routing in enumerate(batch.layers):
            counts, experts = self.layers[number], self.forms[number].experts
            _count_choices(counts, routing, experts)
            following = self._following(number)
            if following is not None and counts.onwards is not None:
                counts.onwards += _pairs(routing.experts, batch.layers[following].experts, counts.onwards.shape)
            stack = self.forms[number].stack
            if stack in codes:
                _count_by_id(counts, codes[stack], self._vocabularies[stack].used, routing.experts, experts)
                counts.sample[places] = routing.experts[sampled]
            self._count_items(number, batch.texts, routing.experts)
            if earlier is not None:
                counts.agreed += overlap(routing.experts, earlier.layers[number].experts)

    def _draw(self, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """Which of the next tokens to keep, and where, so that each token so far is kept with equal probability.

        Vitter, Random sampling with a reservoir, algorithm R (1985). A place may be named more than once: the last
        token has it.
        """
        numbers = self.tokens + np.arange(tokens)
        places = np.where(numbers < self._most_sampled, numbers, self._sampler.integers(numbers + 1))
        kept = np.flatnonzero(places < self._most_sampled)
        return kept, places[kept]

    def _count_items(self, number: int, texts: np.ndarray, chosen: np.ndarray) -> None:
        seen, rows = np.unique(texts, return_inverse=True)
        experts = self.forms[number].experts
        where = rows[:, None] * experts + chosen
        counted = np.bincount(where.ravel(), minlength=len(seen) * experts).reshape(len(seen), experts)
        self.items[seen, self.columns[number]] += counted.astype(np.int32)

    def _check_same(self, batch: RoutedBatch, earlier: RoutedBatch) -> None:
        if len(earlier.layers) != len(self.forms) or any(
            earlier.layers[number].probabilities.shape[1] != form.experts
            or earlier.layers[number].experts.shape[1] != form.top_k
            for number, form in enumerate(self.forms)
        ):
            raise RoutedModelError(
                "the earlier checkpoint has other sparse layers, experts or choices per token than the model: "
                "saturation compares two checkpoints of one training"
            )
        same = batch.tokens.keys() == earlier.tokens.keys() and all(
            np.array_equal(tokens, earlier.tokens[stack]) for stack, tokens in batch.tokens.items()
        )
        if not same or not np.array_equal(batch.texts, earlier.texts):
            raise RoutedModelError(OTHER_TOKENS)


def _count_choices(counts: LayerCounts, routing: LayerRouting, experts: int) -> None:
    chosen = routing.experts.ravel()
    gates = np.take_along_axis(routing.probabilities, routing.experts, 1).ravel()
    counts.load += np.bincount(chosen, minlength=experts)
    counts.kept += np.bincount(chosen[routing.kept.ravel()], minlength=experts)
    counts.probability += routing.probabilities.sum(axis=0, dtype=np.float64)
    counts.gate += np.bincount(chosen, weights=gates, minlength=experts)
    counts.weight += np.bincount(chosen, weights=routing.weights.ravel(), minlength=experts)
    ascending = np.sort(routing.experts, axis=1)
    for first, second in combinations(range(ascending.shape[1]), 2):
        counts.pairs += _pairs(ascending[:, [first]], ascending[:, [second]], (experts, experts))


def _pairs(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """How often each value of `first` [T, k] meets each of `second` [T, l] in a row, as a table of this shape."""
    where = first[:, :, None] * shape[1] + second[:, None, :]
    return np.bincount(where.ravel(), minlength=shape[0] * shape[1]).reshape(shape)


def _count_by_id(counts: LayerCounts, codes: np.ndarray, used: int, chosen: np.ndarray, experts: int) -> None:
    if used > len(counts.vocabulary):
        more = np.zeros((used - len(counts.vocabulary), experts), np.int64)
        counts.vocabulary = np.concatenate([counts.vocabulary, more])
    known = codes >= 0
    where = codes[known, None] * experts + chosen[known]
    counts.vocabulary += np.bincount(where.ravel(), minlength=used * experts).reshape(used, experts)
