"""Texts, images and sounds as the numbers that the towers take.

Belongs here: decoding, windows of long sounds. Does not: sizes (`aura.embeddings.joint.sizes`), random changes
(`aura.embeddings.joint.augmentation`), networks (`aura.embeddings.joint.towers`).

Texts are read byte by byte, so that no vocabulary has to be learnt and no text is foreign. Sounds are log-mel spectra
as Whisper computes them (Radford et al. 2022, arXiv 2212.04356), of short frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aura.embeddings.chunks import Chunking, Window
from aura.embeddings.errors import UnreadableImageError, UnreadableSoundError
from aura.embeddings.image import decode_image
from aura.embeddings.joint.sizes import FeatureSettings
from aura.embeddings.sound import decode_sound

if TYPE_CHECKING:
    from transformers import WhisperFeatureExtractor

BEGIN, END, PADDING = 257, 258, 256
"""Tokens beside the 256 bytes. The end is the largest: some CLIP configurations pool at the largest token."""

VOCABULARY = 259

MAX_TRAINING_WINDOWS = 8
"""Windows of one sound that are kept for training; each step takes one of them."""

MAX_ALL_WINDOWS = 20_000
"""Windows of all sounds that are kept for training, as far as each has one: 640 MB where they are 4 s long."""

_NOMINAL_RATE = 16_000
"""What the feature extractor is told: it spreads its bands over 8 kHz whatever the rate, so that for a rate of 8,000 a
quarter of them would stay empty. Told a rate of 16,000, it spreads them over half the rate that there is."""

_WINDOWS_AT_A_TIME = 64

Numbers = NDArray[np.float32] | NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Features:
    """The numbers of some items of one modality.

    Attributes:
        inputs: Tokens [w, length] int64, pixels in [0, 1] [w, channels, size, size] float32, or log-mel spectra
            [w, bins, frames] float32; several rows for a long sound, one for everything else.
        owners: The item of each row [w]: 0, 1, ... in ascending order, none left out.
        frames: Frames of each row that the sound reaches [w]; ones for texts and images.
        own: What each row adds to its item [w], for the pooling of windows.
        kept: Positions of the items that could be read, in order.
        refused: Why the others could not, by position.
        truncated: Items of which the end was cut off.
    """

    inputs: Numbers
    owners: NDArray[np.int64]
    frames: NDArray[np.int64]
    own: NDArray[np.int64]
    kept: tuple[int, ...]
    refused: Mapping[int, str]
    truncated: int = 0


class Featurizer:
    """Turns contents into features."""

    def __init__(self, settings: FeatureSettings) -> None:
        self.settings = settings

    def features(self, modality: str, contents: Sequence[str | bytes], *, max_windows: int | None = None) -> Features:
        """The features of contents of one modality; what cannot be decoded is refused.

        Args:
            modality: "text", "image" or "audio".
            contents: Texts, or bytes of images or sounds.
            max_windows: Most windows of one sound; None for what `Chunking` allows.
        """
        if modality == "audio":
            return self._sounds(contents, max_windows)
        if modality == "text":
            return self._texts([str(content) for content in contents])
        return self._images(contents)

    def _texts(self, texts: Sequence[str]) -> Features:
        length = self.settings.text_length
        rows = [np.empty((0, length), np.int64), *(tokens_of(text, length)[None] for text in texts)]
        truncated = sum(len(text.encode("utf-8", "replace")) > length - 2 for text in texts)
        return _one_row_each(np.concatenate(rows), range(len(texts)), {}, truncated)

    def _images(self, contents: Sequence[str | bytes]) -> Features:
        refused: dict[int, str] = {}
        rows = [np.empty((0, self.settings.image_channels, *2 * (self.settings.image_size,)), np.float32)]
        for position, content in enumerate(contents):
            try:
                rows.append(self._pixels(bytes_of(content))[None])
            except UnreadableImageError as error:
                refused[position] = str(error)
        kept = [position for position in range(len(contents)) if position not in refused]
        return _one_row_each(np.concatenate(rows), kept, refused)

    def _pixels(self, content: bytes) -> NDArray[np.float32]:
        size = self.settings.image_size
        image = decode_image(content)
        if self.settings.image_channels == 1:
            image = image.convert("L")
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BICUBIC)
        pixels = np.asarray(image, np.float32) / np.float32(255)
        return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def _sounds(self, contents: Sequence[str | bytes], max_windows: int | None) -> Features:
        settings = self.settings
        chunking = Chunking("chunk", settings.window // 2)
        if max_windows is not None:
            chunking = Chunking("chunk", settings.window // 2, max_windows)
        refused: dict[int, str] = {}
        truncated = 0
        windows: list[Window] = []
        owners: list[int] = []
        waiting: list[NDArray[np.float32]] = []
        spectra = [np.empty((0, settings.mel_bins, settings.frames), np.float32)]
        for position, content in enumerate(contents):
            try:
                sound = decode_sound(bytes_of(content), settings.rate)
            except UnreadableSoundError as error:
                refused[position] = str(error)
                continue
            own = chunking.windows(len(sound), settings.window, settings.window // 2)
            truncated += own[-1].end < len(sound)
            owners += [position - len(refused)] * len(own)
            windows += own
            waiting += [sound[window.start : window.end] for window in own]
            while len(waiting) >= _WINDOWS_AT_A_TIME:
                spectra.append(self._spectra(waiting[:_WINDOWS_AT_A_TIME]))
                del waiting[:_WINDOWS_AT_A_TIME]
        if waiting:
            spectra.append(self._spectra(waiting))
        frames = [math.ceil((window.end - window.start) / settings.hop) for window in windows]
        return Features(
            inputs=np.concatenate(spectra),
            owners=np.array(owners, np.int64),
            frames=np.array(frames, np.int64),
            own=np.array([window.own for window in windows], np.int64),
            kept=tuple(position for position in range(len(contents)) if position not in refused),
            refused=refused,
            truncated=truncated,
        )

    def _spectra(self, samples: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        spectra: NDArray[np.float32] = self._extractor(
            samples,
            sampling_rate=_NOMINAL_RATE,
            padding="max_length",
            max_length=self.settings.window,
            return_tensors="np",
        )["input_features"]
        return spectra.astype(np.float32, copy=False)

    @cached_property
    def _extractor(self) -> WhisperFeatureExtractor:
        from transformers import WhisperFeatureExtractor

        return WhisperFeatureExtractor(  # type: ignore[no-untyped-call]
            feature_size=self.settings.mel_bins,
            sampling_rate=_NOMINAL_RATE,
            hop_length=self.settings.hop,
            n_fft=2 * self.settings.hop,
            chunk_length=math.ceil(self.settings.window / self.settings.rate),
        )


def tokens_of(text: str, length: int) -> NDArray[np.int64]:
    """Begin, the bytes of UTF-8 as far as they fit, end, padding: [length]."""
    content = text.encode("utf-8", "replace")[: length - 2]
    tokens = np.full(length, PADDING, np.int64)
    tokens[: len(content) + 2] = [BEGIN, *content, END]
    return tokens


def bytes_of(content: str | bytes) -> bytes:
    """The content of an image or sound; raises TypeError for a text."""
    if isinstance(content, str):
        raise TypeError(f"a text is given where the bytes of an image or sound are expected: {content[:40]!r}")
    return content


def _one_row_each(inputs: Numbers, kept: Sequence[int], refused: Mapping[int, str], truncated: int = 0) -> Features:
    ones = np.ones(len(kept), np.int64)
    return Features(inputs, np.arange(len(kept)), ones, ones, tuple(kept), refused, truncated)
