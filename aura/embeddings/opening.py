"""The configured models, found at their first use: one that is missing stops only what is made with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aura.embeddings.audio import AudioEncoder, open_audio_encoder
from aura.embeddings.encoder import Encoder, SharedSpace
from aura.embeddings.image import ImageEncoder, open_image_encoder
from aura.embeddings.pretrained import open_shared_space
from aura.embeddings.text import TextEncoder, open_text_encoder
from aura.settings_sections import EmbeddingSettings


@dataclass(frozen=True)
class Encoders:
    """One encoder per modality, and the space that several share; weights are loaded when something is encoded."""

    settings: EmbeddingSettings

    @cached_property
    def text(self) -> TextEncoder:
        """The text encoder."""
        return open_text_encoder(
            self.settings.text_model, revision=self.settings.text_revision, **self._cut, **self._options
        )

    @cached_property
    def image(self) -> ImageEncoder | None:
        """The image encoder; None where no weights are configured."""
        return open_image_encoder(self.settings.image_model, revision=self.settings.image_revision, **self._options)

    @cached_property
    def audio(self) -> AudioEncoder | None:
        """The audio encoder; None where no weights are configured."""
        return open_audio_encoder(
            self.settings.audio_model, revision=self.settings.audio_revision, **self._cut, **self._options
        )

    @cached_property
    def shared(self) -> SharedSpace | None:
        """The space of a configured CLIP, SigLIP or CLAP; None where none is, so that one is trained."""
        if self.settings.shared_model is None:
            return None
        return open_shared_space(
            self.settings.shared_model, revision=self.settings.shared_revision, **self._cut, **self._options
        )

    def of(self, modality: str) -> Encoder[Any] | None:
        """The encoder of a modality: "text", "image" or "audio"; None where no weights are configured."""
        found: Encoder[Any] | None = getattr(self, modality)
        return found

    @property
    def _cut(self) -> dict[str, Any]:
        return {"long_inputs": self.settings.long_inputs}

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "device": self.settings.device,
            "dtype": self.settings.dtype,
            "hub_timeout_s": self.settings.hub_timeout_seconds,
        }
