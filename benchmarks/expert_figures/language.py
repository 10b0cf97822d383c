"""A language model with experts beside its dense twin: bits per byte at equal steps and equal time, time to quality.

The preset `small` on the text that is installed, three seeds, each in a process of its own with one thread. Both
networks of a seed train in turns, step by step, on the same batches; then a twin trains for as long as the model with
experts took. Time is CPU time. A figure is the mean of the seeds, with a row for the end of its 95 % interval that has
to be on the right side (Student's t over paired differences).

The goals are the figures of two reference models of the same width on text of the same kind: 16 experts of half the
width, two for each token, need 4.6 % fewer bits than their twin after 1,000 steps of 4,096 tokens and are 1.30 times as
fast to quality; 8 experts, one for each token, need 2.2 % fewer at equal time after 1,500 steps. Each is of one seed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from report import Figure, as_json, figure, tell

from aura.experts.language.card import LanguageCard
from aura.experts.language.comparison import Interval, MoeVersusDense
from aura.experts.language.presets import PRESETS, SEEDS
from aura.experts.language.text import read_text
from aura.experts.language.tokens import LanguageText, tokenize
from aura.tiers.values import Part

PRESET = PRESETS["small"]
EQUAL_STEPS, EQUAL_TIME, SPEED = -0.046, -0.022, 1.30
DENSE = "dense twin"


def figures(data: Path | None, runs: int) -> list[Figure]:
    """Train and compare: takes about 27 minutes of CPU time; a process for each core."""
    del data, runs
    text = tokenize(read_text(domain_bytes=PRESET.domain_bytes), PRESET.vocabulary)
    tell(f"{text.card.training_tokens:,} tokens of {', '.join(domain.name for domain in text.card.domains)}")
    parts = dict(text.to_parts())
    with ProcessPoolExecutor(min(len(SEEDS), os.cpu_count() or 1), get_context("spawn")) as pool:
        cards = list(pool.map(_trained, [parts] * len(SEEDS), SEEDS))
    return figures_of(MoeVersusDense.of([LanguageCard.from_json(card) for card in cards]))


def figures_of(comparison: MoeVersusDense) -> list[Figure]:
    """The rows of a comparison that has been made."""
    tell(comparison.sentence())
    cards = comparison.cards
    steps = f"language model, {cards[0].config.steps} steps"
    at_equal_steps, at_equal_time = [card.equal_steps for card in cards], [card.equal_time for card in cards]
    return [
        *_bits(f"{steps}, bits per byte at equal steps", comparison.equal_steps, at_equal_steps, EQUAL_STEPS),
        *_bits(f"{steps}, bits per byte at equal time", comparison.equal_time, at_equal_time, EQUAL_TIME),
        *_to_quality(f"{steps}, speed to quality", comparison),
        figure(f"{steps}, cost of a step", [card.step_cost_ratio for card in cards], "x", against=DENSE),
        figure(f"{steps}, dead experts", [card.dead_experts for card in cards], "experts"),
    ]


def _bits(name: str, interval: Interval, seeds: Sequence[float], goal: float) -> list[Figure]:
    return [
        figure(name, seeds, "relative", value=interval.mean, against=DENSE, goal=goal),
        figure(f"{name}, upper end", [interval.high], "relative", against=DENSE, goal=0.0),
    ]


def _to_quality(name: str, comparison: MoeVersusDense) -> list[Figure]:
    """In how many seeds the twin's quality is reached and, where that is in all of them, how fast."""
    speeds = [speed for card in comparison.cards if (speed := card.speed_to_quality) is not None]
    seeds = len(comparison.cards)
    rows = [figure(f"{name}, seeds that reach it", [len(speeds)], "seeds", goal=seeds, at_least=True)]
    speed = comparison.speed_to_quality
    if speed is None:
        tell(f"no {name}: the twin's quality is reached in {len(speeds)} of {seeds} seeds")
        return rows
    return [
        *rows,
        figure(name, speeds, "x", value=speed.mean, against=DENSE, goal=SPEED, at_least=True),
        figure(f"{name}, lower end", [speed.low], "x", against=DENSE, goal=1.0, at_least=True),
    ]


def _trained(parts: dict[str, Part], seed: int) -> bytes:
    """The card of one seed; its own process."""
    from aura.experts.language.training import train_language_models

    def progress(done: int, total: int) -> None:
        if done % 200 == 0:
            tell(f"seed {seed}: {done} of {total} steps")

    config = PRESET.with_seed(seed)
    return train_language_models(LanguageText.from_parts(parts), config, progress=progress).card.to_json()


if __name__ == "__main__":
    # A file with the cards of trainings that have been made: {"cards": [...]}.
    kept = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["cards"]
    as_json("experts", figures_of(MoeVersusDense.of([LanguageCard.from_json(json.dumps(card)) for card in kept])))
