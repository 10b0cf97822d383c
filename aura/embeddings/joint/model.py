"""A trained joint model as a stored value: the weights of its towers and its card.

Light to import: the networks live in `aura.embeddings.joint.towers` and are built on request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from aura.embeddings.joint.card import JointCard, TrainingCost
from aura.embeddings.joint.errors import JointModelError
from aura.embeddings.joint.weights import read_tensors, write_tensors, write_whole
from aura.tiers.values import Part, Tensors

if TYPE_CHECKING:
    from aura.embeddings.joint.encoder import JointEncoder
    from aura.embeddings.joint.towers import JointTowers

NAME = "joint model trained here"

_WEIGHTS, _CARD, _COST = "model.safetensors", "card.json", "cost.json"


@dataclass(frozen=True, eq=False)
class JointModel:
    """Towers of several modalities whose vectors can be compared; implements `SharedSpace`.

    Attributes:
        card: How it was made and what it reaches.
        weights: Every tensor of the towers, by name.
        cost: What the training took.
    """

    card: JointCard
    weights: Tensors
    cost: TrainingCost

    @property
    def name(self) -> str:
        """What the user calls the model."""
        return NAME

    @cached_property
    def fingerprint(self) -> str:
        """Digest of weights and features, which decide the vectors."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((self.card.features, self.card.modalities)).encode())
        for name in sorted(self.weights):
            array = np.ascontiguousarray(self.weights[name])
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    @property
    def modalities(self) -> tuple[str, ...]:
        """What can be encoded."""
        return self.card.modalities

    def encoder(self, modality: str) -> JointEncoder:
        """The encoder of one modality.

        Raises:
            EncodingError: the model was trained without it.
        """
        from aura.embeddings.joint.encoder import JointEncoder

        return JointEncoder(self, modality)

    def to_module(self) -> JointTowers:
        """The towers in evaluation mode, on the CPU, with their own copy of the weights.

        Raises:
            JointModelError: A tensor is missing, too many or of another shape.
        """
        import torch

        from aura.embeddings.joint.towers import JointTowers

        module = JointTowers(self.card.modalities, self.card.features, self.card.config)
        try:
            module.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in self.weights.items()})
        except RuntimeError as error:
            raise JointModelError(f"the weights do not fit the card of the model: {error}") from error
        return module.eval()

    def to_parts(self) -> Mapping[str, Part]:
        """Tensors as "weights", canonical JSON as "card" and "cost"."""
        return {"card": self.card.to_json(), "cost": self.cost.to_json(), "weights": self.weights}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put a model together; raises JointModelError when the parts are not one model."""
        card, cost, weights = parts.get("card"), parts.get("cost"), parts.get("weights")
        if not isinstance(card, bytes) or not isinstance(cost, bytes) or not isinstance(weights, Mapping):
            raise JointModelError(f"a joint model has the parts card, cost and weights; got {sorted(parts)}")
        return cls(JointCard.from_json(card), weights, TrainingCost.from_json(cost))

    def save(self, directory: Path) -> None:
        """Write model.safetensors, card.json and cost.json; each appears complete or not at all."""
        write_tensors(directory / _WEIGHTS, self.weights, {"format": "pt"})
        write_whole(directory / _COST, self.cost.to_json())
        write_whole(directory / _CARD, self.card.to_json())

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read a directory of `save`.

        Raises:
            FileNotFoundError: A file is missing.
            JointModelError: A file is another one.
        """
        card = JointCard.from_json((directory / _CARD).read_bytes())
        cost = TrainingCost.from_json((directory / _COST).read_bytes())
        weights, _ = read_tensors(directory / _WEIGHTS)
        return cls(card, weights, cost)
