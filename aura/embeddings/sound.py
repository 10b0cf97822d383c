"""Sounds as a model hears them: one channel, float32, at the model's sampling rate.

Belongs here: decoding and resampling. Does not: features and models (`aura.embeddings.audio`).
"""

from __future__ import annotations

import io
from math import gcd

import numpy as np
import soundfile
from numpy.typing import NDArray

from aura.embeddings.errors import UnreadableSoundError

Samples = NDArray[np.float32]


def decode_sound(content: bytes, rate: int) -> Samples:
    """Decode a sound, mix its channels to one by their mean, and resample it.

    Args:
        content: WAV, FLAC or whatever else libsndfile reads.
        rate: Wanted samples per second.

    Returns:
        [n] float32, n >= 1.

    Raises:
        UnreadableSoundError: the bytes are no sound, hold no samples, or samples that are not finite.
    """
    try:
        channels, own_rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, ValueError, RuntimeError) as error:
        raise UnreadableSoundError(f"cannot be decoded as a sound: {error}") from error
    if not len(channels):
        raise UnreadableSoundError("cannot be used as a sound: it has no samples")
    if not np.isfinite(channels).all():
        raise UnreadableSoundError("cannot be used as a sound: it has samples that are not finite")
    return resample(channels.mean(axis=1), own_rate, rate)


def resample(samples: Samples, own_rate: int, rate: int) -> Samples:
    """Bring samples [n] to another rate with a polyphase filter, which keeps out what the new rate cannot hold."""
    from scipy.signal import resample_poly

    if own_rate == rate:
        return samples
    common = gcd(own_rate, rate)
    resampled: Samples = resample_poly(samples, rate // common, own_rate // common).astype(np.float32, copy=False)
    return resampled
