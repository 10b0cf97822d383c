"""Which container a video file is, and whether all of it is there.

Belongs here: MP4 and QuickTime (ISO/IEC 14496-12), Matroska and WebM (RFC 9559), AVI. Does not: what the container
holds (`aura.corpus.video`).

A demultiplexer is chosen here and never guessed by FFmpeg, which would also know playlists that name other files and
addresses. A cut file plays up to the cut without an error; only the sizes that the container states tell.
"""

from __future__ import annotations

import struct

from aura.corpus.rows import SetAsideError

_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_BOXES = (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"uuid", b"pnot", b"styp", b"sidx", b"mfra")


def container_format(content: bytes) -> str:
    """The name of FFmpeg's demultiplexer for a complete file.

    Raises:
        SetAsideError: it is none of the containers that are read, or truncated.
    """
    if content.startswith(_EBML):
        _check_segment(content)
        return "matroska"
    if content[:4] == b"RIFF" and content[8:12] == b"AVI ":
        (size,) = struct.unpack_from("<I", content, 4)
        _check_end(size + 8, content)
        return "avi"
    if content[4:8] in _BOXES:
        _check_boxes(content)
        return "mov"
    raise SetAsideError("undecodable: none of MP4, QuickTime, Matroska, WebM, AVI")


def _check_boxes(content: bytes) -> None:
    """Walk the boxes of the outermost level; what follows after an unknown one is the camera maker's own."""
    position, has_index = 0, False
    while content[position + 4 : position + 8] in _BOXES:
        size, name = struct.unpack_from(">I4s", content, position)
        if size == 1 and position + 16 <= len(content):
            (size,) = struct.unpack_from(">Q", content, position + 8)
        elif size == 0:
            size = len(content) - position
        if size < 8:
            raise SetAsideError(f"undecodable: broken video (a box of {size} bytes at byte {position})")
        position += size
        _check_end(position, content)
        has_index = has_index or name == b"moov"
    if not has_index:
        raise SetAsideError("undecodable: truncated video (its index, the box moov, is missing)")


def _check_segment(content: bytes) -> None:
    """The segment is the element behind the header; its size may be unknown, as in a live recording."""
    header, header_size = _element_size(content, 4)
    segment = header + (header_size or 0)
    if content[segment : segment + 4] != _SEGMENT:
        raise SetAsideError(f"undecodable: broken video (no Matroska segment at byte {segment})")
    start, size = _element_size(content, segment + 4)
    if size is not None:
        _check_end(start + size, content)


def _element_size(content: bytes, position: int) -> tuple[int, int | None]:
    """Where the data of an element begins whose size (RFC 8794, 4) stands at `position`, and that size if known."""
    first = content[position] if position < len(content) else 0
    if not first:
        raise SetAsideError(f"undecodable: broken video (no size of an element at byte {position})")
    length = 9 - first.bit_length()
    known = (1 << 7 * length) - 1
    size = int.from_bytes(content[position : position + length]) & known
    return position + length, None if size == known else size


def _check_end(end: int, content: bytes) -> None:
    if end > len(content):
        raise SetAsideError(f"undecodable: truncated video ({len(content)} of {end} bytes)")
