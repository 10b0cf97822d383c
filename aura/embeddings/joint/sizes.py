"""Sizes of texts, images and sounds that suit the data.

Belongs here: what is chosen once and then part of a model. Does not: turning items into numbers
(`aura.embeddings.joint.features`).
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import soundfile
from PIL import Image

from aura.embeddings.errors import UnreadableImageError
from aura.embeddings.image import decode_image
from aura.embeddings.joint.config import JointConfig
from aura.embeddings.joint.data import JointData, JointItem

_RATES = (8_000, 16_000)
_FRAMES_PER_S = 62.5
_SHORTEST_WINDOW_S = 0.4
_SHORTEST_TEXT = 22
_SIZES_SAMPLED = 200


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
            yield decode_image(_bytes_of(item))
        except UnreadableImageError:
            continue


def _sound_sizes(items: Sequence[JointItem]) -> tuple[int, float]:
    """The rate that the median of the sounds has room for, and the seconds that 99 % of them stay below."""
    rates: list[int] = []
    seconds: list[float] = []
    for item in items:
        try:
            information = soundfile.info(io.BytesIO(_bytes_of(item)))
        except (soundfile.SoundFileError, ValueError, RuntimeError, TypeError, OSError):
            continue
        rates.append(information.samplerate)
        seconds.append(information.duration)
    if not rates:
        return _RATES[-1], 1.0
    fits = [rate for rate in _RATES if rate <= np.median(rates)]
    return (fits or [_RATES[0]])[-1], float(np.percentile(seconds, 99))


def _bytes_of(item: JointItem) -> bytes:
    if isinstance(item.content, str):
        raise TypeError(f"item {item.item_id!r} holds a text where the bytes of an image or sound are expected")
    return item.content
