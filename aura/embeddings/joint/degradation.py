"""Images and sounds made worse by a stated amount, as files: what a model has to cope with in a worse world.

Belongs here: noise and covered parts. Does not: changes that help training (`aura.embeddings.joint.augmentation`).
"""

from __future__ import annotations

import io

import numpy as np
import soundfile
from PIL import Image

from aura.embeddings.image import decode_image
from aura.embeddings.sound import decode_sound


def noisy_sound(content: bytes, snr_db: float, rate: int, rng: np.random.Generator) -> bytes:
    """A sound with white noise, whose power is `snr_db` decibels below that of the sound, as WAV of floats."""
    samples = decode_sound(content, rate).astype(np.float64)
    power = float(np.mean(np.square(samples))) or 1e-12
    noise = rng.standard_normal(len(samples)) * np.sqrt(power / 10 ** (snr_db / 10))
    buffer = io.BytesIO()
    soundfile.write(buffer, (samples + noise).astype(np.float32), rate, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def covered_image(content: bytes, share: float, rng: np.random.Generator) -> bytes:
    """An image of which a share of the area, a rectangle of its proportions somewhere in it, is its mean grey; PNG."""
    pixels = np.array(decode_image(content))
    height, width = (max(1, round(size * share**0.5)) for size in pixels.shape[:2])
    top = int(rng.integers(pixels.shape[0] - height + 1))
    left = int(rng.integers(pixels.shape[1] - width + 1))
    pixels[top : top + height, left : left + width] = round(float(pixels.mean()))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
