"""The networks of a joint model: small towers of `transformers`, one per modality, that end in one space.

Texts go through CLIP's text transformer, images through its vision transformer (Radford et al. 2021, arXiv 2103.00020),
sounds through Whisper's encoder (Radford et al. 2022, arXiv 2212.04356), whose outputs are summed up by their
mean and their maximum over time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch  # noqa: TID253 - defines neural networks; nothing light imports this module
from torch import Tensor, nn  # noqa: TID253
from transformers import (  # noqa: TID253
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    WhisperConfig,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder  # noqa: TID253

from aura.embeddings.joint.augmentation import changed_images, changed_sounds
from aura.embeddings.joint.config import JointConfig
from aura.embeddings.joint.features import BEGIN, END, PADDING, VOCABULARY
from aura.embeddings.joint.sizes import FeatureSettings

MAX_SCALE = 100.0
"""Largest inverse temperature, as in CLIP."""

_WHISPER_STD = 0.1
"""Standard deviation of the initial weights: with the 0.02 of the large models, 64 wide layers pass on too little
beside the position codes, and most of a short training goes by before the sounds are heard."""


class JointTowers(nn.Module):
    """One tower per modality, and the temperature of the loss."""

    def __init__(self, modalities: Sequence[str], settings: FeatureSettings, config: JointConfig) -> None:
        super().__init__()
        builders = {"text": text_tower, "image": ImageTower, "audio": AudioTower}
        self.towers = nn.ModuleDict({modality: builders[modality](settings, config) for modality in modalities})
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))

    def scale(self) -> Tensor:
        """Inverse temperature."""
        return self.log_scale.exp().clamp(max=MAX_SCALE)

    def forward(self, modality: str, inputs: Tensor, frames: Tensor, augmentation: float = 0.0) -> Tensor:
        """Vectors of any length [n, width].

        Args:
            modality: Which tower.
            inputs: As `Features.inputs`.
            frames: As `Features.frames`.
            augmentation: Strength of the random changes.
        """
        tower = self.towers[modality]
        if modality == "text":
            embeds: Tensor = tower(input_ids=inputs).text_embeds
            return embeds
        vectors: Tensor = tower(inputs, frames, augmentation)
        return vectors

    def parameters_trained(self) -> int:
        """Numbers that training changes."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)


def text_tower(settings: FeatureSettings, config: JointConfig) -> CLIPTextModelWithProjection:
    """A text transformer that gives the state of the end token, projected."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            max_position_embeddings=settings.text_length,
            bos_token_id=BEGIN,
            eos_token_id=END,
            pad_token_id=PADDING,
            **_clip_sizes(config),
        )
    )


class ImageTower(nn.Module):
    """A vision transformer on standardised pixels."""

    pixel_mean: Tensor
    pixel_scale: Tensor

    def __init__(self, settings: FeatureSettings, config: JointConfig) -> None:
        super().__init__()
        self.register_buffer("pixel_mean", torch.zeros(()))
        self.register_buffer("pixel_scale", torch.ones(()))
        self.vision = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                image_size=settings.image_size,
                patch_size=2 if settings.image_size <= 16 else 4,
                num_channels=settings.image_channels,
                **_clip_sizes(config),
            )
        )

    def standardise(self, pixels: Tensor) -> None:
        """Take mean and scale from training images."""
        self.pixel_mean.copy_(pixels.mean())
        self.pixel_scale.copy_(pixels.std().clamp(min=1e-3))

    def forward(self, pixels: Tensor, frames: Tensor, augmentation: float) -> Tensor:  # noqa: ARG002 - as AudioTower
        """Vectors [n, width] of pixels [n, channels, size, size]."""
        standard = (pixels - self.pixel_mean) / self.pixel_scale
        embeds: Tensor = self.vision(pixel_values=changed_images(standard, augmentation)).image_embeds
        return embeds


class AudioTower(nn.Module):
    """Whisper's encoder on standardised spectra; mean and maximum over time, projected."""

    def __init__(self, settings: FeatureSettings, config: JointConfig) -> None:
        super().__init__()
        # The decoder is never built; its sizes and tokens only have to be valid.
        self.encoder = WhisperEncoder(
            WhisperConfig(
                num_mel_bins=settings.mel_bins,
                d_model=config.width,
                encoder_layers=config.layers,
                encoder_attention_heads=config.heads,
                encoder_ffn_dim=2 * config.width,
                max_source_positions=settings.frames // 2,
                dropout=0.0,
                init_std=_WHISPER_STD,
                decoder_layers=1,
                decoder_attention_heads=1,
                decoder_ffn_dim=config.width,
                vocab_size=4,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
                decoder_start_token_id=3,
            )
        )
        self.projection = nn.Linear(2 * config.width, config.width, bias=False)

    def forward(self, spectra: Tensor, frames: Tensor, augmentation: float) -> Tensor:
        """Vectors [n, width] of log-mel spectra [n, bins, frames]."""
        states = self.encoder(changed_sounds(spectra, frames, augmentation)).last_hidden_state
        projected: Tensor = self.projection(torch.cat([states.mean(dim=1), states.amax(dim=1)], dim=1))
        return projected


def _clip_sizes(config: JointConfig) -> dict[str, Any]:
    return {
        "hidden_size": config.width,
        "intermediate_size": 2 * config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "projection_dim": config.width,
    }
