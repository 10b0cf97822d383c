"""One row of a manifest, and the rules that every text item obeys whatever source it comes from.

Belongs here: content addressing, the row type, the reasons that do not depend on a file format. Does not: how a file is
found (`aura.corpus.tree`) or parsed (`aura.corpus.text_files`, `tables`, `media`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Modality = Literal["text", "image", "audio"]
MODALITIES: tuple[Modality, ...] = ("text", "image", "audio")

MAX_TEXT_BYTES = 2**20
"""Largest text item in bytes of UTF-8: about 250,000 words, far above what any embedding model reads."""


_MAX_REASON = 500


class SetAsideError(Exception):
    """An item or a file cannot be used; the message is the plain reason for the manifest."""


@dataclass(frozen=True)
class ManifestRow:
    """One item of a source, or one thing that was set aside.

    `item_id` is blake2b-128 (RFC 7693) of the content in hex, None if set aside; `size` is in bytes, None if unknown;
    `modality` is None for things of an unsupported kind and for videos as a whole; `reason` is None for usable items;
    `group` names the thing that several items are about, None for an item on its own.
    """

    uri: str
    modality: Modality | None
    item_id: str | None = None
    label: str | None = None
    sublabel: str | None = None
    group: str | None = None
    size: int | None = None
    text: str | None = None
    reason: str | None = None


def content_id(content: bytes) -> str:
    """The 32 hexadecimal digits of the content's blake2b-128 hash (RFC 7693)."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def size_in_words(size: int) -> str:
    """A size in bytes as people read it, for example `1.5 MiB`."""
    if size < 1024:
        return f"{size} B"
    if size < 2**20:
        return f"{size / 1024:.1f} KiB"
    return f"{size / 2**20:.1f} MiB"


def oversized(size: int, limit: int) -> str:
    """The reason for something larger than `limit` bytes."""
    return f"oversized: {size_in_words(size)} ({size} bytes), the limit is {size_in_words(limit)}"


def text_row(
    uri: str,
    text: str,
    *,
    label: str | None = None,
    sublabel: str | None = None,
    group: str | None = None,
    max_bytes: int = MAX_TEXT_BYTES,
) -> ManifestRow:
    """A text item addressed by its UTF-8 bytes, or the row that says why the text cannot be used."""
    try:
        content = text.encode()
        (label or "").encode()
    except UnicodeEncodeError:
        return set_aside_row(uri, "undecodable: text or label holds what UTF-8 cannot say", modality="text")
    if not text.strip():
        return set_aside_row(uri, "empty", modality="text", size=len(content))
    if len(content) > max_bytes:
        return set_aside_row(uri, oversized(len(content), max_bytes), modality="text", size=len(content))
    return ManifestRow(uri, "text", content_id(content), label, sublabel, group, len(content), text)


def set_aside_row(uri: str, reason: str, *, modality: Modality | None, size: int | None = None) -> ManifestRow:
    """A row for something that the scan met and could not use."""
    plain = reason.encode("utf-8", "backslashreplace").decode()
    return ManifestRow(uri, modality, size=size, reason=plain[:_MAX_REASON])


def until_usable(rows: Iterator[ManifestRow], wanted: int) -> Iterator[ManifestRow]:
    """The rows up to and including the `wanted`-th usable one, taken from an iterator that can be taken from again."""
    for row in rows:
        yield row
        wanted -= row.reason is None
        if wanted == 0:
            return
