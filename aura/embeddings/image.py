"""Images to vectors with a vision model: CLIP, SigLIP, ViT and their like.

Belongs here: lazy loading, decoding, the choice of the model's image vector. Does not: where the files are
(`aura.embeddings.weights`) and which items are new (`aura.embeddings.incremental`).

A model with a projection into a joint space (CLIP: Radford et al. 2021, arXiv 2103.00020) gives that; a plain vision
model gives its pooled output, or the hidden state of its first token where it has no pooling layer (ViT: Dosovitskiy
et al. 2021, arXiv 2010.11929).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError

from aura.embeddings.encoder import (
    Device,
    DtypeSetting,
    Encoded,
    Precision,
    Progress,
    Vectors,
    check_weights,
    parity_holds,
    parity_sample,
    resolve_device,
    unit_length,
    wanted_precision,
)
from aura.embeddings.errors import EncodingError, UnreadableImageError
from aura.embeddings.table import EmbeddingModel
from aura.embeddings.weights import HUB_TIMEOUT_S, ModelFiles, locate_model

if TYPE_CHECKING:
    import torch
    from transformers import BaseImageProcessor, PreTrainedModel
    from transformers.modeling_outputs import BaseModelOutputWithPooling

BATCH_IMAGES = 32


def open_image_encoder(
    name_or_path: str | None,
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    device: Device = "auto",
    dtype: DtypeSetting = "auto",
    batch_images: int = BATCH_IMAGES,
    hub_timeout_s: float = HUB_TIMEOUT_S,
) -> ImageEncoder | None:
    """Find a vision model; its weights are loaded at the first encoding.

    Args:
        name_or_path: Hub name or directory; None means that no weights are configured.
        revision: Branch, tag or commit of a hub model.
        cache_dir: Where hub models are kept; None for the hub library's own place.
        device: "auto" is CUDA if present.
        dtype: "auto" is bfloat16 where the hardware has it and its vectors agree with float32.
        batch_images: Images in one batch.
        hub_timeout_s: Seconds that one request to the hub may take.

    Returns:
        The encoder, or None where no weights are configured.

    Raises:
        ModelFilesError: the model is not there, or has no safetensors weights.
        HubUnavailableError: the hub does not give the model.
    """
    if name_or_path is None:
        return None
    files = locate_model(name_or_path, revision=revision, cache_dir=cache_dir, hub_timeout_s=hub_timeout_s)
    return ImageEncoder(files, device=device, dtype=dtype, batch_images=batch_images)


class ImageEncoder:
    """A vision model that is loaded when the first image comes."""

    def __init__(
        self,
        files: ModelFiles,
        *,
        device: Device = "auto",
        dtype: DtypeSetting = "auto",
        batch_images: int = BATCH_IMAGES,
    ) -> None:
        if batch_images < 1:
            raise ValueError(f"batch_images is at least 1, got {batch_images}")
        self._files = files
        self._device = device
        self._dtype = dtype
        self._batch_images = batch_images
        self._precision: Precision = "float32"
        self._precision_is_settled = False
        self._parity_cosine: float | None = None
        self._has_pooler = True

    @property
    def name(self) -> str:
        """What the user calls the model."""
        return self._files.name

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the model's files and the dtype setting; the model is not loaded for it."""
        return self._files.digest(f"image dtype={self._dtype}")

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return "_network" in self.__dict__

    @property
    def model(self) -> EmbeddingModel:
        """Provenance; loads the model if it is not loaded yet, and is final after the first encoding."""
        return EmbeddingModel(
            name=self.name,
            fingerprint=self.fingerprint,
            revision=self._files.revision,
            dimension=self._dimension,
            dtype=self._precision,
            parity_cosine=self._parity_cosine,
        )

    def encode(self, inputs: Sequence[bytes], progress: Progress | None = None) -> Encoded:
        """Encode images; the same images in the same order give the same bytes.

        Args:
            inputs: Images as PNG, JPEG or whatever else Pillow reads; what cannot be decoded is refused.
            progress: Called with (done, total) images after each batch.

        Raises:
            EncodingError: the model cannot be loaded or gives vectors that cannot be used.
        """
        refused: dict[int, str] = {}
        parts = [np.empty((0, self._dimension), np.float32)]
        for start in range(0, len(inputs), self._batch_images):
            end = min(start + self._batch_images, len(inputs))
            images = []
            for position in range(start, end):
                try:
                    images.append(decode_image(inputs[position]))
                except UnreadableImageError as error:
                    refused[position] = str(error)
            if images:
                self._settle_precision(images)
                parts.append(unit_length(self._forward(images), self.name))
            if progress is not None:
                progress(end, len(inputs))
        return Encoded(np.concatenate(parts), refused)

    @cached_property
    def _network(self) -> PreTrainedModel:
        import torch
        from transformers import AutoModel
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            network, loading = AutoModel.from_pretrained(
                str(self._files.directory),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise EncodingError(f"model {self.name!r} in {self._files.directory} cannot be loaded: {error}") from error
        self._has_pooler = not check_weights(loading["missing_keys"], self.name)
        loaded: PreTrainedModel = network.to(resolve_device(self._device)).eval()
        return loaded

    @cached_property
    def _processor(self) -> BaseImageProcessor:
        from transformers import AutoImageProcessor

        try:
            processor: BaseImageProcessor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
                str(self._files.directory), local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            raise EncodingError(
                f"model {self.name!r} has no image processor that can be loaded from {self._files.directory}: {error}"
            ) from error
        return processor

    @cached_property
    def _dimension(self) -> int:
        """Measured on one grey image: models name the size of their image vector in many ways."""
        return int(self._forward([Image.new("RGB", (64, 64), (128, 96, 64))]).shape[1])

    def _settle_precision(self, images: list[Image.Image]) -> None:
        import torch

        if self._precision_is_settled:
            return
        sample = [images[i] for i in parity_sample(len(images))]
        if wanted_precision(self._dtype, self._network.device.type) == "bfloat16":
            reference = self._forward(sample)
            self._network.to(torch.bfloat16)  # type: ignore[arg-type]
            holds, self._parity_cosine = parity_holds(reference, self._forward(sample), self.name)
            if holds:
                self._precision = "bfloat16"
            else:
                del self._network
        self._precision_is_settled = True

    def _forward(self, images: list[Image.Image]) -> Vectors:
        import torch

        network = self._network
        pixels = self._processor(images=images, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            vectors = image_vectors(network, pixels.to(network.device, network.dtype), has_pooler=self._has_pooler)
        rows: Vectors = vectors.float().cpu().numpy()
        return rows


def decode_image(content: bytes) -> Image.Image:
    """Decode an image to RGB.

    Raises:
        UnreadableImageError: the bytes are no image, or a broken one.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableImageError(f"cannot be decoded as an image: {error}") from error


def image_vectors(network: PreTrainedModel, pixels: torch.Tensor, *, has_pooler: bool) -> torch.Tensor:
    """The vector that a vision model gives an image.

    Args:
        network: A model of `transformers`.
        pixels: [n, channels, height, width], as its image processor gives them.
        has_pooler: Whether the checkpoint came with the weights of the pooling layer.

    Returns:
        [n, d]: the projected features of a joint model, else the pooled output, else the first token's hidden state.
    """
    project: Callable[..., BaseModelOutputWithPooling] = getattr(network, "get_image_features", network)
    output = project(pixel_values=pixels)
    # A model whose output has no such field has no pooling layer.
    pooled: torch.Tensor | None = getattr(output, "pooler_output", None)
    if pooled is not None and has_pooler:
        return pooled
    hidden: torch.Tensor = output["last_hidden_state"]
    return hidden[:, 0]
