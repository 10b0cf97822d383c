"""How an expert model is built and trained. Plain values, loads no heavy library."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ExpertConfig:
    """Settings of `train_expert_model`.

    Attributes:
        experts: Number of experts, at least 2.
        width: Model width.
        hidden: Hidden width of one expert and of the dense twin's block.
        capacity_factor: Places per expert over the fair share of a batch, in training and in the routing table.
        batch_priority: Give the places to the highest gates first, in place of in order of arrival.
        load_balance_weight: Weight alpha of the load-balancing loss.
        z_loss_weight: Weight of the router z-loss.
        epochs: Passes over the training items.
        batch_size: Items per step.
        learning_rate: Peak learning rate of AdamW; a cosine takes it to zero over the training.
        weight_decay: Decoupled weight decay of AdamW.
        dropout: Probability of dropping an activation of the block's output and of the head's input.
        min_label_items: Labels with fewer items are left out.
        held_out_share: Share of the items held out, between 0 and 1.
        seed: Seed of the initial weights, the batches and the dropout. The split does not depend on it.
        threads: CPU threads of the training; part of the configuration because sums may round differently with others.
    """

    experts: int = 8
    width: int = 256
    hidden: int = 256
    capacity_factor: float = 1.25
    batch_priority: bool = True
    load_balance_weight: float = 0.01
    z_loss_weight: float = 0.001
    epochs: int = 12
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    dropout: float = 0.4
    min_label_items: int = 10
    held_out_share: float = 0.2
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        at_least = {"experts": 2, "width": 1, "hidden": 1, "epochs": 1, "batch_size": 1, "min_label_items": 2}
        for name, least in {**at_least, "threads": 1, "seed": 0}.items():
            require(self, name, getattr(self, name) >= least, f"at least {least}")
        for name in ("capacity_factor", "learning_rate"):
            require(self, name, 0 < getattr(self, name) < math.inf, "a finite number above 0")
        for name in ("load_balance_weight", "z_loss_weight", "weight_decay"):
            require(self, name, 0 <= getattr(self, name) < math.inf, "a finite number from 0")
        require(self, "dropout", 0 <= self.dropout < 1, "a number from 0 to below 1")
        require(self, "held_out_share", 0 < self.held_out_share < 1, "a number above 0 and below 1")


def require(settings: object, name: str, met: bool, expected: str) -> None:  # noqa: FBT001 - the condition itself
    """Raise ValueError unless a condition on one of these settings is met; it says what is `expected` in its place."""
    if not met:
        raise ValueError(f"{type(settings).__name__}.{name} is {getattr(settings, name)}; give {expected}")
