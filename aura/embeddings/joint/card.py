"""The card of a joint model: how it was made, on what, and what it reaches.

A card is plain values. Its JSON is canonical (sorted keys, no spaces), so that the same training gives the same bytes;
what differs from run to run, such as the seconds it took, is kept apart in `TrainingCost`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from aura.embeddings.joint.config import JointConfig
from aura.embeddings.joint.data import PairedBy
from aura.embeddings.joint.errors import JointModelError
from aura.embeddings.joint.evaluation import Evaluation
from aura.embeddings.joint.sizes import FeatureSettings
from aura.tiers.canonical_json import canonical_json, parsed

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class ModalityItems:
    """Where the items of one modality went.

    Attributes:
        training: Trained on, texts that serve as names among them.
        validation: Kept for choosing between settings.
        held_out: Held out.
        names: Texts that are trained on and that held-out items are looked up with.
        unreadable: Left out since they cannot be decoded.
        speakers: Speakers that are known by name, over all sides.
    """

    training: int
    validation: int
    held_out: int
    names: int
    unreadable: int
    speakers: int


@dataclass(frozen=True)
class LossRecord:
    """The loss over some steps.

    Attributes:
        step: The last of them, from 1.
        loss: Mean over the steps and the pairs, nats.
        pairs: Mean over the steps of each pair, in the order of the trained pairs.
        temperature: At the last step.
    """

    step: int
    loss: float
    pairs: tuple[float, ...]
    temperature: float


@dataclass(frozen=True)
class JointCard:
    """How a model was made and what it reaches.

    Attributes:
        config: The settings of the training.
        features: How items become numbers.
        modalities: What the model takes, in the order text, image, audio.
        absent: Modalities that the data has no usable items of.
        pairs: Pairs of modalities that were compared.
        concepts: How many things or classes the items are about.
        paired_by: "label" or "group".
        parameters: Trained numbers.
        items: Where the items of each modality went.
        left_out: Items that did not come that far, by plain reason.
        evaluation: Held-out results.
        data_digest: blake2b-128 hex of ids, concepts and sides of all items.
        history: The loss over time.
    """

    config: JointConfig
    features: FeatureSettings
    modalities: tuple[str, ...]
    absent: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    concepts: int
    paired_by: PairedBy
    parameters: int
    items: Mapping[str, ModalityItems]
    left_out: Mapping[str, int]
    evaluation: Evaluation
    data_digest: str
    history: tuple[LossRecord, ...] = field(repr=False)

    def to_json(self) -> bytes:
        """Canonical JSON, UTF-8."""
        return canonical_json(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> JointCard:
        """Read a card back; raises JointModelError for anything that is not one."""
        return read_json(cls, text, "the card of a joint model")


@dataclass(frozen=True)
class TrainingCost:
    """What the training took; not the same from run to run.

    Attributes:
        cpu_s: CPU seconds of the steps, over all attempts of a resumed training as far as they were kept.
        other_cpu_s: CPU seconds of features before and evaluation after, of the last attempt.
    """

    cpu_s: float
    other_cpu_s: float

    def to_json(self) -> bytes:
        """Canonical JSON, UTF-8."""
        return canonical_json(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> TrainingCost:
        """Read it back; raises JointModelError for anything else."""
        return read_json(cls, text, "the cost of a training")


def read_json(kind: type[Kind], text: bytes | str, what: str) -> Kind:
    """Read a dataclass back from JSON; raises JointModelError, which says `what` was expected."""
    try:
        return parsed(kind, text)
    except ValueError as error:
        raise JointModelError(f"not {what}: {error}; train the model again") from error
