"""Training a language model with experts and its dense twin on the same batches, reproducibly and resumably.

Three trainings: both networks step by step in turns, so that whatever else the machine does slows both alike; then a
twin that has as much time as the model with experts had. Every random draw comes from the seed and the step's number,
so nothing but weights, optimizer state and measurements has to survive between steps.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch  # noqa: TID253 - trains neural networks; nothing light imports this module
from transformers import PreTrainedModel  # noqa: TID253

from aura.experts.language.batches import Batches
from aura.experts.language.card import Curve, CurvePoint, LanguageCard, LayerBalance
from aura.experts.language.checkpoint import Checkpoint, Progress, RunProgress, read_checkpoint, write_checkpoint
from aura.experts.language.evaluation import bits_per_byte, require_sequences
from aura.experts.language.model import AuraMoeForCausalLM
from aura.experts.language.models import LanguageModels
from aura.experts.language.pair import build_dense, build_pair, on_device
from aura.experts.language.presets import LanguageConfig, PairCost
from aura.experts.language.tokens import LanguageText
from aura.experts.model import tensors_of
from aura.experts.reproducible import reproducible

logger = logging.getLogger(__name__)

MOE, DENSE, LONGER = "moe", "dense", "dense_longer"
BETAS = (0.9, 0.95)
CLIP_NORM = 1.0


class DivergedError(ArithmeticError):
    """A training whose loss is no finite number any more; its last state that was kept is from before."""


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


def train_language_models(
    text: LanguageText,
    config: LanguageConfig,
    *,
    checkpoint: CheckpointPlan | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LanguageModels:
    """Train both networks, and the twin that has as much time.

    On one CPU thread the same text and settings give the same bits for the first two. How long the third is trained
    follows from the measured time of a step, which is never quite the same.

    Args:
        text: Tokenized text.
        config: Settings.
        checkpoint: Where to keep the state; a state of the same text and settings is resumed to the same bits, another
            one is replaced.
        progress: Called with (steps done, steps in all) of all trainings; before the third begins it is taken to be as
            long as the second.

    Returns:
        Both models with their card.

    Raises:
        ValueError: The text is shorter than a batch, or a domain's held-out part than a sequence; or there is no CUDA
            device and the settings want one.
        DivergedError: The loss of a network is not finite any more.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"the preset {config.preset!r} is trained on CUDA, and there is no such device here: take 'small'"
        )
    with reproducible(config.threads) if config.device == "cpu" else torch.random.fork_rng():
        return _Training(text, config, checkpoint, progress).run()


class _Run:
    """One network on its way: its optimizer, its time, its measurements."""

    def __init__(self, model: PreTrainedModel, config: LanguageConfig, steps: int) -> None:
        self.model = model
        self.config = config
        self.steps = steps
        self.optimizer = torch.optim.AdamW(_groups(model, config), lr=config.learning_rate, betas=BETAS, fused=True)
        self.done = 0
        self.seconds = 0.0
        self.loss_sum = 0.0
        self.points: list[CurvePoint] = []

    def step(self, batch: torch.Tensor) -> None:
        """One step on tokens [batch, sequence]."""
        began = _clock(self.config)
        rate = _learning_rate(self.done, self.steps, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        answer = self.model(input_ids=batch, labels=batch)
        self.optimizer.zero_grad()
        answer.loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        if isinstance(self.model, AuraMoeForCausalLM):
            self.model.update_balance()
        loss = (answer.cross_entropy if isinstance(self.model, AuraMoeForCausalLM) else answer.loss).item()
        self.done += 1
        if not math.isfinite(loss):
            raise DivergedError(
                f"{type(self.model).__name__} diverged: in step {self.done} its cross-entropy is {loss}; give a "
                f"smaller learning_rate than {self.config.learning_rate:g}, or more than "
                f"{self.config.warmup_steps} warmup_steps"
            )
        self.loss_sum += loss
        self.seconds += _clock(self.config) - began

    def measure(self, text: LanguageText) -> None:
        """Add a measurement where one is due."""
        if self.done % self.config.evaluate_every and self.done != self.steps:
            return
        since = self.done - (self.points[-1].step if self.points else 0)
        held_out = bits_per_byte(
            self.model, text, sequence=self.config.sequence, sequences=self.config.held_out_sequences
        )
        self.points.append(CurvePoint(self.done, self.seconds, self.loss_sum / since, held_out))
        self.loss_sum = 0.0

    def curve(self, text: LanguageText, observe: Callable[[], None] = lambda: None) -> Curve:
        """What was measured, with the whole held-out text."""
        held_out = bits_per_byte(self.model, text, sequence=self.config.sequence, observe=observe)
        return Curve(self.steps, tuple(self.points), held_out)

    def state(self) -> RunProgress:
        """All but the tensors."""
        return RunProgress(self.steps, self.done, self.seconds, self.loss_sum, tuple(self.points))

    def resume(self, progress: RunProgress, checkpoint: Checkpoint, name: str) -> None:
        """Go on where a checkpoint is."""
        self.model.load_state_dict(dict(checkpoint.networks[name]))
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": dict(checkpoint.optimizers[name])})
        self.steps, self.done, self.seconds = progress.steps, progress.done, progress.seconds
        self.loss_sum, self.points = progress.loss_sum, list(progress.points)


class _Training:
    """All runs of one seed."""

    def __init__(
        self,
        text: LanguageText,
        config: LanguageConfig,
        plan: CheckpointPlan | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.text = text
        self.config = config
        self.plan = plan
        self.progress = progress
        # Before the first step, not at the first measurement, when the steps until then would be lost.
        require_sequences(text, config.sequence)
        self.batches = Batches(text, config)
        self.pair = pair = build_pair(config, text.card.vocabulary)
        self.runs = {MOE: _Run(pair.moe, config, config.steps), DENSE: _Run(pair.dense, config, config.steps)}

    def run(self) -> LanguageModels:
        self._resume()
        moe, dense = self.runs[MOE], self.runs[DENSE]
        # Whoever goes first finds the batch out of the cache: they take turns at that, too.
        self._advance(lambda step: (moe, dense) if step % 2 else (dense, moe))
        if LONGER not in self.runs:
            self._begin_longer(round(self.config.steps * moe.seconds / dense.seconds))
        longer = self.runs[LONGER]
        self._advance(lambda _: (longer,))
        load = torch.zeros(self.config.layers, self.config.experts, dtype=torch.int64)

        def observe() -> None:
            load.add_(torch.stack([routing.load() for routing in self.pair.moe.routings()]).cpu())

        card = LanguageCard(
            config=self.config,
            text=self.text.card,
            cost=PairCost.of(self.config, self.text.card.vocabulary),
            clock="cpu" if self.config.device == "cpu" else "wall",
            moe=moe.curve(self.text, observe),
            dense=dense.curve(self.text),
            dense_longer=longer.curve(self.text),
            balance=tuple(LayerBalance(tuple(layer)) for layer in load.tolist()),
            versions={name: version(name) for name in ("torch", "transformers")},
        )
        return LanguageModels(card, self.text.tokenizer_json, tensors_of(moe.model), tensors_of(dense.model))

    def _begin_longer(self, steps: int) -> None:
        model = on_device(build_dense(self.config, self.text.card.vocabulary), self.config)
        self.runs[LONGER] = _Run(model, self.config, max(1, steps))

    def _advance(self, turns: Callable[[int], Sequence[_Run]]) -> None:
        """Step by step until the runs of this turn are done."""
        for step in range(turns(0)[0].done, turns(0)[0].steps):
            batch = self.batches.of(step).to(self.config.device)
            for run in turns(step):
                run.step(batch)
            for run in turns(step):
                run.measure(self.text)
            if self.plan is not None and ((step + 1) % self.plan.every_steps == 0 or step + 1 == turns(0)[0].steps):
                write_checkpoint(self.plan.path, self._state())
            if self.progress is not None:
                self.progress(*self._progress())

    def _progress(self) -> tuple[int, int]:
        expected = 0 if LONGER in self.runs else self.config.steps
        return sum(run.done for run in self.runs.values()), sum(run.steps for run in self.runs.values()) + expected

    def _state(self) -> Checkpoint:
        return Checkpoint(
            progress=Progress(
                self.config, self.text.card.digest, {name: run.state() for name, run in self.runs.items()}
            ),
            networks={name: run.model.state_dict() for name, run in self.runs.items()},
            optimizers={name: run.optimizer.state_dict()["state"] for name, run in self.runs.items()},
        )

    def _resume(self) -> None:
        if self.plan is None or not self.plan.path.exists():
            return
        checkpoint = read_checkpoint(self.plan.path)
        progress = checkpoint.progress
        if (progress.config, progress.text_digest) != (self.config, self.text.card.digest):
            logger.warning("%s is of another text or other settings: training starts from nothing", self.plan.path)
            return
        if LONGER in progress.runs:
            self._begin_longer(progress.runs[LONGER].steps)
        for name, run in self.runs.items():
            run.resume(progress.runs[name], checkpoint, name)


def _learning_rate(step: int, steps: int, config: LanguageConfig) -> float:
    """Warm-up to the peak, and a cosine to zero (Loshchilov and Hutter, arXiv 1608.03983)."""
    rising = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return config.learning_rate * rising * 0.5 * (1 + math.cos(math.pi * step / steps))


def _groups(model: PreTrainedModel, config: LanguageConfig) -> list[dict[str, object]]:
    """Matrices decay, but for routers: those and the norms do not."""
    named = dict(model.named_parameters())
    routers = {name for name in named if name.endswith("mlp.gate.weight")}
    matrices = {name for name, parameter in named.items() if parameter.dim() >= 2} - routers
    groups = (
        (matrices, config.weight_decay, 1.0),
        (set(named) - matrices - routers, 0.0, 1.0),
        (routers, 0.0, config.router_rate),
    )
    return [
        {"params": [named[name] for name in sorted(names)], "weight_decay": decay, "factor": factor}
        for names, decay, factor in groups
        if names
    ]


def _clock(config: LanguageConfig) -> float:
    """CPU seconds of this process; where a GPU computes, wall seconds once it is done."""
    if config.device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()
