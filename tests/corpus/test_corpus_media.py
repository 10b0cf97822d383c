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


IMAGES = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]
SOUNDS = ["WAV", "FLAC", "OGG", "MP3"]


@pytest.mark.parametrize("kind", IMAGES)
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


@pytest.mark.parametrize("kind", ["PPM", "ICO", "PCX"])
def test_an_image_of_another_format_is_refused_with_the_formats_that_are_read(kind):
    with pytest.raises(SetAsideError, match="none of PNG, JPEG, WEBP, GIF, BMP, TIFF"):
        check_image(image_bytes(kind))


def claimed_size(kind: str, side: int) -> bytes:
    """An image whose header says that it is side x side pixels."""
    content = bytearray(image_bytes(kind))
    if kind == "GIF":
        struct.pack_into("<HH", content, 6, side, side)
    elif kind == "BMP":
        struct.pack_into("<ii", content, 18, side, side)
    else:
        # The first two entries of a TIFF directory (TIFF 6.0, section 2) are the width and the length.
        (directory,) = struct.unpack_from("<I", content, 4)
        for entry in (directory + 2, directory + 14):
            struct.pack_into("<HII", content, entry + 2, 4, 1, side)
    return bytes(content)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_a_bomb_of_every_format_is_refused_before_it_unfolds(kind):
    with pytest.raises(SetAsideError, match="decompression bomb"):
        check_image(claimed_size(kind, 60_000))


def test_of_an_animation_the_first_frame_counts():
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (40, 40), shade) for shade in ("red", "green", "blue")]
    frames[0].save(buffer, format="GIF", save_all=True, append_images=frames[1:])
    check_image(buffer.getvalue())
    check_image(buffer.getvalue()[:-30])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_every_kind_of_pixel_passes(mode):
    buffer = io.BytesIO()
    Image.new(mode, (3, 5)).save(buffer, format="TIFF")
    check_image(buffer.getvalue())


@pytest.mark.parametrize("kind", SOUNDS)
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


def test_a_sound_of_another_format_is_refused_with_the_formats_that_are_read():
    with pytest.raises(SetAsideError, match="AIFF is none of WAV, WAVEX, FLAC, OGG, MP3"):
        check_audio(sound_bytes("AIFF"))


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [1, 7_999, 44_100, 384_000])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT", "ULAW"])
def test_every_rate_and_number_of_channels_passes(channels, rate, subtype):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros((100, channels)), rate, format="WAV", subtype=subtype)
    check_audio(buffer.getvalue())


def test_an_opus_sound_passes_and_is_truncated_without_its_last_page():
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.5 * np.sin(np.arange(96_000) / 7), 48_000, format="OGG", subtype="OPUS")
    content = buffer.getvalue()
    check_audio(content)
    with pytest.raises(SetAsideError, match="truncated audio"):
        check_audio(content[:-1])
    with pytest.raises(SetAsideError, match="its last Ogg page is missing"):
        check_audio(content[: content.rindex(b"OggS")])


@pytest.mark.parametrize("cut", [1, 500])
def test_an_mp3_is_held_to_the_length_that_it_states_behind_its_tag(cut):
    content = sound_bytes("MP3", 40_000)
    tag = b"ID3\x04\0\0\0\0\x01\x02" + b"\0" * 130
    check_audio(tag + content)
    with pytest.raises(SetAsideError, match="truncated audio"):
        check_audio((tag + content)[:-cut])


def test_a_flac_that_claims_too_many_samples_is_refused_before_it_is_read():
    content = bytearray(sound_bytes("FLAC"))
    # STREAMINFO (RFC 9639, 8.2): the total number of samples is the low 36 bits of bytes 18 to 25.
    (word,) = struct.unpack_from(">Q", content, 18)
    struct.pack_into(">Q", content, 18, word & ~(2**36 - 1) | (MAX_AUDIO_SAMPLES + 1))
    with pytest.raises(SetAsideError, match="the limit is"):
        check_audio(bytes(content))


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(IMAGES + SOUNDS),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
    keep=st.floats(0, 1),
)
def test_a_damaged_file_passes_or_is_set_aside_and_nothing_else_escapes(kind, damage, keep):
    content = bytearray(image_bytes(kind) if kind in IMAGES else sound_bytes(kind, 500))
    for place, value in damage:
        content[int(place * len(content))] = value
    check = check_image if kind in IMAGES else check_audio
    with suppress(SetAsideError):
        check(bytes(content[: int(keep * len(content))]))
