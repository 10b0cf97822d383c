"""Sounds of all kinds of files become one channel at the model's rate, and what is no sound says why."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from aura.embeddings.errors import UnreadableSoundError
from aura.embeddings.sound import decode_sound, resample


def sound_file(samples: np.ndarray, rate: int = 8000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def tone(seconds: float = 0.5, rate: int = 8000, pitch: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "MS_ADPCM"])
def test_every_depth_of_a_wav_gives_the_same_sound(subtype):
    decoded = decode_sound(sound_file(tone(), subtype=subtype), 8000)[: len(tone())]
    assert decoded.dtype == np.float32
    assert np.abs(decoded - tone()).max() < 0.03


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3"])
def test_other_containers_are_decoded_too(kind):
    decoded = decode_sound(sound_file(tone(rate=16_000), 16_000, kind), 16_000)
    assert abs(len(decoded) - 8000) < 2500
    assert 0.2 < np.abs(decoded).max() < 0.7


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_mixed_by_their_mean(channels):
    weights = np.arange(1, channels + 1) / channels
    decoded = decode_sound(sound_file(tone()[:, None] * weights, subtype="FLOAT"), 8000)
    assert np.allclose(decoded, tone() * weights.mean(), atol=1e-6)


@pytest.mark.parametrize("rate", [4000, 8000, 11_025, 16_000, 22_050, 44_100, 44_101, 48_000, 96_000, 192_000])
def test_a_tone_keeps_its_pitch_at_any_rate(rate):
    decoded = decode_sound(sound_file(tone(1.0, rate), rate, subtype="FLOAT"), 16_000)
    assert abs(len(decoded) - 16_000) <= 4
    spectrum = np.abs(np.fft.rfft(decoded[:16_000], 16_000))
    assert abs(int(spectrum.argmax()) - 440) <= 1


@settings(deadline=None, max_examples=30)
@given(st.integers(1000, 1_000_000), st.sampled_from([8000, 16_000, 48_000]))
def test_no_rate_needs_a_gigantic_filter(own_rate, rate):
    resampled = resample(np.zeros(50, np.float32), own_rate, rate)
    assert abs(len(resampled) - 50 * rate / own_rate) <= 1 + 50 * rate / own_rate / 1000


def test_a_sound_of_one_sample_is_a_sound():
    assert len(decode_sound(sound_file(np.array([0.5])), 8000)) == 1


def test_a_file_without_samples_is_refused():
    with pytest.raises(UnreadableSoundError, match="no samples"):
        decode_sound(sound_file(np.empty(0)), 8000)


@pytest.mark.parametrize("peak", [1e30, 3e38])
def test_a_sound_that_would_overflow_in_a_model_is_refused_by_its_peak(peak):
    with pytest.raises(UnreadableSoundError, match=r"samples reach .*full scale is 1"):
        decode_sound(sound_file(np.array([[0.1, peak], [peak, peak]]), subtype="FLOAT"), 8000)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(bad):
    with pytest.raises(UnreadableSoundError, match="not finite"):
        decode_sound(sound_file(np.array([0.1, bad, 0.2]), subtype="FLOAT"), 8000)


@pytest.mark.parametrize("rate", [1, 999, 1_000_001, 2_000_000_000])
def test_an_absurd_sampling_rate_is_refused_with_the_limits(rate):
    content = bytearray(sound_file(tone()))
    content[24:28] = struct.pack("<I", rate)
    with pytest.raises(UnreadableSoundError, match=f"{rate} per second, expected 1000 to 1000000"):
        decode_sound(bytes(content), 16_000)


def test_a_file_that_claims_hours_of_sound_is_refused_before_it_is_decoded():
    content = bytearray(sound_file(tone(), kind="FLAC"))
    # The number of samples is the last 36 bits before the checksum in the first block.
    content[21] |= 0x0F
    with pytest.raises(UnreadableSoundError, match="cut it into pieces"):
        decode_sound(bytes(content), 8000)


NO_SOUNDS = [b"", b"no sound", sound_file(tone())[:30], b"\x00" * 5000, b"RIFF\xff\xff\xff\xffWAVE"]


@pytest.mark.parametrize("content", NO_SOUNDS)
def test_what_is_no_sound_is_refused(content):
    with pytest.raises(UnreadableSoundError, match="sound"):
        decode_sound(content, 8000)
