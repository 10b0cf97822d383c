"""How a joint model is built and trained. Plain values, loads no heavy library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

from aura.corpus.rows import MODALITIES

Pair = tuple[str, str]

ALL_PAIRS: tuple[Pair, ...] = tuple(combinations(MODALITIES, 2))
"""Text and image, text and audio, image and audio."""


@dataclass(frozen=True)
class JointConfig:
    """Settings of `train_joint_model`.

    Attributes:
        pairs: Pairs of modalities that the loss compares, of those that the data has; a pair left out is never seen
            together, and still measured.
        width: Width of the towers and dimensions of the vectors.
        layers: Transformer layers of each tower.
        heads: Attention heads of each layer; a divisor of the width.
        steps: Batches to train on.
        batch: Concepts drawn for a batch; each gives one item of every modality that it has.
        learning_rate: Peak learning rate of AdamW, after a warm-up of 5 % of the steps; a cosine takes it to zero.
        weight_decay: Decoupled weight decay of AdamW.
        averaging: Share that a step leaves of the running average of the weights, which is what the model gets; 0 for
            the weights of the last step.
        temperature: Initial temperature of the loss; it is learnt.
        augmentation: Strength of the random changes of training items; 0 is none, 1 what suits short words and small
            images.
        mel_bins: Frequency bands of a sound.
        max_window_s: Longest part of a sound in seconds that the model hears at once; longer sounds are heard in parts.
        max_image_size: Largest side of an image in pixels; images are scaled to a square.
        max_text_bytes: Longest text in bytes of UTF-8; the rest of a longer one is not read.
        held_out_share: Share of the items that is held out.
        validation_share: Share of the items that decides how modalities are fused; not trained on either.
        seed: Seed of the initial weights, the batches and the augmentation. The split does not depend on it.
        threads: CPU threads of the training; part of the configuration because sums may round differently with others.
    """

    pairs: tuple[Pair, ...] = ALL_PAIRS
    width: int = 64
    layers: int = 2
    heads: int = 4
    steps: int = 800
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    averaging: float = 0.99
    temperature: float = 0.1
    augmentation: float = 1.0
    mel_bins: int = 32
    max_window_s: float = 4.0
    max_image_size: int = 32
    max_text_bytes: int = 94
    held_out_share: float = 0.2
    validation_share: float = 0.1
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        at_least = {"width": 2, "layers": 1, "heads": 1, "steps": 1, "batch": 2, "mel_bins": 4, "max_image_size": 8}
        for name, least in {**at_least, "max_text_bytes": 1, "threads": 1, "seed": 0}.items():
            self._require(name, getattr(self, name) >= least, f"at least {least}")
        self._require("width", self.width % (2 * self.heads) == 0, f"a multiple of twice the {self.heads} heads")
        for name in ("learning_rate", "temperature", "max_window_s"):
            self._require(name, 0 < getattr(self, name) < math.inf, "a finite number above 0")
        for name in ("weight_decay", "augmentation"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "a finite number from 0")
        self._require("averaging", 0 <= self.averaging < 1, "a number from 0 to below 1")
        self._require("held_out_share", 0 < self.held_out_share < 1, "a number above 0 and below 1")
        self._require(
            "validation_share",
            0 < self.validation_share < 1 - self.held_out_share,
            f"a number above 0 that leaves items beside the {self.held_out_share:g} held out",
        )
        known = self.pairs and set(self.pairs) <= set(ALL_PAIRS) and len(set(self.pairs)) == len(self.pairs)
        self._require("pairs", bool(known), f"some of {ALL_PAIRS}, each once")

    def _require(self, name: str, met: bool, expected: str) -> None:  # noqa: FBT001 - the condition itself
        if not met:
            raise ValueError(f"JointConfig.{name} is {getattr(self, name)}; give {expected}")
