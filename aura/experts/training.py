"""Training a Switch classifier and its dense twin on the same batches, reproducibly and resumably.

The same data and configuration give the same bits on one machine: every random draw comes from a seed of the
configuration and the epoch, so nothing but weights and optimizer state has to survive between epochs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch  # noqa: TID253 - trains neural networks; nothing light imports this module
from torch.nn.functional import cross_entropy  # noqa: TID253

from aura.experts.card import Accuracy, Cost, EpochRecord, ModelCard, Scores
from aura.experts.checkpoint import Checkpoint, Progress, read_checkpoint, write_checkpoint
from aura.experts.classifier import DenseTwin, Shape, SwitchClassifier
from aura.experts.config import ExpertConfig
from aura.experts.dataset import TrainingData, prepare
from aura.experts.losses import load_balancing_loss, router_z_loss
from aura.experts.model import ExpertModel
from aura.experts.reproducible import reproducible

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointPlan:
    """Where a training keeps its state.

    Attributes:
        path: A safetensors file in an existing directory; it stays when the training is done.
        every_epochs: Epochs between two writes.
    """

    path: Path
    every_epochs: int = 1

    def __post_init__(self) -> None:
        if self.every_epochs < 1:
            raise ValueError(f"CheckpointPlan.every_epochs is {self.every_epochs}; give at least 1")


def train_expert_model(
    vectors: np.ndarray,
    labels: Sequence[str | None],
    *,
    item_ids: Sequence[str],
    config: ExpertConfig | None = None,
    checkpoint: CheckpointPlan | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ExpertModel:
    """Train both networks to predict the labels of vectors.

    Args:
        vectors: [n, d] float32, finite.
        labels: One label or None per vector; rows without one, and labels with too few items, are left out and counted.
        item_ids: One id per vector; decides the held-out part and the order of the rows.
        config: Settings; the defaults of `ExpertConfig` when not given.
        checkpoint: Where to keep the state; a state of the same data and configuration is resumed to the same bits,
            another one is replaced.
        progress: Called with (epochs done, epochs in all).

    Returns:
        The trained model with its card.

    Raises:
        ValueError: The input is malformed.
        NotTrainableError: Too few labels or items.
    """
    config = config or ExpertConfig()
    data = prepare(vectors, labels, item_ids, config)
    with reproducible(config.threads):
        return _Training(data, config).run(checkpoint, progress)


class _Training:
    """Both networks, their optimizers and the epochs behind them."""

    def __init__(self, data: TrainingData, config: ExpertConfig) -> None:
        self.data = data
        self.config = config
        self.vectors = torch.from_numpy(data.training_vectors)
        self.targets = torch.from_numpy(data.training_targets)
        self.held_out_vectors = torch.from_numpy(data.held_out_vectors)
        self.held_out_targets = torch.from_numpy(data.held_out_targets)
        self.shape = Shape(
            data.training_vectors.shape[1], config.width, config.hidden, config.experts, len(data.labels)
        )
        torch.manual_seed(config.seed)
        self.switch = SwitchClassifier(self.shape, batch_priority=config.batch_priority, dropout=config.dropout)
        torch.manual_seed(config.seed)
        self.dense = DenseTwin(self.shape, dropout=config.dropout)
        for network in (self.switch, self.dense):
            network.standardise(self.vectors)
        self.optimizers = tuple(
            torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
            for network in (self.switch, self.dense)
        )
        self.history: list[EpochRecord] = []

    def run(self, plan: CheckpointPlan | None, progress: Callable[[int, int], None] | None) -> ExpertModel:
        if plan is not None and plan.path.exists():
            self._resume(plan.path)
        for epoch in range(len(self.history) + 1, self.config.epochs + 1):
            self.history.append(self._epoch(epoch))
            if plan is not None and (epoch % plan.every_epochs == 0 or epoch == self.config.epochs):
                write_checkpoint(plan.path, self._state())
            if progress is not None:
                progress(epoch, self.config.epochs)
        return ExpertModel.from_modules(self._card(), self.switch, self.dense)

    def _state(self) -> Checkpoint:
        return Checkpoint(
            progress=Progress(self.config, self.data.digest, tuple(self.history)),
            networks=(self.switch.state_dict(), self.dense.state_dict()),
            optimizers=tuple(optimizer.state_dict()["state"] for optimizer in self.optimizers),
        )

    def _resume(self, path: Path) -> None:
        state = read_checkpoint(path)
        if (state.progress.config, state.progress.data_digest) != (self.config, self.data.digest):
            logger.warning("%s belongs to other data or another configuration: training starts from nothing", path)
            return
        for network, tensors in zip((self.switch, self.dense), state.networks, strict=True):
            network.load_state_dict(tensors)
        for optimizer, moments in zip(self.optimizers, state.optimizers, strict=True):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        self.history = list(state.progress.history)

    def _epoch(self, epoch: int) -> EpochRecord:
        torch.manual_seed(self.config.seed * 1_000_003 + epoch)
        self.switch.train()
        self.dense.train()
        batches = torch.split(torch.randperm(len(self.targets)), self.config.batch_size)
        first_step = (epoch - 1) * len(batches)
        steps = self.config.epochs * len(batches)
        sums = torch.zeros(5, dtype=torch.float64)
        load = torch.zeros(self.config.experts, dtype=torch.int64)
        for number, batch in enumerate(batches):
            rate = self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * (first_step + number) / steps))
            for optimizer in self.optimizers:
                optimizer.param_groups[0]["lr"] = rate
            figures, batch_load = self._step(batch)
            sums += figures * len(batch)
            load += batch_load
        switch_loss, dense_loss, balance, z_loss, dropped = (sums / len(self.targets)).tolist()
        shares = (load / load.sum()).tolist()
        switch_right, dense_right = self._right_answers()
        record = EpochRecord(
            epoch=epoch,
            switch_loss=switch_loss,
            dense_loss=dense_loss,
            load_balancing_loss=balance,
            z_loss=z_loss,
            dropped_share=dropped,
            largest_share=max(shares),
            smallest_share=min(shares),
            switch_held_out=switch_right.double().mean().item(),
            dense_held_out=dense_right.double().mean().item(),
        )
        logger.info("epoch %d of %d: %s", epoch, self.config.epochs, record)
        return record

    def _step(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One step of both networks: switch loss, dense loss, balance, z-loss, dropped share [5]; and the load [E]."""
        vectors, targets = self.vectors[batch], self.targets[batch]
        logits, routing = self.switch(vectors, self.config.capacity_factor)
        switch_loss = cross_entropy(logits, targets)
        balance = load_balancing_loss(routing.probabilities, routing.choices)
        z_loss = router_z_loss(routing.logits)
        dense_loss = cross_entropy(self.dense(vectors), targets)
        objectives = (
            switch_loss + self.config.load_balance_weight * balance + self.config.z_loss_weight * z_loss,
            dense_loss,
        )
        for optimizer, objective in zip(self.optimizers, objectives, strict=True):
            optimizer.zero_grad()
            torch.autograd.backward(objective)
            optimizer.step()
        dropped = 1 - routing.kept.double().mean()
        figures = torch.stack(
            [figure.detach().double() for figure in (switch_loss, dense_loss, balance, z_loss, dropped)]
        )
        return figures, routing.load()

    @torch.no_grad()
    def _held_out_logits(self) -> tuple[torch.Tensor, torch.Tensor]:
        self.switch.eval()
        self.dense.eval()
        return self.switch(self.held_out_vectors)[0], self.dense(self.held_out_vectors)

    def _right_answers(self) -> tuple[torch.Tensor, torch.Tensor]:
        switch, dense = self._held_out_logits()
        return switch.argmax(dim=1) == self.held_out_targets, dense.argmax(dim=1) == self.held_out_targets

    @torch.no_grad()
    def _right_at_capacity(self) -> int:
        self.switch.eval()
        batches = zip(
            torch.split(self.held_out_vectors, self.config.batch_size),
            torch.split(self.held_out_targets, self.config.batch_size),
            strict=True,
        )
        return sum(
            int((self.switch(vectors, self.config.capacity_factor)[0].argmax(dim=1) == targets).sum())
            for vectors, targets in batches
        )

    def _card(self) -> ModelCard:
        items = len(self.held_out_targets)
        switch_logits, dense_logits = self._held_out_logits()
        switch_right, dense_right = self._right_answers()
        majority = torch.bincount(self.targets, minlength=len(self.data.labels)).argmax()
        scores = Scores(
            switch=Accuracy.of(int(switch_right.sum()), items),
            switch_at_capacity=Accuracy.of(self._right_at_capacity(), items),
            dense=Accuracy.of(int(dense_right.sum()), items),
            majority=Accuracy.of(int((self.held_out_targets == majority).sum()), items),
            only_switch_correct=int((switch_right & ~dense_right).sum()),
            only_dense_correct=int((dense_right & ~switch_right).sum()),
            switch_loss=cross_entropy(switch_logits, self.held_out_targets).item(),
            dense_loss=cross_entropy(dense_logits, self.held_out_targets).item(),
        )
        switch_parameters = sum(parameter.numel() for parameter in self.switch.parameters())
        layer = self.switch.switch
        in_experts = sum(tensor.numel() for tensor in (layer.w_in, layer.b_in, layer.w_out, layer.b_out))
        idle = in_experts - in_experts // self.config.experts
        dense_parameters = sum(parameter.numel() for parameter in self.dense.parameters())
        return ModelCard(
            config=self.config,
            dimension=self.shape.dimension,
            labels=self.data.labels,
            split=self.data.split,
            scores=scores,
            switch_cost=Cost(switch_parameters, switch_parameters - idle, self.shape.switch_flops()),
            dense_cost=Cost(dense_parameters, dense_parameters, self.shape.dense_flops()),
            data_digest=self.data.digest,
            history=tuple(self.history),
        )
