"""The model card: how an expert model was made, on what, and how well it does beside its dense twin.

A card is plain values. Its JSON is canonical (sorted keys, no spaces), so that the same training gives the same bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from aura.experts.config import ExpertConfig
from aura.tiers.canonical_json import canonical_json, parsed

NORMAL_QUANTILE_975 = 1.959963984540054


class ModelCardError(ValueError):
    """Bytes that are not a model card."""


@dataclass(frozen=True)
class Accuracy:
    """Right answers out of all, with the 95 % interval of Wilson (1927).

    Attributes:
        correct: Items whose label was named.
        items: Items asked.
        value: correct / items.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    correct: int
    items: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, correct: int, items: int) -> Accuracy:
        """The accuracy of this many right answers; raises ValueError unless 0 <= correct <= items and items > 0."""
        if items < 1 or not 0 <= correct <= items:
            raise ValueError(f"{correct} right answers of {items} items is not an accuracy")
        p, z2 = correct / items, NORMAL_QUANTILE_975**2
        centre = (p + z2 / (2 * items)) / (1 + z2 / items)
        half = NORMAL_QUANTILE_975 / (1 + z2 / items) * math.sqrt(p * (1 - p) / items + z2 / (4 * items**2))
        return cls(correct, items, p, min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)))


@dataclass(frozen=True)
class Split:
    """Where the rows went.

    Attributes:
        training: Items trained on.
        held_out: Items held out.
        unlabelled: Rows left out because they have no label.
        rare: Rows left out because their label has too few items.
        rare_labels: How many labels that were.
    """

    training: int
    held_out: int
    unlabelled: int
    rare: int
    rare_labels: int


@dataclass(frozen=True)
class Cost:
    """The size of a network.

    Attributes:
        parameters: Trained numbers.
        active_parameters: Those of them that one item uses.
        active_flops: Floating-point operations of one item's forward pass, two per multiply-add of a matrix.
    """

    parameters: int
    active_parameters: int
    active_flops: int


@dataclass(frozen=True)
class EpochRecord:
    """What one pass over the training items did.

    Attributes:
        epoch: From 1.
        switch_loss: Mean training cross-entropy of the Switch classifier, nats.
        dense_loss: The same of the dense twin.
        load_balancing_loss: Mean over steps, before its weight; 1 is balanced, the number of experts is collapsed.
        z_loss: Mean over steps, before its weight.
        dropped_share: Share of the items that found no place at their expert.
        largest_share: Share of the items that went to the busiest expert, before capacity.
        smallest_share: Share that went to the least busy one.
        switch_held_out: Held-out accuracy of the Switch classifier, nothing dropped.
        dense_held_out: Held-out accuracy of the dense twin.
    """

    epoch: int
    switch_loss: float
    dense_loss: float
    load_balancing_loss: float
    z_loss: float
    dropped_share: float
    largest_share: float
    smallest_share: float
    switch_held_out: float
    dense_held_out: float


@dataclass(frozen=True)
class Scores:
    """Held-out results, all on the same items.

    Attributes:
        switch: The Switch classifier with a place for every item (as it is served).
        switch_at_capacity: The same with the training's capacity, batch by batch.
        dense: The dense twin.
        majority: Always naming the label that is most frequent in training.
        only_switch_correct: Items that only the Switch classifier got right, of the two networks.
        only_dense_correct: Items that only the dense twin got right.
        switch_loss: Mean cross-entropy of the Switch classifier, nats.
        dense_loss: Mean cross-entropy of the dense twin, nats.
    """

    switch: Accuracy
    switch_at_capacity: Accuracy
    dense: Accuracy
    majority: Accuracy
    only_switch_correct: int
    only_dense_correct: int
    switch_loss: float
    dense_loss: float


@dataclass(frozen=True)
class ModelCard:
    """How a model was made and how well it does.

    Attributes:
        config: The settings of the training.
        dimension: Dimensions of the vectors.
        labels: The labels, in the order of the head's outputs.
        split: Where the rows went.
        scores: Held-out results.
        switch_cost: Size of the Switch classifier.
        dense_cost: Size of the dense twin.
        data_digest: blake2b-128 hex of the training and held-out items: ids, labels, vectors.
        history: One record per epoch.
    """

    config: ExpertConfig
    dimension: int
    labels: tuple[str, ...]
    split: Split
    scores: Scores
    switch_cost: Cost
    dense_cost: Cost
    data_digest: str
    history: tuple[EpochRecord, ...] = field(repr=False)

    def to_json(self) -> bytes:
        """Canonical JSON, UTF-8."""
        return canonical_json(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> ModelCard:
        """Read a card back; raises ModelCardError for anything that is not one."""
        try:
            return parsed(cls, text)
        except ValueError as error:
            raise ModelCardError(f"not the card of an expert model: {error}; train the model again") from error
