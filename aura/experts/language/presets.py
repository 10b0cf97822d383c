"""How a small language model with experts and its dense twin are built and trained: plain values, nothing heavy.

Belongs here: the sizes, what they cost in parameters and operations, and when a training proves nothing. Does not: the
networks (`aura.experts.language.pair`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from aura.experts.card import Cost
from aura.experts.config import require

LEAST_TOKENS = 4_000_000
"""Tokens below which a training says nothing about experts: each expert sees k/E of them.

How soon a mixture overtakes its dense twin depends on its size. One of 8 experts, one for each token, of the width 64
is behind with 1.6 million tokens and ahead with 2.0; of the width 128 with 4 layers it is behind with 0.3 million. The
preset `small` leads a little in each of three seeds from the first measurement, 0.4 million, on; that the lead is not
chance shows from 1.6 million (95 % interval over the seeds), and it grows from 2.1 % there to 3.4 % with 2.0 million
and 5.7 % with the 4.1 million of the whole training. This bound keeps twice the distance from where the slowest of
these crosses; `small` lies just above it, since it has to fit into 20 minutes."""

FRESH_PASSES = 4
"""Passes over a text in which it is worth almost as much as new text (Muennighoff et al., arXiv 2305.16264)."""

SEEDS = (0, 1, 2)
"""The seeds of a comparison: fewer give no interval worth the name."""


@dataclass(frozen=True)
class LanguageConfig:
    """Settings of `train_language_models`.

    Attributes:
        preset: Name of the preset that they began as.
        vocabulary: Tokens of the tokenizer.
        domain_bytes: Bytes of text from each domain.
        width: Model width d.
        layers: Decoder layers, all of them with experts.
        heads: Attention heads; they share the width.
        hidden: Hidden width of the dense twin's block I; `experts_per_token` experts together are as wide.
        experts: Experts of a layer E.
        experts_per_token: Choices of a token k.
        balancing: "loss" evens out the load by a loss, "bias" by a bias on the selection alone.
        load_balance_weight: Weight of the load-balancing loss of each layer, for balancing "loss".
        z_loss_weight: Weight of the router z-loss of each layer.
        bias_rate: Step of the bias, for balancing "bias".
        sequence: Tokens of a sequence; all but the first are predicted from those before.
        batch: Sequences of a step.
        steps: Steps of the comparison at equal steps.
        learning_rate: Peak of AdamW, for both; a cosine takes it to zero.
        router_rate: The routers' learning rate over the others'.
        warmup_steps: Steps over which the learning rate rises.
        weight_decay: Decoupled weight decay of AdamW, on matrices but for the routers.
        initial_scale: Standard deviation of the initial weights.
        evaluate_every: Steps between two measurements of the held-out text.
        held_out_sequences: Sequences of each domain that such a measurement reads; the last one reads all.
        seed: Seed of the initial weights and of the order of the text.
        threads: CPU threads; part of the configuration because sums may round differently with others.
        device: Where it is trained: "cpu", or "cuda", where the same seed need not give the same bits.
    """

    preset: str = "small"
    vocabulary: int = 1024
    domain_bytes: int = 4_000_000
    width: int = 64
    layers: int = 2
    heads: int = 4
    hidden: int = 256
    experts: int = 32
    experts_per_token: int = 2
    balancing: Literal["loss", "bias"] = "bias"
    load_balance_weight: float = 0.01
    z_loss_weight: float = 0.001
    bias_rate: float = 0.001
    sequence: int = 128
    batch: int = 32
    steps: int = 1000
    learning_rate: float = 3e-3
    router_rate: float = 1.0
    warmup_steps: int = 0
    weight_decay: float = 0.1
    initial_scale: float = 0.02
    evaluate_every: int = 100
    held_out_sequences: int = 64
    seed: int = 0
    threads: int = 1
    device: Literal["cpu", "cuda"] = "cpu"

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "batch", "steps", "evaluate_every", "held_out_sequences"):
            require(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("learning_rate", "router_rate", "initial_scale"):
            require(self, name, 0 < getattr(self, name) < math.inf, "a finite number above 0")
        for name in ("load_balance_weight", "z_loss_weight", "bias_rate", "weight_decay"):
            require(self, name, 0 <= getattr(self, name) < math.inf, "a finite number from 0")
        require(self, "sequence", self.sequence >= 2, "at least 2")
        require(self, "experts", self.experts >= 2, "at least 2")
        require(self, "experts_per_token", 1 <= self.experts_per_token < self.experts, "from 1 to below experts")
        require(self, "hidden", self.hidden % self.experts_per_token == 0, "a multiple of experts_per_token")
        require(self, "width", self.width % (2 * self.heads) == 0, "a multiple of twice the heads")
        require(self, "warmup_steps", 0 <= self.warmup_steps <= self.steps, "from 0 to the steps")
        require(self, "seed", self.seed >= 0, "at least 0")
        require(self, "threads", self.threads >= 1, "at least 1")

    @property
    def expert_hidden(self) -> int:
        """Hidden width of one expert, so that a token's experts together are as wide as the twin's block."""
        return self.hidden // self.experts_per_token

    @property
    def tokens(self) -> int:
        """Tokens that each of the two is trained on."""
        return self.steps * self.batch * self.sequence

    def proves_nothing(self, text_tokens: int) -> str | None:
        """Why a training with these settings says nothing about experts; None where it is long enough.

        Args:
            text_tokens: Tokens of the text to learn from, which is read again when it ends.
        """
        if self.tokens < LEAST_TOKENS:
            return (
                f"{self.tokens:,} tokens prove nothing: below about {LEAST_TOKENS:,} each expert has seen too few, and "
                "the dense twin may be ahead whatever a longer training would show"
            )
        if FRESH_PASSES * text_tokens < LEAST_TOKENS:
            return (
                f"{self.tokens:,} tokens read from a text of {text_tokens:,} prove nothing: after about {FRESH_PASSES} "
                f"passes little is learned but the text by heart; give one of {LEAST_TOKENS // FRESH_PASSES:,} tokens"
            )
        return None

    def with_sizes(self, **sizes: int | None) -> LanguageConfig:
        """The same with other values where one is given; raises ValueError for one that is out of its range."""
        return replace(self, **{name: size for name, size in sizes.items() if size is not None})  # type: ignore[arg-type]

    def with_seed(self, seed: int) -> LanguageConfig:
        """The same with another seed."""
        return replace(self, seed=seed)


PRESETS: Mapping[str, LanguageConfig] = {
    "small": LanguageConfig(),
    "medium": LanguageConfig(
        "medium", vocabulary=4096, domain_bytes=64_000_000, width=256, layers=6, heads=8, hidden=1024, experts=32,
        experts_per_token=4, sequence=256, batch=64, steps=6000, learning_rate=1e-3, warmup_steps=200,
        evaluate_every=300, device="cuda",
    ),
    "large": LanguageConfig(
        "large", vocabulary=16384, domain_bytes=256_000_000, width=512, layers=8, heads=8, hidden=2048, experts=64,
        experts_per_token=8, sequence=512, batch=64, steps=20_000, learning_rate=6e-4, warmup_steps=500,
        evaluate_every=1000, device="cuda",
    ),
    "tiny": LanguageConfig(
        "tiny", vocabulary=300, domain_bytes=60_000, width=16, layers=1, heads=2, hidden=32, experts=4, sequence=16,
        batch=4, steps=12, warmup_steps=2, evaluate_every=6, held_out_sequences=8,
    ),
}  # fmt: skip
"""`small` is for two cores, `medium` and `large` for a GPU and more text, `tiny` for tests: it proves nothing."""


@dataclass(frozen=True)
class PairCost:
    """What a token's forward pass costs in either network; attention over the context, alike in both, is left out.

    Attributes:
        moe: Of the model with experts; what is active are its k experts and the router.
        dense: Of the twin.
        router_parameters: Parameters of the routers, which the twin does not have.
        router_flops: Their operations: what the model with experts computes more.
    """

    moe: Cost
    dense: Cost
    router_parameters: int
    router_flops: int

    @classmethod
    def of(cls, config: LanguageConfig, vocabulary: int) -> PairCost:
        """Counted from the sizes: two operations for each multiply-add of a matrix; norms and softmax are left out."""
        d, layers = config.width, config.layers
        head = d // config.heads
        attention, norms = 4 * d * d, 2 * d + 2 * head
        block = 3 * d * config.hidden
        one_expert = 3 * d * config.expert_hidden
        router = layers * config.experts * d
        rest = 2 * vocabulary * d + d + layers * (attention + norms)
        dense_flops = 2 * (vocabulary * d + layers * (attention + block))
        dense = rest + layers * block
        moe = rest + router + layers * config.experts * one_expert
        active = rest + router + layers * config.experts_per_token * one_expert
        return cls(Cost(moe, active, dense_flops + 2 * router), Cost(dense, dense, dense_flops), router, 2 * router)
