"""Does a mixture of experts pay? Trained models with experts beside their dense twins, over several seeds.

Everything that is said follows from the cards of the trainings, which are what is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Self

import pyarrow as pa

from aura.experts.language.card import LanguageCard
from aura.tiers.values import Part

CONFIDENCE = 0.95
_PREFIX = "seed-"


class ComparisonError(ValueError):
    """Trainings that cannot be compared, or parts that are no comparison."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with the 95 % interval of Student's t.

    Attributes:
        mean: The mean.
        low: Lower end; minus infinity with one seed, which says nothing about others.
        high: Upper end; infinity likewise.
        n: Seeds.
    """

    mean: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """The mean -+ t(n - 1) s / sqrt(n); raises ValueError without values."""
        from scipy.stats import t

        if not values:
            raise ValueError("an interval takes at least one value")
        n, mean = len(values), fmean(values)
        if n == 1:
            return cls(mean, -math.inf, math.inf, n)
        half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * stdev(values) / math.sqrt(n)
        return cls(mean, mean - half, mean + half, n)

    def percent(self) -> str:
        """As people read a relative difference: `-5.1 % (-5.6 to -4.6, n = 3)`."""
        return f"{100 * self.mean:+.1f} % ({100 * self.low:+.1f} to {100 * self.high:+.1f}, n = {self.n})"

    def times(self) -> str:
        """As people read a ratio: `1.52x (1.40 to 1.64, n = 3)`."""
        return f"{self.mean:.2f}x ({self.low:.2f} to {self.high:.2f}, n = {self.n})"


@dataclass(frozen=True)
class MoeVersusDense:
    """The comparison.

    Differences are paired: both networks of a seed begin alike and read the same batches. They are relative to the
    dense twin, of the mean of the domains' held-out bits per byte, so below zero is better.

    Attributes:
        cards: One training per seed, in order of the seeds; alike but for the seed.
    """

    cards: tuple[LanguageCard, ...]

    def __post_init__(self) -> None:
        if not self.cards:
            raise ComparisonError("there are no trainings to compare; materialize language_models")
        seeds = [card.config.seed for card in self.cards]
        if seeds != sorted(set(seeds)):
            raise ComparisonError(f"the trainings have the seeds {seeds}; give each once, in their order")
        first = self.cards[0]
        for card in self.cards:
            if (card.config.with_seed(first.config.seed), card.text) != (first.config, first.text):
                raise ComparisonError(
                    f"the trainings of seeds {first.config.seed} and {card.config.seed} differ in settings or text; "
                    "materialize language_models for all seeds"
                )

    @property
    def proves_nothing(self) -> str | None:
        """Why the results say nothing about experts; None where the trainings were long enough."""
        return self.cards[0].proves_nothing

    @property
    def equal_steps(self) -> Interval:
        """Relative difference after the same steps on the same batches."""
        return self._over_seeds(lambda card: card.equal_steps)

    @property
    def equal_time(self) -> Interval:
        """Relative difference to a twin that was trained for as long as the model with experts took."""
        return self._over_seeds(lambda card: card.equal_time)

    @property
    def domains(self) -> Mapping[str, Interval]:
        """Relative difference after the same steps, of each domain."""
        return {
            name: self._over_seeds(lambda card, name=name: _difference(card, name))  # type: ignore[misc]
            for name in self.cards[0].dense.held_out.domains
        }

    @property
    def step_cost(self) -> Interval:
        """Time of a step of the model with experts over that of the twin."""
        return self._over_seeds(lambda card: card.step_cost_ratio)

    @property
    def speed_to_quality(self) -> Interval | None:
        """Time of the twin's training over the time after which the model with experts is as good.

        None where the model with experts is not as good in every seed.
        """
        ratios = [card.speed_to_quality for card in self.cards]
        reached = [ratio for ratio in ratios if ratio is not None]
        return Interval.of(reached) if len(reached) == len(ratios) else None

    @property
    def dead_experts(self) -> int:
        """Experts with less than a tenth of their fair load of the held-out text, over all layers and seeds."""
        return sum(card.dead_experts for card in self.cards)

    def table(self) -> pa.Table:
        """One row per seed, in words that a table in the UI needs no legend for."""
        return pa.Table.from_pylist([_row(card) for card in self.cards])

    def sentence(self) -> str:
        """What was found, and first of all when it proves nothing."""
        speed = self.speed_to_quality
        found = (
            f"held-out bits per byte against the dense twin: {self.equal_steps.percent()} at equal steps, "
            f"{self.equal_time.percent()} at equal time, "
            + ("the twin's quality is not reached in every seed" if speed is None else f"{speed.times()} to quality")
        )
        return found if self.proves_nothing is None else f"PROVES NOTHING ({self.proves_nothing}): {found}"

    def _over_seeds(self, value: Callable[[LanguageCard], float]) -> Interval:
        return Interval.of([value(card) for card in self.cards])

    def to_parts(self) -> Mapping[str, Part]:
        """The canonical JSON of each card, as "seed-0" and on."""
        return {f"{_PREFIX}{card.config.seed}": card.to_json() for card in self.cards}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put it together; raises ComparisonError or LanguageCardError when the parts are another thing's."""
        cards = [
            LanguageCard.from_json(part)
            for name, part in parts.items()
            if name.startswith(_PREFIX) and isinstance(part, bytes)
        ]
        if len(cards) != len(parts):
            raise ComparisonError(f"a comparison has one part of JSON for each seed, got the parts {sorted(parts)}")
        return cls.of(cards)

    @classmethod
    def of(cls, cards: Sequence[LanguageCard]) -> Self:
        """Compare trainings in any order; raises ComparisonError for ones that cannot be compared."""
        return cls(tuple(sorted(cards, key=lambda card: card.config.seed)))


def _difference(card: LanguageCard, domain: str) -> float:
    return card.moe.held_out.domains[domain] / card.dense.held_out.domains[domain] - 1


def _row(card: LanguageCard) -> dict[str, float | int | None]:
    reached = card.reaches_quality
    return {
        "seed": card.config.seed,
        "experts": card.moe.held_out.mean,
        "dense": card.dense.held_out.mean,
        "dense, equal time": card.dense_longer.held_out.mean,
        "at equal steps": card.equal_steps,
        "at equal time": card.equal_time,
        "cost of a step": card.step_cost_ratio,
        "steps to quality": None if reached is None else reached[0],
        "speed to quality": card.speed_to_quality,
        "dead experts": card.dead_experts,
        "max / mean load": max(layer.max_over_mean for layer in card.balance),
        "entropy of load": min(layer.normalised_entropy for layer in card.balance),
    }
