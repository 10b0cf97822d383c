"""Whether an image or a sound can really be decoded, from the first byte to the last.

Belongs here: verification. Does not: decoding for a model (see `aura.embeddings`).
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable

import soundfile
from PIL import Image, UnidentifiedImageError

from aura.corpus.rows import SetAsideError

_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_AUDIO_FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3")
_AUDIO_BLOCK_FRAMES = 65_536
_RIFF_SIZE_UNKNOWN = (0, 0xFFFFFFFF)
_OGG_PAGE = struct.Struct("<5sB20xB")
_OGG_LAST_PAGE = 4
_XING_REACH = 64
"""The tag lies behind the frame's header of 4 bytes and at most 32 bytes of side information."""

MAX_AUDIO_SAMPLES = 2**28
"""Largest number of samples (frames times channels) in a sound: 93 minutes of mono at 48 kHz. A FLAC file of a few MiB
can claim days of silence."""


def check_image(content: bytes) -> None:
    """Decode a PNG, JPEG, WebP, GIF, BMP or TIFF file: all of its pixels, or those of its first frame or page.

    Raises:
        SetAsideError: it is none of these, it is truncated or damaged, or it unfolds to more pixels than Pillow calls
            safe.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=_IMAGE_FORMATS) as image:
                image.load()
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise SetAsideError(f"undecodable: decompression bomb ({error})") from error
    except UnidentifiedImageError as error:
        raise SetAsideError(f"undecodable: none of {', '.join(_IMAGE_FORMATS)}") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error) as error:
        # Pillow's decoders let each of these out on damaged files.
        raise SetAsideError(f"undecodable: broken image ({error})") from error


def check_audio(content: bytes) -> None:
    """Read the header and every frame of a WAV, FLAC, Ogg (Vorbis, Opus, FLAC) or MP3 file.

    An MP3 file that does not state its length is as whole as any part of it, so that a cut cannot be seen.

    Raises:
        SetAsideError: it is none of these, it is truncated or damaged, has no frames or more than `MAX_AUDIO_SAMPLES`.
    """
    for magic, check in _LENGTH_CHECKS.items():
        if content.startswith(magic):
            check(content)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as sound:
            if sound.format not in _AUDIO_FORMATS:
                raise SetAsideError(f"undecodable: {sound.format} is none of {', '.join(_AUDIO_FORMATS)}")
            if sound.frames * sound.channels > MAX_AUDIO_SAMPLES:
                raise SetAsideError(
                    f"oversized: {sound.frames} frames of {sound.channels} channels, the limit is "
                    f"{MAX_AUDIO_SAMPLES} samples"
                )
            frames = sum(len(block) for block in sound.blocks(blocksize=_AUDIO_BLOCK_FRAMES, dtype="float32"))
            expected = sound.frames
    except soundfile.SoundFileError as error:
        raise SetAsideError(f"undecodable: broken audio ({error})") from error
    if frames == 0:
        raise SetAsideError("empty: no audio frames")
    if frames != expected:
        raise SetAsideError(f"undecodable: {frames} of {expected} audio frames are readable")


def _check_riff_length(content: bytes) -> None:
    """A cut WAV file reads without an error, with fewer frames; only the RIFF header tells."""
    if len(content) < 8:
        return
    (size,) = struct.unpack_from("<I", content, 4)
    if size not in _RIFF_SIZE_UNKNOWN and size + 8 > len(content):
        raise SetAsideError(f"undecodable: truncated audio ({len(content)} of {size + 8} bytes)")


def _check_ogg_pages(content: bytes) -> None:
    """A cut Ogg file reads without an error, with fewer frames; only the mark on its last page tells (RFC 3533, 6)."""
    position, flags = 0, 0
    while position < len(content):
        if content[position : position + 4] != b"OggS":
            raise SetAsideError(f"undecodable: broken audio (byte {position} begins no Ogg page)")
        lengths = position + _OGG_PAGE.size
        if lengths > len(content):
            position = lengths
            break
        _, flags, segments = _OGG_PAGE.unpack_from(content, position)
        position = lengths + segments + sum(content[lengths : lengths + segments])
    if position > len(content):
        raise SetAsideError(f"undecodable: truncated audio ({len(content)} of {position} bytes of its pages)")
    if not flags & _OGG_LAST_PAGE:
        raise SetAsideError("undecodable: truncated audio (its last Ogg page is missing)")


def _check_mp3_length(content: bytes) -> None:
    """A cut MP3 file reads to the length in its header, filled up; only the number of bytes beside that tells.

    The header is the "Xing" or "Info" tag inside the first frame, which follows an ID3v2 tag if there is one.
    """
    start = 0
    if content.startswith(b"ID3") and len(content) >= 10:
        start = 10 + sum(byte << 7 * place for place, byte in enumerate(reversed(content[6:10])))
    for tag in (b"Xing", b"Info"):
        place = content.find(tag, start, start + _XING_REACH)
        if place < 0 or place + 16 > len(content):
            continue
        (flags,) = struct.unpack_from(">I", content, place + 4)
        has_frames, has_bytes = flags & 1, flags & 2
        (size,) = struct.unpack_from(">I", content, place + (12 if has_frames else 8))
        if has_bytes and start + size > len(content):
            raise SetAsideError(f"undecodable: truncated audio ({len(content)} of {start + size} bytes)")


_LENGTH_CHECKS: dict[bytes, Callable[[bytes], None]] = {
    b"RIFF": _check_riff_length,
    b"OggS": _check_ogg_pages,
    b"ID3": _check_mp3_length,
    b"\xff": _check_mp3_length,
}
