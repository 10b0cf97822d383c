"""What a training of a language model and its dense twin measured. Plain values with a canonical JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from aura.experts.language.presets import LanguageConfig, PairCost
from aura.experts.language.tokens import TextCard
from aura.tiers.canonical_json import canonical_json, parsed

DEAD_UTILISATION = 0.1
"""An expert with less than this share of its fair load is dead."""


class LanguageCardError(ValueError):
    """Bytes that are not the card of a pair of language models."""


@dataclass(frozen=True)
class BitsPerByte:
    """How well text was predicted.

    Attributes:
        domains: Bits per byte of each domain, by name.
        mean: Their unweighted mean.
    """

    domains: Mapping[str, float]
    mean: float

    @classmethod
    def of(cls, domains: Mapping[str, float]) -> BitsPerByte:
        """With their mean."""
        return cls(domains, fmean(domains.values()))


@dataclass(frozen=True)
class CurvePoint:
    """One measurement along a training.

    Attributes:
        step: Steps done.
        seconds: Time that they took, measurements apart.
        training_loss: Mean cross-entropy since the measurement before, nats per token.
        held_out: Of the part of the held-out text that is read along the way.
    """

    step: int
    seconds: float
    training_loss: float
    held_out: BitsPerByte


@dataclass(frozen=True)
class Curve:
    """One training.

    Attributes:
        steps: Steps in all; the learning rate reaches zero there.
        points: Measurements, the last one after the last step.
        held_out: Of the whole held-out text, after the last step.
    """

    steps: int
    points: tuple[CurvePoint, ...] = field(repr=False)
    held_out: BitsPerByte

    @property
    def seconds(self) -> float:
        """Time of all steps."""
        return self.points[-1].seconds

    def reaches(self, level: float) -> tuple[float, float] | None:
        """Step and seconds at which the measurements first come down to a level of mean bits per byte.

        Between two measurements the line through them counts; None when the level is never reached.
        """
        before: CurvePoint | None = None
        for point in self.points:
            if point.held_out.mean <= level:
                if before is None:
                    return float(point.step), point.seconds
                part = (before.held_out.mean - level) / (before.held_out.mean - point.held_out.mean)
                return (
                    before.step + part * (point.step - before.step),
                    before.seconds + part * (point.seconds - before.seconds),
                )
            before = point
        return None


@dataclass(frozen=True)
class LayerBalance:
    """How the held-out text was spread over the experts of one layer.

    Attributes:
        load: Assignments to each expert.
    """

    load: tuple[int, ...]

    @property
    def dead_experts(self) -> int:
        """Experts with less than a tenth of their fair load."""
        return sum(load * len(self.load) < DEAD_UTILISATION * sum(self.load) for load in self.load)

    @property
    def max_over_mean(self) -> float:
        """Load of the busiest expert over the mean; 1 is balanced."""
        return max(self.load) * len(self.load) / sum(self.load)

    @property
    def normalised_entropy(self) -> float:
        """Entropy of the load over that of an even one: 1 is balanced, 0 is one expert for everything."""
        shares = [load / sum(self.load) for load in self.load if load]
        return -math.fsum(share * math.log(share) for share in shares) / math.log(len(self.load))


@dataclass(frozen=True)
class LanguageCard:
    """How a model with experts and its twin were trained, and how well they predict.

    Attributes:
        config: The settings of the training.
        text: The text.
        cost: The sizes of both.
        clock: What the seconds are: CPU seconds of the process, or wall seconds where a GPU computes.
        moe: The model with experts.
        dense: The twin, on the same batches, step by step in turns with it.
        dense_longer: A twin that had as much time as the model with experts: as many more steps as a step of that
            costs more, with a learning rate that ends there.
        balance: Of each layer of the model with experts, first layer first.
        versions: Of torch and transformers.
    """

    config: LanguageConfig
    text: TextCard
    cost: PairCost
    clock: Literal["cpu", "wall"]
    moe: Curve
    dense: Curve
    dense_longer: Curve
    balance: tuple[LayerBalance, ...]
    versions: Mapping[str, str]

    @property
    def step_cost_ratio(self) -> float:
        """Time of a step of the model with experts over that of the twin."""
        return self.moe.seconds / self.dense.seconds

    @property
    def equal_steps(self) -> float:
        """Relative difference to the twin after the same steps on the same batches; below zero is better."""
        return self.moe.held_out.mean / self.dense.held_out.mean - 1

    @property
    def equal_time(self) -> float:
        """Relative difference to the twin that had as much time; below zero is better."""
        return self.moe.held_out.mean / self.dense_longer.held_out.mean - 1

    @property
    def speed_to_quality(self) -> float | None:
        """Time of the twin's training over the time until the model with experts was as good; None when it never was.

        Both by what was measured along the way, on the same part of the held-out text.
        """
        reached = self.reaches_quality
        return None if reached is None else self.dense.seconds / reached[1]

    @property
    def reaches_quality(self) -> tuple[float, float] | None:
        """Step and seconds at which the model with experts is as good as the twin in the end; None when it never is."""
        return self.moe.reaches(self.dense.points[-1].held_out.mean)

    @property
    def dead_experts(self) -> int:
        """Experts with less than a tenth of their fair load of the held-out text, over all layers."""
        return sum(layer.dead_experts for layer in self.balance)

    @property
    def passes(self) -> float:
        """How often each of the two networks that train in turns read the text."""
        return self.config.tokens / self.text.training_tokens

    @property
    def proves_nothing(self) -> str | None:
        """Why the results say nothing about experts; None where the training was long enough."""
        return self.config.proves_nothing(self.text.training_tokens)

    def to_json(self) -> bytes:
        """Canonical JSON, UTF-8."""
        return canonical_json(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> LanguageCard:
        """Read a card back; raises LanguageCardError for anything that is not one."""
        try:
            return parsed(cls, text)
        except ValueError as error:
            raise LanguageCardError(
                f"not the card of a pair of language models: {error}; train the models again"
            ) from error
