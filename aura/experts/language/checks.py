"""Checks of meaning on tokenized text, trained language models and their comparison."""

from __future__ import annotations

import math

import numpy as np

from aura.experts.language.comparison import MoeVersusDense
from aura.experts.language.models import LanguageModels
from aura.experts.language.presets import SEEDS
from aura.experts.language.tokens import LanguageText
from aura.measure.checks import CheckResult


def tokens_stand_for_every_byte(text: LanguageText) -> CheckResult:
    """The tokens of every domain together are as long as its text."""
    sizes = text.token_bytes()
    wrong = {
        domain.name: (int(sizes[tokens].sum()), expected)
        for domain in text.card.domains
        for tokens, expected in (
            (np.asarray(text.training[domain.name]), domain.training_bytes),
            (np.asarray(text.held_out[domain.name]), domain.held_out_bytes),
        )
        if int(sizes[tokens].sum()) != expected
    }
    return CheckResult(
        passed=not wrong,
        figures={"domains_not_whole": float(len(wrong)), "training_tokens": float(text.card.training_tokens)},
        description=f"bytes of the tokens and of the text differ in {wrong}" if wrong else "no byte is lost",
    )


def better_than_no_model(models: LanguageModels) -> CheckResult:
    """Both models need fewer than the eight bits that a byte takes as it is."""
    bound = 8.0
    worst = max(models.card.moe.held_out.mean, models.card.dense.held_out.mean)
    return CheckResult(
        passed=math.isfinite(worst) and worst < bound,
        figures={"experts": models.card.moe.held_out.mean, "dense": models.card.dense.held_out.mean},
        description=f"the worse of both needs {worst:.3f} bits per byte; as it is, it takes {bound:g}",
    )


def no_expert_is_dead(models: LanguageModels) -> CheckResult:
    """No expert gets less than a tenth of its fair share of the held-out text."""
    layers = models.card.balance
    dead = models.card.dead_experts
    return CheckResult(
        passed=dead == 0,
        figures={
            "dead_experts": float(dead),
            "max_over_mean": max(layer.max_over_mean for layer in layers),
            "normalised_entropy": min(layer.normalised_entropy for layer in layers),
        },
        description=f"{dead} of {len(layers) * len(layers[0].load)} experts have less than a tenth of a fair load",
    )


def all_seeds_are_done(comparison: MoeVersusDense) -> CheckResult:
    """Three seeds were trained."""
    done = [str(card.config.seed) for card in comparison.cards]
    missing = [seed for seed in map(str, SEEDS) if seed not in done]
    return CheckResult(
        passed=not missing,
        figures={"seeds": float(len(done))},
        description=f"trained with the seeds {', '.join(done)}"
        + (f"; {', '.join(missing)} missing" if missing else ""),
    )


def enough_tokens(comparison: MoeVersusDense) -> CheckResult:
    """The training was long enough, and on enough text, to prove anything."""
    reason = comparison.proves_nothing
    card = comparison.cards[0]
    return CheckResult(
        passed=reason is None,
        figures={"tokens": float(card.config.tokens), "passes": card.passes},
        description=reason or f"each model was trained on {card.config.tokens:,} tokens, {card.passes:.1f} passes",
    )


def better_at_equal_steps(comparison: MoeVersusDense) -> CheckResult:
    """The interval of the difference at equal steps lies below zero."""
    found = comparison.equal_steps
    bounded = {"low": found.low, "high": found.high} if found.n > 1 else {}
    return CheckResult(
        passed=found.high < 0,
        figures={"difference": found.mean, "n": float(found.n), **bounded},
        description=comparison.sentence(),
    )
