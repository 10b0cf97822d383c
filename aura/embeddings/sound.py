"""Sounds as a model hears them: one channel, float32, at the model's sampling rate.

Belongs here: decoding and resampling. Does not: features and models (`aura.embeddings.audio`).
"""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import soundfile
from numpy.typing import NDArray

from aura.corpus.media import MAX_AUDIO_SAMPLES
from aura.embeddings.errors import UnreadableSoundError

Samples = NDArray[np.float32]

MIN_RATE, MAX_RATE = 1_000, 1_000_000
"""Samples per second that are taken for a sound: telephones have 8,000, bats are recorded at up to 500,000."""

MAX_PEAK = 1e5
"""Largest sample: 16-bit integers that are kept as floats reach 32,768; what is far beyond overflows in a model."""

_MAX_FACTOR = 4_000
"""Largest factor of a resampling filter, which has 20 times as many coefficients; nearby ratios are good enough."""


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
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            own_rate = int(file.samplerate)
            _check_size(own_rate, int(file.frames), int(file.channels))
            channels = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, ValueError, RuntimeError, TypeError, OSError) as error:
        raise UnreadableSoundError(f"cannot be decoded as a sound: {error}") from error
    if not len(channels):
        raise UnreadableSoundError("cannot be used as a sound: it has no samples")
    if not np.isfinite(channels).all():
        raise UnreadableSoundError("cannot be used as a sound: it has samples that are not finite")
    peak = float(np.abs(channels).max())
    if peak > MAX_PEAK:
        raise UnreadableSoundError(
            f"cannot be used as a sound: its samples reach {peak:.3g}, full scale is 1 and {MAX_PEAK:g} the limit"
        )
    return resample(channels.mean(axis=1), own_rate, rate)


def resample(samples: Samples, own_rate: int, rate: int) -> Samples:
    """Bring samples [n] to another rate with a polyphase filter, which keeps out what the new rate cannot hold.

    Rates without a small common ratio (44,101 to 16,000) are taken for the nearest ratio that has one: the filter would
    have millions of coefficients, for a difference of pitch of less than one in ten thousand.
    """
    from scipy.signal import resample_poly

    if own_rate == rate:
        return samples
    ratio = Fraction(rate, own_rate)
    if max(ratio.numerator, ratio.denominator) > _MAX_FACTOR:
        ratio = ratio.limit_denominator(_MAX_FACTOR * min(own_rate, rate) // rate)
    resampled: Samples = resample_poly(samples, ratio.numerator, ratio.denominator).astype(np.float32, copy=False)
    return resampled


def _check_size(rate: int, frames: int, channels: int) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise UnreadableSoundError(
            f"cannot be used as a sound: its sampling rate is {rate} per second, expected {MIN_RATE} to {MAX_RATE}"
        )
    if frames * channels > MAX_AUDIO_SAMPLES:
        raise UnreadableSoundError(
            f"cannot be used as a sound: {frames} frames of {channels} channels are more than {MAX_AUDIO_SAMPLES} "
            f"samples; cut it into pieces"
        )
