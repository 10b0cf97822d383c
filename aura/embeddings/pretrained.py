"""A pretrained space that two modalities share: CLIP and SigLIP for texts and images, CLAP for texts and sounds.

Belongs here: which sides a model has, encoders on one loaded network. Does not: the encoders themselves
(`aura.embeddings.text`, `aura.embeddings.image`, `aura.embeddings.audio`), spaces trained on own data.

CLIP: Radford et al. 2021, arXiv 2103.00020. SigLIP: Zhai et al. 2023, arXiv 2303.15343. CLAP: Wu et al. 2022,
arXiv 2211.06687.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

from aura.embeddings.audio import OVERLAP_SECONDS, AudioEncoder
from aura.embeddings.chunks import MAX_CHUNKS, Chunking
from aura.embeddings.encoder import Device, DtypeSetting, LongInputs
from aura.embeddings.errors import EncodingError, ModelFilesError
from aura.embeddings.image import ImageEncoder
from aura.embeddings.network import PretrainedNetwork, named_settings
from aura.embeddings.text import OVERLAP_TOKENS, TextEncoder
from aura.embeddings.towers import JointTextTower
from aura.embeddings.weights import HUB_TIMEOUT_S, ModelFiles, locate_model

SIDES = {
    "clip": ("text", "image"),
    "siglip": ("text", "image"),
    "siglip2": ("text", "image"),
    "clap": ("text", "audio"),
}
"""Modalities of the joint models of `transformers`, by the model_type in their configuration."""


def open_shared_space(
    name_or_path: str,
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    device: Device = "auto",
    dtype: DtypeSetting = "auto",
    long_inputs: LongInputs = "chunk",
    overlap: int = OVERLAP_TOKENS,
    overlap_s: float = OVERLAP_SECONDS,
    max_chunks: int = MAX_CHUNKS,
    hub_timeout_s: float = HUB_TIMEOUT_S,
) -> PretrainedSpace:
    """Find a joint model; its weights are loaded once, at the first encoding of any modality.

    Args:
        name_or_path: Hub name or directory of a CLIP, SigLIP, SigLIP 2 or CLAP model.
        revision: Branch, tag or commit of a hub model.
        cache_dir: Where hub models are kept; None for the hub library's own place.
        device: "auto" is CUDA if present.
        dtype: "auto" is bfloat16 where the hardware has it and its vectors agree with float32, decided per modality.
        long_inputs: Whether texts and sounds beyond the model's limit are encoded in windows, or cut off.
        overlap: Tokens that two windows of a text share.
        overlap_s: Seconds that two windows of a sound share.
        max_chunks: Windows of one input; the rest is cut off.
        hub_timeout_s: Seconds that one request to the hub may take.

    Raises:
        ModelFilesError: the model is not there, has no safetensors weights, or is no joint model.
        HubUnavailableError: the hub does not give the model.
    """
    files = locate_model(name_or_path, revision=revision, cache_dir=cache_dir, hub_timeout_s=hub_timeout_s)
    return PretrainedSpace(
        files,
        text_chunking=Chunking(long_inputs, overlap, max_chunks),
        audio_chunking=Chunking(long_inputs, overlap_s, max_chunks),
        device=device,
        dtype=dtype,
    )


class PretrainedSpace:
    """A joint model; its encoders share one network and one fingerprint."""

    def __init__(
        self,
        files: ModelFiles,
        *,
        text_chunking: Chunking,
        audio_chunking: Chunking,
        device: Device = "auto",
        dtype: DtypeSetting = "auto",
    ) -> None:
        self.modalities = joint_modalities(files)
        self._files = files
        self._text_chunking = text_chunking
        self._audio_chunking = audio_chunking
        self._device = device
        self._dtype = dtype

    @property
    def name(self) -> str:
        """What the user calls the model."""
        return self._files.name

    @property
    def fingerprint(self) -> str:
        """Digest of the model's files and the settings that decide the vectors; the model is not loaded for it."""
        return self._encoders["text"].fingerprint

    def encoder(self, modality: str) -> TextEncoder | ImageEncoder | AudioEncoder:
        """The encoder of one modality, the same one at every call.

        Raises:
            EncodingError: the model does not have the modality.
        """
        if modality not in self.modalities:
            raise EncodingError(
                f"model {self.name!r} encodes {' and '.join(self.modalities)}, not {modality!r}; name a model that does"
            )
        return self._encoders[modality]

    @cached_property
    def _encoders(self) -> dict[str, TextEncoder | ImageEncoder | AudioEncoder]:
        network = PretrainedNetwork(self._files, self._device)
        settings = named_settings(
            modality="shared", text=self._text_chunking, audio=self._audio_chunking, orientation="exif"
        )
        device, dtype = self._device, self._dtype
        return {
            "text": TextEncoder(
                JointTextTower(network), self._text_chunking, settings=settings, device=device, dtype=dtype
            ),
            "image": ImageEncoder(network, settings=settings, device=device, dtype=dtype),
            "audio": AudioEncoder(network, self._audio_chunking, settings=settings, device=device, dtype=dtype),
        }


def joint_modalities(files: ModelFiles) -> tuple[str, ...]:
    """Modalities of a joint model, without loading it.

    Raises:
        ModelFilesError: it has no configuration, or is no joint model.
    """
    config = files.directory / "config.json"
    try:
        kind = str(json.loads(config.read_text())["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFilesError(f"model {files.name!r} has no configuration with a model_type in {config}") from error
    if kind not in SIDES:
        raise ModelFilesError(
            f"model {files.name!r} is of the type {kind!r} and joins no modalities; name a model of the type "
            f"{', '.join(SIDES)}"
        )
    return SIDES[kind]
