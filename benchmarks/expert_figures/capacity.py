"""Batch-priority routing beside dropping in the order of arrival: what is left of the quality that drops cost.

A language model with 8 experts, one for each token, is trained without drops on 4.1 million tokens of the text that is
installed, enough for `LanguageConfig.proves_nothing`. Then each expert gets 1.25 times the fair share of places, and
the held-out text comes in batches of one domain, which is where a load is uneven: dropless, in the order of arrival,
and by priority (V-MoE, arXiv 2106.05974). What counts is the share of the bits per byte lost to drops that priority
brings back. All see the same batches and the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from report import Figure, figure, tell

from aura.experts.language.batches import Batches
from aura.experts.language.evaluation import bits_per_byte
from aura.experts.language.model import AuraMoeForCausalLM
from aura.experts.language.pair import build_moe
from aura.experts.language.presets import PRESETS, LanguageConfig
from aura.experts.language.text import read_text
from aura.experts.language.tokens import LanguageText, tokenize

CONFIG = replace(PRESETS["small"], experts=8, experts_per_token=1)
FACTOR, GOAL = 1.25, 0.4


def figures(data: Path | None, runs: int) -> list[Figure]:
    """Train one model for each run and compare: about five minutes of CPU time each."""
    del data
    text = tokenize(read_text(domain_bytes=CONFIG.domain_bytes), CONFIG.vocabulary)
    if (reason := CONFIG.proves_nothing(text.card.training_tokens)) is not None:
        tell(f"capacity: {reason}")
    return report([compare(trained(text, CONFIG.with_seed(seed)), text, CONFIG.sequence) for seed in range(runs)])


def report(compared: Sequence[tuple[tuple[float, float, float], float]]) -> list[Figure]:
    """The figures of models, each with what `compare` says of it; without the goal's where none lost anything."""
    shares = [share for bits, _ in compared if (share := recovered(*bits)) is not None]
    name = f"language model at capacity {FACTOR}"
    goal = f"{name}, share of the lost quality that batch priority recovers"
    if len(shares) < len(compared):
        tell(f"capacity: {len(compared) - len(shares)} of {len(compared)} models lost nothing to drops")
    return [
        *([figure(goal, shares, "ratio", against="dropping by arrival", goal=GOAL, at_least=True)] if shares else []),
        figure(f"{name}, choices dropped", [dropped for _, dropped in compared], "ratio"),
        *(
            figure(f"{name}, bits per byte, {way}", [bits[number] for bits, _ in compared], "bits")
            for number, way in enumerate(("dropless", "by arrival", "by priority"))
        ),
    ]


def recovered(free: float, by_arrival: float, by_priority: float) -> float | None:
    """The share of the bits per byte lost to drops that priority brings back; None where nothing was lost."""
    lost = by_arrival - free
    return (by_arrival - by_priority) / lost if lost > 0 else None


def compare(model: AuraMoeForCausalLM, text: LanguageText, sequence: int) -> tuple[tuple[float, float, float], float]:
    """Bits per byte dropless, by arrival and by priority, and the share of choices that were dropped.

    Args:
        model: Any model of the type `aura_moe`.
        text: What it has not seen, in its tokens; batches are of one domain.
        sequence: Tokens of a sequence.
    """
    sent = kept = 0

    def count() -> None:
        nonlocal sent, kept
        for routing in model.routings():
            sent += int(routing.load().sum())
            kept += int(routing.kept_load().sum())

    def measure(factor: float | None, observe: Callable[[], None], *, batch_priority: bool) -> float:
        model.set_capacity(factor, batch_priority=batch_priority)
        return bits_per_byte(model, text, sequence=sequence, observe=observe).mean

    free = measure(None, lambda: None, batch_priority=True)
    by_arrival = measure(FACTOR, lambda: None, batch_priority=False)
    by_priority = measure(FACTOR, count, batch_priority=True)
    return (free, by_arrival, by_priority), 1 - kept / sent


def trained(text: LanguageText, config: LanguageConfig) -> AuraMoeForCausalLM:
    """The model with experts alone, on the batches and with the learning rates of the language models' training.

    The weight decay is AdamW's own 0.01, of all weights.
    """
    model = build_moe(config, text.card.vocabulary).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95))
    batches = Batches(text, config)
    for step in range(config.steps):
        optimizer.param_groups[0]["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / config.steps))
        batch = batches.of(step)
        answer = model(input_ids=batch, labels=batch)
        optimizer.zero_grad()
        answer.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.update_balance()
        if step % 100 == 99:
            tell(
                f"seed {config.seed}: step {step + 1} of {config.steps}, {answer.cross_entropy.item():.3f} nats a token"
            )
    return model
