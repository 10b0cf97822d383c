"""Whether an image or a sound can really be decoded, from the first byte to the last.

Belongs here: verification. Does not: decoding for a model (see `aura.embeddings`).
"""

from __future__ import annotations

import io
import struct
import warnings

import soundfile
from PIL import Image, UnidentifiedImageError

from aura.corpus.rows import SetAsideError

_AUDIO_FORMATS = ("WAV", "WAVEX", "FLAC")
_AUDIO_BLOCK_FRAMES = 65_536
_RIFF_SIZE_UNKNOWN = (0, 0xFFFFFFFF)

MAX_AUDIO_SAMPLES = 2**28
"""Largest number of samples (frames times channels) in a sound: 93 minutes of mono at 48 kHz. A FLAC file of a few MiB
can claim days of silence."""


def check_image(content: bytes) -> None:
    """Decode a PNG or JPEG file completely.

    Raises:
        SetAsideError: it is neither, it is truncated or damaged, or it unfolds to more pixels than Pillow calls safe.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
                image.load()
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise SetAsideError(f"undecodable: decompression bomb ({error})") from error
    except UnidentifiedImageError as error:
        raise SetAsideError("undecodable: neither PNG nor JPEG") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error) as error:
        # Pillow's decoders let each of these out on damaged files.
        raise SetAsideError(f"undecodable: broken image ({error})") from error


def check_audio(content: bytes) -> None:
    """Read the header and every frame of a WAV or FLAC file.

    Raises:
        SetAsideError: it is neither, it is truncated or damaged, has no frames or more than `MAX_AUDIO_SAMPLES`.
    """
    _check_riff_length(content)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as sound:
            if sound.format not in _AUDIO_FORMATS:
                raise SetAsideError(f"undecodable: neither WAV nor FLAC but {sound.format}")
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
    if content[:4] != b"RIFF" or len(content) < 8:
        return
    (size,) = struct.unpack_from("<I", content, 4)
    if size not in _RIFF_SIZE_UNKNOWN and size + 8 > len(content):
        raise SetAsideError(f"undecodable: truncated audio ({len(content)} of {size + 8} bytes)")
