"""The space that several modalities share, as a value that is published: a model trained here, or the name of one.

Belongs here: what both have in common, and the reference to a configured model. Does not: training
(`aura.embeddings.joint`), pretrained models (`aura.embeddings.pretrained`).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

from aura.embeddings.encoder import SharedSpace
from aura.embeddings.errors import EncodingError
from aura.embeddings.opening import Encoders
from aura.tiers.values import Part

_PART = "reference"


class PublishedSpace(ABC):
    """What has been made of a source: from it the encoders that vectors of the source were made with."""

    @abstractmethod
    def open(self, encoders: Encoders) -> SharedSpace:
        """The space, ready to encode.

        Args:
            encoders: The configured models.

        Raises:
            EncodingError: the space is that of a configured model, and another one is configured now.
        """

    @abstractmethod
    def to_parts(self) -> Mapping[str, Part]:
        """Take the value apart."""

    @classmethod
    @abstractmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put it together again."""


@dataclass(frozen=True)
class SpaceReference(PublishedSpace):
    """A pretrained model that is configured: its weights are where they are, and this says which ones.

    Attributes:
        name: Hub name or directory.
        fingerprint: Digest of weights, tokenizer, processors and encoding settings.
        modalities: What it can encode.
    """

    name: str
    fingerprint: str
    modalities: tuple[str, ...]

    @classmethod
    def to(cls, space: SharedSpace) -> Self:
        """Refer to a space."""
        return cls(space.name, space.fingerprint, tuple(space.modalities))

    def open(self, encoders: Encoders) -> SharedSpace:
        """The configured space, if it is still this one."""
        space = encoders.shared
        if space is None or space.fingerprint != self.fingerprint:
            configured = "none" if space is None else f"{space.name} ({space.fingerprint[:8]})"
            raise EncodingError(
                f"the published space is that of {self.name} ({self.fingerprint[:8]}), and configured is {configured}: "
                f"materialize joint_model again, or set AURA_EMBEDDINGS__SHARED_MODEL back"
            )
        return space

    def to_parts(self) -> Mapping[str, Part]:
        """One part, the reference as JSON."""
        return {_PART: json.dumps(asdict(self), sort_keys=True).encode()}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Read the reference; raises `EncodingError` if there is none."""
        part = parts.get(_PART)
        if not isinstance(part, bytes):
            raise EncodingError(f"a reference to a space is one part {_PART!r}, got {sorted(parts)}")
        fields = json.loads(part)
        return cls(fields["name"], fields["fingerprint"], tuple(fields["modalities"]))
