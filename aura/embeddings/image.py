"""Images to vectors with a vision model: CLIP, SigLIP, ViT and their like.

Belongs here: decoding, the choice of the model's image vector. Does not: where the files are
(`aura.embeddings.weights`), loading (`aura.embeddings.network`) and which items are new
(`aura.embeddings.incremental`).

A model with a projection into a joint space (CLIP: Radford et al. 2021, arXiv 2103.00020) gives that; a plain vision
model gives its pooled output, or the hidden state of its first token where it has no pooling layer (ViT: Dosovitskiy
et al. 2021, arXiv 2010.11929).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from aura.embeddings.encoder import (
    NO_DIRECTION,
    Device,
    DtypeSetting,
    Encoded,
    Progress,
    Vectors,
    resolve_device,
    unit_rows,
)
from aura.embeddings.errors import EncodingError, UnreadableImageError
from aura.embeddings.network import (
    LOADING_ERRORS,
    NetworkEncoder,
    PretrainedNetwork,
    Undo,
    in_brief,
    named_settings,
    to_bfloat16,
)
from aura.embeddings.probes import images as probe_images
from aura.embeddings.threads import in_threads
from aura.embeddings.weights import HUB_TIMEOUT_S, locate_model

if TYPE_CHECKING:
    import torch
    from transformers import BaseImageProcessor, PreTrainedModel
    from transformers.modeling_outputs import BaseModelOutputWithPooling

BATCH_IMAGES = {"cpu": 8, "cuda": 64}
"""Images in a batch: on a CPU every core has its own, and more of them fill its cache."""

MAX_PIXELS = 89_478_485
"""Most pixels that an image is decoded to: 268 MB as RGB, where Pillow too begins to warn of decompression bombs."""

MAX_ASPECT = 256
"""Longest side over shortest: a model that keeps the ratio would make an image of 224 by 57,344 pixels of it first."""

_INPUTS = ("pixel_values", "pixel_attention_mask", "spatial_shapes")
"""What image processors give and models take; the last two come with images of their own shapes (SigLIP 2)."""


def open_image_encoder(
    name_or_path: str | None,
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    device: Device = "auto",
    dtype: DtypeSetting = "auto",
    batch_images: int | None = None,
    hub_timeout_s: float = HUB_TIMEOUT_S,
) -> ImageEncoder | None:
    """Find a vision model; its weights are loaded at the first encoding.

    Args:
        name_or_path: Hub name or directory; None means that no weights are configured.
        revision: Branch, tag or commit of a hub model.
        cache_dir: Where hub models are kept; None for the hub library's own place.
        device: "auto" is CUDA if present.
        dtype: "auto" is bfloat16 where the hardware has it and its vectors agree with float32.
        batch_images: Images in one batch; None for what suits the device.
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
    network = PretrainedNetwork(files, device)
    settings = named_settings(modality="image", orientation="exif")
    return ImageEncoder(network, settings=settings, device=device, dtype=dtype, batch_images=batch_images)


class ImageEncoder(NetworkEncoder):
    """A vision model that is loaded when the first image comes."""

    def __init__(
        self,
        pretrained: PretrainedNetwork,
        *,
        settings: str,
        device: Device = "auto",
        dtype: DtypeSetting = "auto",
        batch_images: int | None = None,
    ) -> None:
        if batch_images is not None and batch_images < 1:
            raise ValueError(f"batch_images is at least 1, got {batch_images}")
        super().__init__(pretrained.files, settings, device, dtype)
        self._pretrained = pretrained
        self._batch_images = batch_images

    def encode(self, inputs: Sequence[bytes], progress: Progress | None = None) -> Encoded:
        """Encode images; the same images in the same order give the same bytes.

        Args:
            inputs: Images as PNG, JPEG or whatever else Pillow reads. What cannot be decoded is refused, and so is
                what the model gives no usable vector. Of an animation the first frame counts.
            progress: Called with (done, total) images after each batch.

        Raises:
            EncodingError: the model cannot be loaded or gives vectors that cannot be used.
        """
        parts = [np.empty((0, self.model.dimension), np.float32)]
        refused: dict[int, str] = {}
        device = resolve_device(self._device)
        size = self._batch_images or BATCH_IMAGES[device]
        batches = [range(start, min(start + size, len(inputs))) for start in range(0, len(inputs), size)]

        def work(batch: range) -> tuple[Vectors | None, dict[int, str]]:
            images, unreadable = _decoded(inputs, batch)
            if not images:
                return None, unreadable
            vectors, directed = unit_rows(self._forward(images))
            readable = [position for position in batch if position not in unreadable]
            unreadable |= {readable[row]: NO_DIRECTION for row in np.flatnonzero(~directed)}
            return vectors[directed], unreadable

        def take(batch: range, result: tuple[Vectors | None, dict[int, str]]) -> None:
            vectors, unreadable = result
            refused.update(unreadable)
            if vectors is not None:
                parts.append(vectors)
            if progress is not None:
                progress(batch.stop, len(inputs))

        in_threads(work, batches, take, device=device)
        return Encoded(np.concatenate(parts), refused)

    @cached_property
    def _processor(self) -> BaseImageProcessor:
        from transformers import AutoImageProcessor

        directory = self._files.directory
        try:
            processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
                str(directory), local_files_only=True, trust_remote_code=False
            )
        except LOADING_ERRORS as error:
            raise EncodingError(
                f"model {self.name!r} has no image processor that can be loaded from {directory}: {in_brief(error)}; "
                f"name a vision model, such as CLIP, SigLIP or ViT, in a directory that holds its processor"
            ) from error
        return cast("BaseImageProcessor", processor)

    def _probe(self) -> Vectors:
        images = [Image.fromarray(pixels) for pixels in probe_images()]
        batches = [[image] for image in images]
        vectors: list[Vectors] = []
        # Loaded here, so that the threads do not load them beside each other.
        _ = self._processor, self._pretrained.network
        in_threads(
            self._forward, batches, lambda _, rows: vectors.append(rows), device=self._pretrained.network.device.type
        )
        return np.concatenate(vectors)

    def _to_bfloat16(self) -> Undo:
        return to_bfloat16(self._tower)

    @property
    def _tower(self) -> torch.nn.Module:
        return self._pretrained.tower("vision_", "visual_")

    def _forward(self, images: Sequence[Image.Image]) -> Vectors:
        parameter = next(self._tower.parameters())
        try:
            processed = self._processor(images=list(images), return_tensors="pt")
            inputs = {name: processed[name] for name in _INPUTS if name in processed}
            inputs = {name: _placed(tensor, parameter) for name, tensor in inputs.items()}
            vectors = image_vectors(self._pretrained.network, inputs, has_pooler=self._pretrained.has_pooler)
        except (KeyError, TypeError, AttributeError) as error:
            raise EncodingError(
                f"model {self.name!r} ({type(self._pretrained.network).__name__}) does not encode images: {error!r}; "
                f"name a vision model, such as CLIP, SigLIP or ViT"
            ) from error
        rows: Vectors = vectors.float().cpu().numpy()
        return rows


def decode_image(content: bytes) -> Image.Image:
    """Decode an image, or the first frame of an animation, to RGB, as it is looked at.

    It is turned as its EXIF orientation says; what is transparent shows the colour below it.

    Raises:
        UnreadableImageError: the bytes are no image, a broken one, or one that is too large or too narrow.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            _check_size(image.width, image.height)
            ImageOps.exif_transpose(image, in_place=True)
            return _rgb(image)
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"cannot be used as an image: {error}") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError(
            "cannot be decoded as an image: no format of an image begins like this; save it as PNG or JPEG"
        ) from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        TypeError,
        struct.error,
    ) as error:
        # Pillow's decoders let each of these out on damaged files.
        raise UnreadableImageError(f"cannot be decoded as an image: {error}") from error


def _placed(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return tensor.to(like.device, like.dtype) if tensor.is_floating_point() else tensor.to(like.device)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadableImageError(
            f"cannot be used as an image: {width} x {height} are more than {MAX_PIXELS} pixels; scale it down"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UnreadableImageError(
            f"cannot be used as an image: {width} x {height} is narrower than 1 to {MAX_ASPECT}; cut it into pieces"
        )


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow clips 16 bits to 8 instead of scaling them.
        levels = np.asarray(image, np.float32)
        if not np.isfinite(levels).all():
            raise UnreadableImageError("cannot be used as an image: it holds values that are not finite")
        top = 65535.0 if image.mode != "F" else max(float(levels.max(initial=0.0)), 1.0)
        return Image.fromarray(np.clip(levels * (255.0 / top), 0, 255).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info and image.mode == "P":
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _decoded(inputs: Sequence[bytes], positions: range) -> tuple[list[Image.Image], dict[int, str]]:
    images: list[Image.Image] = []
    unreadable: dict[int, str] = {}
    for position in positions:
        try:
            images.append(decode_image(inputs[position]))
        except UnreadableImageError as error:
            unreadable[position] = str(error)
    return images, unreadable


def image_vectors(network: PreTrainedModel, inputs: Mapping[str, torch.Tensor], *, has_pooler: bool) -> torch.Tensor:
    """The vector that a vision model gives an image.

    Args:
        network: A model of `transformers`.
        inputs: What its image processor gives for n images.
        has_pooler: Whether the checkpoint came with the weights of the pooling layer.

    Returns:
        [n, d]: the projected features of a joint model, else the pooled output, else the first token's hidden state.
    """
    project: Callable[..., BaseModelOutputWithPooling] = getattr(network, "get_image_features", network)
    output = project(**inputs)
    # A model whose output has no such field has no pooling layer.
    pooled: torch.Tensor | None = getattr(output, "pooler_output", None)
    if pooled is not None and has_pooler:
        return pooled
    hidden: torch.Tensor = output["last_hidden_state"]
    return hidden[:, 0]
