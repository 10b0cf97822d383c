"""Images and sounds are accepted only if they decode to the end."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from contextlib import suppress

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aura.corpus.media import MAX_AUDIO_SAMPLES, check_audio, check_image
from aura.corpus.rows import SetAsideError


def image_bytes(kind: str) -> bytes:
    buffer = io.BytesIO()
    gradient = np.arange(40 * 40 * 3, dtype=np.uint16).reshape(40, 40, 3).astype(np.uint8)
    Image.fromarray(gradient).save(buffer, format=kind)
    return buffer.getvalue()


def sound_bytes(kind: str, frames: int = 4_000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.5 * np.sin(np.arange(frames) / 7), 8_000, format=kind)
    return buffer.getvalue()


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def bomb(side: int) -> bytes:
    """A valid start of a PNG whose header claims side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"\0" * 1000))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_whole_image_passes_and_half_of_it_does_not(kind):
    content = image_bytes(kind)
    check_image(content)
    with pytest.raises(SetAsideError, match="broken image"):
        check_image(content[: len(content) // 2])


def test_a_png_with_a_flipped_byte_in_its_pixels_is_broken():
    content = bytearray(image_bytes("PNG"))
    content[content.index(b"IDAT") + 20] ^= 0xFF
    with pytest.raises(SetAsideError, match="undecodable"):
        check_image(bytes(content))


@pytest.mark.parametrize("side", [10_000, 50_000])
def test_a_decompression_bomb_is_refused_before_it_unfolds(side):
    with pytest.raises(SetAsideError, match="decompression bomb"):
        check_image(bomb(side))


def test_checking_a_bomb_leaves_the_warning_filters_as_they_were():
    before = list(warnings.filters)
    with pytest.raises(SetAsideError):
        check_image(bomb(10_000))
    assert list(warnings.filters) == before


def test_a_gif_called_png_is_neither_png_nor_jpeg():
    with pytest.raises(SetAsideError, match="neither PNG nor JPEG"):
        check_image(image_bytes("GIF"))


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_a_whole_sound_passes_and_half_of_it_does_not(kind):
    content = sound_bytes(kind)
    check_audio(content)
    with pytest.raises(SetAsideError, match="undecodable"):
        check_audio(content[: len(content) // 2])


def test_a_streamed_wav_of_unknown_length_passes():
    content = bytearray(sound_bytes("WAV"))
    content[4:8] = b"\xff\xff\xff\xff"
    check_audio(bytes(content))


def test_a_sound_without_frames_is_empty():
    with pytest.raises(SetAsideError, match="no audio frames"):
        check_audio(sound_bytes("WAV", frames=0))


def test_an_ogg_called_wav_is_neither_wav_nor_flac():
    with pytest.raises(SetAsideError, match="neither WAV nor FLAC but OGG"):
        check_audio(sound_bytes("OGG"))


def test_a_flac_that_claims_too_many_samples_is_refused_before_it_is_read():
    content = bytearray(sound_bytes("FLAC"))
    # STREAMINFO (RFC 9639, 8.2): the total number of samples is the low 36 bits of bytes 18 to 25.
    (word,) = struct.unpack_from(">Q", content, 18)
    struct.pack_into(">Q", content, 18, word & ~(2**36 - 1) | (MAX_AUDIO_SAMPLES + 1))
    with pytest.raises(SetAsideError, match="the limit is"):
        check_audio(bytes(content))


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "WAV", "FLAC"]),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
    keep=st.floats(0, 1),
)
def test_a_damaged_file_passes_or_is_set_aside_and_nothing_else_escapes(kind, damage, keep):
    content = bytearray(image_bytes(kind) if kind in ("PNG", "JPEG") else sound_bytes(kind, 500))
    for place, value in damage:
        content[int(place * len(content))] = value
    check = check_image if kind in ("PNG", "JPEG") else check_audio
    with suppress(SetAsideError):
        check(bytes(content[: int(keep * len(content))]))
