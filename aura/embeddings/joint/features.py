"""Texts, images and sounds as the numbers that the towers take.

Belongs here: decoding, sizes that suit the data, windows of long sounds. Does not: random changes
(`aura.embeddings.joint.augmentation`), networks (`aura.embeddings.joint.towers`).

Texts are read byte by byte, so that no vocabulary has to be learnt and no text is foreign. Sounds are log-mel spectra
as Whisper computes them (Radford et al. 2022, arXiv 2212.04356), of short frames.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from aura.embeddings.chunks import Chunking, Window
from aura.embeddings.errors import UnreadableImageError, UnreadableSoundError
from aura.embeddings.image import decode_image
from aura.embeddings.joint.config import JointConfig
from aura.embeddings.joint.data import JointData, JointItem
from aura.embeddings.sound import decode_sound

if TYPE_CHECKING:
    from transformers import WhisperFeatureExtractor

BEGIN, END, PADDING = 257, 258, 256
"""Tokens beside the 256 bytes. The end is the largest: some CLIP configurations pool at the largest token."""

VOCABULARY = 259

MAX_TRAINING_WINDOWS = 8
"""Windows of one sound that are kept for training; each step takes one of them."""

_RATES = (8_000, 16_000)
_FRAMES_PER_S = 62.5
_NOMINAL_RATE = 16_000
"""What the feature extractor is told: it spreads its bands over 8 kHz whatever the rate, so that for a rate of 8,000 a
quarter of them would stay empty. Told a rate of 16,000, it spreads them over half the rate that there is."""

_SOUNDS_AT_A_TIME = 64
_SHORTEST_WINDOW_S = 0.4
_SHORTEST_TEXT = 22
_SIZES_SAMPLED = 200

Numbers = NDArray[np.float32] | NDArray[np.int64]


@dataclass(frozen=True)
class FeatureSettings:
    """How items become numbers; chosen once from the data, then part of the model.

    Attributes:
        text_length: Tokens of a text, begin and end among them.
        image_size: Side of the square that an image is scaled to, in pixels.
        image_channels: 1 for grey, 3 for colours.
        rate: Samples per second of a sound.
        mel_bins: Frequency bands.
        frames: Frames of a window, an even number; `rate` / 62.5 samples each.
    """

    text_length: int
    image_size: int
    image_channels: int
    rate: int
    mel_bins: int
    frames: int

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return int(self.rate / _FRAMES_PER_S)

    @property
    def window(self) -> int:
        """Samples of a window."""
        return self.frames * self.hop

    @classmethod
    def suiting(cls, data: JointData, config: JointConfig) -> FeatureSettings:
        """Sizes that lose little of these items, within the bounds of the configuration."""
        texts = [len(str(item.content).encode()) for item in data.items.get("text", ())]
        side, channels = _image_sizes(data.items.get("image", ()), config.max_image_size)
        rate, seconds = _sound_sizes(data.items.get("audio", ()))
        seconds = min(max(seconds, min(_SHORTEST_WINDOW_S, config.max_window_s)), config.max_window_s)
        return cls(
            text_length=min(_multiple_of(8, max([_SHORTEST_TEXT, *texts]) + 2), config.max_text_bytes + 2),
            image_size=side,
            image_channels=channels,
            rate=rate,
            mel_bins=config.mel_bins,
            frames=_multiple_of(2, seconds * _FRAMES_PER_S),
        )


def _multiple_of(unit: int, value: float) -> int:
    return max(1, math.ceil(value / unit)) * unit


def _image_sizes(items: Sequence[JointItem], largest: int) -> tuple[int, int]:
    """The median of the shorter sides, at least 8, and whether any image of a sample has colours."""
    sides: list[int] = []
    has_colours = False
    for image in _readable_images(items[:: max(1, len(items) // _SIZES_SAMPLED)]):
        sides.append(min(image.size))
        pixels = np.asarray(image)
        has_colours |= bool((pixels.max(axis=2) != pixels.min(axis=2)).any())
    side = int(np.median(sides)) if sides else 8
    return min(max(side, 8), largest) // 4 * 4, 3 if has_colours else 1


def _readable_images(items: Iterable[JointItem]) -> Iterable[Image.Image]:
    for item in items:
        try:
            yield decode_image(_content(item))
        except UnreadableImageError:
            continue


def _sound_sizes(items: Sequence[JointItem]) -> tuple[int, float]:
    """The rate that the median of the sounds has room for, and the seconds that 99 % of them stay below."""
    rates: list[int] = []
    seconds: list[float] = []
    for item in items:
        try:
            information = soundfile.info(io.BytesIO(_content(item)))
        except (soundfile.SoundFileError, ValueError, RuntimeError, TypeError, OSError):
            continue
        rates.append(information.samplerate)
        seconds.append(information.duration)
    if not rates:
        return _RATES[-1], 1.0
    fits = [rate for rate in _RATES if rate <= np.median(rates)]
    return (fits or [_RATES[0]])[-1], float(np.percentile(seconds, 99))


def _content(item: JointItem) -> bytes:
    if isinstance(item.content, str):
        raise TypeError(f"item {item.item_id!r} holds a text where the bytes of an image or sound are expected")
    return item.content


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
        refused: dict[int, str] = {}
        rows: list[Numbers] = []
        truncated = 0
        for position, content in enumerate(contents):
            if isinstance(content, str):
                truncated += len(content.encode("utf-8", "replace")) > self.settings.text_length - 2
                rows.append(tokens_of(content, self.settings.text_length))
                continue
            try:
                rows.append(self._pixels(content))
            except UnreadableImageError as error:
                refused[position] = str(error)
        kept = tuple(position for position in range(len(contents)) if position not in refused)
        ones = np.ones(len(kept), np.int64)
        inputs = np.concatenate([self._nothing(modality), *(row[None] for row in rows)])
        return Features(inputs, np.arange(len(kept)), ones, ones, kept, refused, truncated)

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
        samples: list[NDArray[np.float32]] = []
        owners: list[int] = []
        for position, content in enumerate(contents):
            try:
                sound = decode_sound(bytes(content) if not isinstance(content, str) else b"", settings.rate)
            except UnreadableSoundError as error:
                refused[position] = str(error)
                continue
            own = chunking.windows(len(sound), settings.window, settings.window // 2)
            truncated += own[-1].end < len(sound)
            owners += [position - len(refused)] * len(own)
            samples += [sound[window.start : window.end] for window in own]
            windows += own
        frames = [math.ceil((window.end - window.start) / settings.hop) for window in windows]
        return Features(
            inputs=self._spectra(samples),
            owners=np.array(owners, np.int64),
            frames=np.array(frames, np.int64),
            own=np.array([window.own for window in windows], np.int64),
            kept=tuple(position for position in range(len(contents)) if position not in refused),
            refused=refused,
            truncated=truncated,
        )

    def _spectra(self, samples: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        parts = [np.empty((0, self.settings.mel_bins, self.settings.frames), np.float32)]
        for start in range(0, len(samples), _SOUNDS_AT_A_TIME):
            spectra = self._extractor(
                samples[start : start + _SOUNDS_AT_A_TIME],
                sampling_rate=_NOMINAL_RATE,
                padding="max_length",
                max_length=self.settings.window,
                return_tensors="np",
            )["input_features"]
            parts.append(spectra.astype(np.float32, copy=False))
        return np.concatenate(parts)

    def _nothing(self, modality: str) -> Numbers:
        settings = self.settings
        if modality == "text":
            return np.empty((0, settings.text_length), np.int64)
        return np.empty((0, settings.image_channels, settings.image_size, settings.image_size), np.float32)

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
