"""What fusion gains over the better of two modalities when one or both of them are degraded.

Held-out images and sounds of one concept are paired by lot; each pair is looked up with its image alone, its sound
alone, and both fused. The rule of fusion is chosen on validation items only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aura.embeddings.encoder import Vectors
from aura.embeddings.joint.card import read_json
from aura.embeddings.joint.data import JointData
from aura.embeddings.joint.degradation import covered_image, noisy_sound
from aura.embeddings.joint.errors import NotTrainableError
from aura.embeddings.joint.evaluation import Embedded, Share, prototypes_of
from aura.embeddings.joint.features import bytes_of
from aura.embeddings.joint.fusion import fuse, margins
from aura.embeddings.joint.model import JointModel
from aura.embeddings.joint.prepare import Divided, Prepared, divide, prepare
from aura.embeddings.joint.split import HeldOut, Side
from aura.tiers.canonical_json import canonical_json

FusionRule = Literal["mean", "margin"]
RULES: tuple[FusionRule, ...] = ("mean", "margin")
"""The simplest first: it is taken unless another one does better on the validation items."""

MAX_PAIRS = 600
RESAMPLES = 2_000


@dataclass(frozen=True)
class Condition:
    """How bad image and sound are.

    Attributes:
        covered: Share of the image's area that is covered; 0 for a clean image.
        snr_db: Signal to noise ratio of the sound; None for a clean sound.
    """

    covered: float = 0.0
    snr_db: float | None = None

    @property
    def degrades_one(self) -> bool:
        """Whether one of the two is clean and the other is not."""
        return bool(self.covered) != (self.snr_db is not None)

    def __str__(self) -> str:
        image = f"image {self.covered:.0%} covered" if self.covered else "clean image"
        sound = "clean sound" if self.snr_db is None else f"sound at {self.snr_db:g} dB"
        return f"{image}, {sound}"


CONDITIONS = (
    Condition(),
    Condition(snr_db=10.0),
    Condition(snr_db=0.0),
    Condition(covered=0.25),
    Condition(covered=0.5),
    Condition(covered=0.25, snr_db=10.0),
    Condition(covered=0.5, snr_db=0.0),
)


@dataclass(frozen=True)
class Gain:
    """The result under one condition: names that are found.

    Attributes:
        condition: How bad image and sound are.
        image: Recall@1 with the image alone.
        audio: Recall@1 with the sound alone.
        fused: Recall@1 with both.
        chance: Expected with an order by lot.
        gain: fused less the better of the two.
        low: Lower end of the gain's 95 % interval, from resampled pairs.
        high: Upper end of it.
    """

    condition: Condition
    image: Share
    audio: Share
    fused: Share
    chance: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class FusionReport:
    """What fusion gains.

    Attributes:
        rule: The chosen rule.
        validation: Mean recall@1 of each rule over all degraded conditions, on validation pairs.
        pairs: Held-out pairs.
        gains: One entry per condition.
    """

    rule: FusionRule
    validation: tuple[tuple[FusionRule, float], ...]
    pairs: int
    gains: tuple[Gain, ...]

    def to_json(self) -> bytes:
        """Canonical JSON, UTF-8."""
        return canonical_json(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> FusionReport:
        """Read it back; raises JointModelError for anything else."""
        return read_json(cls, text, "a report of fusion")


def fusion_gain(
    model: JointModel,
    data: JointData,
    *,
    held_out: HeldOut | None = None,
    conditions: Sequence[Condition] = CONDITIONS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> FusionReport:
    """Measure fusion on the held-out items of a model.

    Args:
        model: A model of texts, images and sounds.
        data: What it was trained from.
        held_out: What was held out of its training by choice.
        conditions: How bad images and sounds are made.
        seed: Seed of pairs and degradation.
        progress: Called with (conditions done, conditions in all), on validation and held-out pairs.

    Raises:
        NotTrainableError: The model lacks a modality, or there are no pairs.
        ValueError: The model was trained from other data.
    """
    if set(model.modalities) != {"text", "image", "audio"}:
        raise NotTrainableError(
            f"what fusion gains is measured with texts, images and sounds; the model has {', '.join(model.modalities)}"
        )
    prepared = prepare(data, model.card.config)
    divided = divide(prepared, model.card.config, held_out)
    if divided.digest != model.card.data_digest:
        raise ValueError(
            "the model was trained from other items, or others were held out; give what it was trained from"
        )
    total, done = 2 * len(conditions), 0
    measured: dict[Side, list[_Looked]] = {}
    for side in (Side.VALIDATION, Side.HELD_OUT):
        pairs = _Pairs.drawn(model, prepared, divided, side, seed)
        measured[side] = []
        for condition in conditions:
            measured[side].append(_looked_up(pairs, condition, seed))
            done += 1
            if progress is not None:
                progress(done, total)
    degraded = [entry for entry in measured[Side.VALIDATION] if entry.condition != Condition()]
    scores = tuple((rule, float(np.mean([entry.hits[rule] for entry in degraded]))) for rule in RULES)
    rule = max(scores, key=lambda score: score[1])[0]
    gains = tuple(entry.gain(rule, seed) for entry in measured[Side.HELD_OUT])
    return FusionReport(rule, scores, len(measured[Side.HELD_OUT][0].concepts), gains)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Images and sounds that belong together, and the texts they are looked up with."""

    model: JointModel
    images: tuple[bytes, ...]
    sounds: tuple[bytes, ...]
    concepts: NDArray[np.int64]
    names: NDArray[np.int64]
    prototypes: Vectors

    @classmethod
    def drawn(cls, model: JointModel, prepared: Prepared, divided: Divided, side: Side, seed: int) -> _Pairs:
        """Every sound of a side with an image of its concept, drawn by lot."""
        rng = np.random.default_rng((seed, side))
        rows = {modality: divided.rows(modality, side) for modality in ("image", "audio")}
        concepts = {modality: prepared.items[modality].concepts[own] for modality, own in rows.items()}
        sounds = rng.permutation(np.flatnonzero(np.isin(concepts["audio"], concepts["image"])))[:MAX_PAIRS]
        if not len(sounds):
            raise NotTrainableError(f"no {side.name.lower()} image and sound are about the same thing")
        images = [rng.choice(np.flatnonzero(concepts["image"] == concepts["audio"][sound])) for sound in sounds]
        items = prepared.data.items
        texts = divided.rows("text", Side.NAME, side)
        encoded = model.encoder("text").encode([items["text"][row].content for row in texts])
        names, prototypes = prototypes_of(Embedded(encoded.vectors, prepared.items["text"].concepts[texts]))
        return cls(
            model=model,
            images=tuple(bytes_of(items["image"][rows["image"][row]].content) for row in images),
            sounds=tuple(bytes_of(items["audio"][rows["audio"][row]].content) for row in sounds),
            concepts=concepts["audio"][sounds],
            names=names,
            prototypes=prototypes,
        )


@dataclass(frozen=True, eq=False)
class _Looked:
    """Which pairs were found under one condition, per way to ask."""

    condition: Condition
    concepts: NDArray[np.int64]
    hits: Mapping[str, NDArray[np.bool_]]
    chance: float

    def gain(self, rule: FusionRule, seed: int) -> Gain:
        asked = np.stack([self.hits["image"], self.hits["audio"], self.hits[rule]]).astype(np.float64)
        resampled = np.random.default_rng(seed).integers(asked.shape[1], size=(RESAMPLES, asked.shape[1]))
        image, audio, fused = asked[:, resampled].mean(axis=2)
        low, high = np.percentile(fused - np.maximum(image, audio), [2.5, 97.5])
        shares = [Share.of(int(row.sum()), len(row)) for row in asked]
        return Gain(
            condition=self.condition,
            image=shares[0],
            audio=shares[1],
            fused=shares[2],
            chance=self.chance,
            gain=shares[2].value - max(shares[0].value, shares[1].value),
            low=float(low),
            high=float(high),
        )


def _looked_up(pairs: _Pairs, condition: Condition, seed: int) -> _Looked:
    hits = {
        name: pairs.names[(vectors @ pairs.prototypes.T).argmax(axis=1)] == pairs.concepts
        for name, vectors in _vectors(pairs, condition, seed).items()
    }
    return _Looked(condition, pairs.concepts, hits, 1 / len(pairs.names))


def _vectors(pairs: _Pairs, condition: Condition, seed: int) -> dict[str, Vectors]:
    """Vectors of every pair by image, by sound and by each rule of fusion."""
    rng = np.random.default_rng((seed, 7))
    rate = pairs.model.card.features.rate
    images: Sequence[bytes] = pairs.images
    sounds: Sequence[bytes] = pairs.sounds
    if condition.covered:
        images = [covered_image(content, condition.covered, rng) for content in images]
    if condition.snr_db is not None:
        sounds = [noisy_sound(content, condition.snr_db, rate, rng) for content in sounds]
    alone = {
        "image": pairs.model.encoder("image").encode(images).vectors,
        "audio": pairs.model.encoder("audio").encode(sounds).vectors,
    }
    confidence = {name: margins(vectors, pairs.prototypes) for name, vectors in alone.items()}
    return {**alone, "mean": fuse(alone), "margin": fuse(alone, confidence)}
