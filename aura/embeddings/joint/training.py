"""Training a joint model reproducibly and resumably.

The same data and configuration give the same bits on one machine: every random draw comes from the seed and the step,
so nothing but weights and optimizer state has to survive between steps.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch  # noqa: TID253 - trains neural networks; nothing light imports this module
from numpy.typing import NDArray
from torch import Tensor  # noqa: TID253
from torch.nn.functional import normalize  # noqa: TID253

from aura.corpus.rows import MODALITIES
from aura.embeddings.joint.card import JointCard, LossRecord, TrainingCost
from aura.embeddings.joint.checkpoint import Checkpoint, Progress, read_checkpoint, write_checkpoint
from aura.embeddings.joint.config import JointConfig, Pair
from aura.embeddings.joint.data import JointData
from aura.embeddings.joint.errors import NotTrainableError
from aura.embeddings.joint.held_out import evaluate
from aura.embeddings.joint.losses import contrastive_loss
from aura.embeddings.joint.model import JointModel
from aura.embeddings.joint.prepare import Divided, Prepared, divide, prepare
from aura.embeddings.joint.reproducible import reproducible
from aura.embeddings.joint.split import HeldOut
from aura.embeddings.joint.towers import ImageTower, JointTowers

logger = logging.getLogger(__name__)

WARM_UP = 0.05
RECORDS = 60
"""Points of the loss curve."""

_MAX_GRADIENT = 1.0


@dataclass(frozen=True)
class CheckpointPlan:
    """Where a training keeps its state.

    Attributes:
        path: A safetensors file; it stays when the training is done.
        every_steps: Steps between two writes.
    """

    path: Path
    every_steps: int = 100

    def __post_init__(self) -> None:
        if self.every_steps < 1:
            raise ValueError(f"CheckpointPlan.every_steps is {self.every_steps}; give at least 1")


def train_joint_model(
    data: JointData,
    *,
    config: JointConfig | None = None,
    held_out: HeldOut | None = None,
    checkpoint: CheckpointPlan | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> JointModel:
    """Train towers of all modalities that the data has.

    Args:
        data: Items that belong together.
        config: Settings; the defaults of `JointConfig` when not given.
        held_out: What is held out in place of what the hash of the ids says.
        checkpoint: Where to keep the state; a state of the same data and configuration is resumed to the same bits,
            another one is replaced.
        progress: Called with (steps done, steps in all).

    Returns:
        The trained model with its card.

    Raises:
        NotTrainableError: Too few items that belong together.
        JointModelError: The checkpoint's file is something else.
    """
    config = config or JointConfig()
    start = time.process_time()
    with reproducible(config.threads):
        prepared = prepare(data, config)
        spent = time.process_time() - start
        return train_prepared(prepared, config, held_out, checkpoint, progress, preparation_s=spent)


def train_prepared(
    prepared: Prepared,
    config: JointConfig,
    held_out: HeldOut | None = None,
    checkpoint: CheckpointPlan | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    preparation_s: float = 0.0,
) -> JointModel:
    """The same from items whose features are known; see `train_joint_model`."""
    with reproducible(config.threads):
        return _Training(prepared, config, held_out).run(checkpoint, progress, preparation_s)


class _Pool:
    """The training items of one modality, by concept."""

    def __init__(self, prepared: Prepared, divided: Divided, modality: str) -> None:
        items = prepared.items[modality]
        trained = divided.trained(modality)
        self.order = trained[np.argsort(items.concepts[trained], kind="stable")]
        ordered = items.concepts[self.order]
        numbers = np.arange(len(prepared.concepts))
        self.start = np.searchsorted(ordered, numbers)
        self.count = np.searchsorted(ordered, numbers, side="right") - self.start
        self.concepts = items.concepts
        self.first_row = items.first_row
        self.inputs = torch.from_numpy(items.features.inputs)
        self.frames = torch.from_numpy(items.features.frames)

    def draw(self, concepts: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """One item of each concept that has any, each item once, one window of each: inputs, frames, concepts."""
        known = concepts[self.count[concepts] > 0]
        picks = (rng.random(len(known)) * self.count[known]).astype(np.int64)
        items = np.unique(self.order[self.start[known] + picks])
        windows = self.first_row[items + 1] - self.first_row[items]
        rows = torch.from_numpy(self.first_row[items] + (rng.random(len(items)) * windows).astype(np.int64))
        return self.inputs[rows], self.frames[rows], torch.from_numpy(self.concepts[items])


class _Training:
    """The towers, their optimizer and the steps behind them."""

    def __init__(self, prepared: Prepared, config: JointConfig, held_out: HeldOut | None) -> None:
        self.prepared = prepared
        self.config = config
        self.held_out = held_out
        self.divided = divide(prepared, config, held_out)
        self.pools = {modality: _Pool(prepared, self.divided, modality) for modality in prepared.items}
        self.pairs: tuple[Pair, ...] = tuple(pair for pair in config.pairs if set(pair) <= set(self.pools))
        self.trainable = self._trainable_concepts()
        torch.manual_seed(config.seed)
        self.towers = JointTowers(tuple(self.pools), prepared.settings, config)
        image = self.towers.towers["image"] if "image" in self.pools else None
        if isinstance(image, ImageTower):
            image.standardise(self.pools["image"].inputs[torch.from_numpy(self.divided.trained("image"))])
        self.optimizer = torch.optim.AdamW(
            self.towers.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.average = {name: tensor.clone() for name, tensor in self.towers.state_dict().items()}
        self.steps = 0
        self.pending: list[tuple[float, ...]] = []
        self.history: list[LossRecord] = []
        self.cpu_s = 0.0

    def _trainable_concepts(self) -> NDArray[np.int64]:
        paired = np.zeros(len(self.prepared.concepts), bool)
        for one, other in self.pairs:
            paired |= (self.pools[one].count > 0) & (self.pools[other].count > 0)
        found = np.flatnonzero(paired)
        if len(found) < 2:
            raise NotTrainableError(
                f"{len(found)} labels or groups have training items of both modalities of a pair that is trained "
                f"({self.config.pairs}), 2 are needed; give more items that belong together, or train other pairs"
            )
        return found

    def run(
        self, plan: CheckpointPlan | None, progress: Callable[[int, int], None] | None, preparation_s: float
    ) -> JointModel:
        if plan is not None and plan.path.exists():
            self._resume(plan.path)
        self.towers.train()
        while self.steps < self.config.steps:
            start = time.process_time()
            self._step(self.steps + 1)
            self.cpu_s += time.process_time() - start
            if plan is not None and (self.steps % plan.every_steps == 0 or self.steps == self.config.steps):
                write_checkpoint(plan.path, self._state())
            if progress is not None:
                progress(self.steps, self.config.steps)
        start = time.process_time()
        self.towers.load_state_dict(self.average)
        weights = {name: tensor.numpy() for name, tensor in self.average.items()}
        card = self._card()
        return JointModel(card, weights, TrainingCost(self.cpu_s, preparation_s + time.process_time() - start))

    def _state(self) -> Checkpoint:
        return Checkpoint(
            progress=Progress(
                self.config, self.divided.digest, self.steps, tuple(self.pending), tuple(self.history), self.cpu_s
            ),
            network=self.towers.state_dict(),
            average=self.average,
            moments=self.optimizer.state_dict()["state"],
        )

    def _resume(self, path: Path) -> None:
        state = read_checkpoint(path)
        if (state.progress.config, state.progress.data_digest) != (self.config, self.divided.digest):
            logger.warning("%s belongs to other data or another configuration: training starts from nothing", path)
            return
        self.towers.load_state_dict(state.network)
        self.average = dict(state.average)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state.moments})
        self.steps = state.progress.steps
        self.pending = list(state.progress.pending)
        self.history = list(state.progress.history)
        self.cpu_s = state.progress.cpu_s

    def _step(self, step: int) -> None:
        self.optimizer.param_groups[0]["lr"] = self._rate(step)
        losses = self._losses(step)
        self.optimizer.zero_grad()
        torch.autograd.backward(torch.stack(losses).mean())
        torch.nn.utils.clip_grad_norm_(self.towers.parameters(), _MAX_GRADIENT)
        self.optimizer.step()
        self.steps = step
        self._average()
        self.pending.append(tuple(loss.item() for loss in losses))
        if step % max(1, self.config.steps // RECORDS) == 0 or step == self.config.steps:
            self._record()

    def _average(self) -> None:
        """Let the running average follow the weights; closely at first, so that it forgets where they began."""
        kept = min(self.config.averaging, self.steps / (self.steps + 10))
        for name, tensor in self.towers.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - kept)

    def _rate(self, step: int) -> float:
        """Up in a line, down along a cosine."""
        warm_up = max(1, round(WARM_UP * self.config.steps))
        down = 0.5 * (1 + math.cos(math.pi * (step - 1) / self.config.steps))
        return self.config.learning_rate * min(1.0, step / warm_up) * down

    def _losses(self, step: int) -> list[Tensor]:
        """The loss of each pair on a batch that the seed and the step decide."""
        rng = np.random.default_rng((self.config.seed, step))
        torch.manual_seed(self.config.seed * 1_000_003 + step)
        if len(self.trainable) >= self.config.batch:
            concepts = rng.choice(self.trainable, self.config.batch, replace=False)
        else:
            concepts = rng.permutation(np.resize(self.trainable, self.config.batch))
        vectors: dict[str, Tensor] = {}
        about: dict[str, Tensor] = {}
        for modality in MODALITIES:
            if any(modality in pair for pair in self.pairs):
                inputs, frames, about[modality] = self.pools[modality].draw(concepts, rng)
                vectors[modality] = normalize(self.towers(modality, inputs, frames, self.config.augmentation), dim=1)
        scale = self.towers.scale()
        return [
            contrastive_loss(vectors[one], vectors[other], about[one], about[other], scale) for one, other in self.pairs
        ]

    def _record(self) -> None:
        means = np.mean(self.pending, axis=0)
        self.history.append(
            LossRecord(self.steps, float(means.mean()), tuple(means.tolist()), 1 / self.towers.scale().item())
        )
        self.pending.clear()
        logger.info("step %d of %d: %s", self.steps, self.config.steps, self.history[-1])

    def _card(self) -> JointCard:
        self.towers.eval()
        prepared = self.prepared
        return JointCard(
            config=self.config,
            features=prepared.settings,
            modalities=tuple(self.pools),
            absent=tuple(modality for modality in MODALITIES if modality not in self.pools),
            pairs=self.pairs,
            concepts=len(prepared.concepts),
            paired_by=prepared.data.paired_by,
            parameters=self.towers.parameters_trained(),
            items=self.divided.counts,
            left_out=prepared.data.left_out,
            evaluation=evaluate(self.towers, prepared, self.divided, self.pairs, self.held_out),
            data_digest=self.divided.digest,
            history=tuple(self.history),
        )
