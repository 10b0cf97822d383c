"""Vectors of new items with a trained joint model.

Belongs here: batches, windows of long sounds, what is refused. Does not: training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aura.embeddings.chunks import pooled
from aura.embeddings.encoder import NO_DIRECTION, Encoded, Progress, Vectors
from aura.embeddings.errors import EncodingError
from aura.embeddings.joint.features import PADDING, Features, Featurizer
from aura.embeddings.joint.model import JointModel
from aura.embeddings.table import EmbeddingModel
from aura.embeddings.threads import in_threads

if TYPE_CHECKING:
    from aura.embeddings.joint.towers import JointTowers

BATCH = 64
"""Rows that go through a tower together."""

_INPUTS_AT_A_TIME = 64


class JointEncoder:
    """The encoder of one modality; the towers are built at the first call."""

    def __init__(self, joint: JointModel, modality: str) -> None:
        if modality not in joint.modalities:
            raise EncodingError(
                f"the joint model was trained without {modality!r}, only with {', '.join(joint.modalities)}; "
                f"train it on a source with items of this modality"
            )
        self._joint = joint
        self._modality = modality
        self._featurizer = Featurizer(joint.card.features)
        self._towers: JointTowers | None = None

    @property
    def name(self) -> str:
        """What the user calls the model."""
        return self._joint.name

    @property
    def fingerprint(self) -> str:
        """Digest of everything that decides the vectors."""
        return self._joint.fingerprint

    @property
    def model(self) -> EmbeddingModel:
        """Provenance."""
        return EmbeddingModel(
            name=self.name,
            fingerprint=self.fingerprint,
            revision=None,
            dimension=self._joint.card.config.width,
            dtype="float32",
        )

    def encode(self, inputs: Sequence[str | bytes], progress: Progress | None = None) -> Encoded:
        """Encode inputs; the same inputs in the same order give the same bytes.

        Args:
            inputs: Texts, or bytes of images or sounds; what cannot be decoded, or is given no usable vector, is
                refused.
            progress: Called with (done, total) inputs.
        """
        refused: dict[int, str] = {}
        parts = [np.empty((0, self._joint.card.config.width), np.float32)]
        tokens = truncated = chunked = 0
        for start in range(0, len(inputs), _INPUTS_AT_A_TIME):
            features = self._featurizer.features(self._modality, inputs[start : start + _INPUTS_AT_A_TIME])
            refused.update({start + position: reason for position, reason in features.refused.items()})
            if features.kept:
                vectors, usable = vectors_of(self._module(), self._modality, features)
                parts.append(vectors[usable])
                refused.update({start + features.kept[row]: NO_DIRECTION for row in np.flatnonzero(~usable)})
            truncated += features.truncated
            chunked += int((np.bincount(features.owners) > 1).sum())
            if self._modality == "text":
                tokens += int((features.inputs != PADDING).sum())
            if progress is not None:
                progress(min(start + _INPUTS_AT_A_TIME, len(inputs)), len(inputs))
        return Encoded(np.concatenate(parts), refused, tokens, truncated, chunked)

    def _module(self) -> JointTowers:
        if self._towers is None:
            self._towers = self._joint.to_module()
        return self._towers


def vectors_of(towers: JointTowers, modality: str, features: Features) -> tuple[Vectors, NDArray[np.bool_]]:
    """One vector per item, that of its row or the weighted mean of those of its windows.

    Returns:
        [n, d] of length 1, and which items [n] have one; see `aura.embeddings.chunks.pooled`.
    """
    import torch

    def forward(start: int) -> Vectors:
        inputs = torch.from_numpy(features.inputs[start : start + BATCH])
        frames = torch.from_numpy(features.frames[start : start + BATCH])
        rows: Vectors = towers(modality, inputs, frames).numpy()
        return rows

    rows: list[Vectors] = []
    in_threads(forward, range(0, len(features.inputs), BATCH), lambda _, found: rows.append(found), device="cpu")
    return pooled(np.concatenate(rows), features.owners.tolist(), features.own.tolist())
