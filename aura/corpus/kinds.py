"""Which kind of file a uri names, by its suffix.

Belongs here: the suffixes. Does not: whether a file really is what it is called (`aura.corpus.media`, `tables`, ...).
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

from aura.corpus.rows import Modality

Kind = Literal["text", "table", "image", "audio", "video"]

_SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "text": (".txt", ".md", ".html"),
    "table": (".jsonl", ".csv", ".parquet"),
    "image": (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    "audio": (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus"),
    "video": (".mp4", ".mkv", ".webm", ".mov", ".avi"),
}
_KINDS: dict[str, Kind] = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes}
_MODALITIES: dict[Kind, Modality] = {"text": "text", "table": "text", "image": "image", "audio": "audio"}


def file_uri(uri: str) -> str:
    """The file that holds the item: the uri up to the first "#", which stands in no file's own uri."""
    return uri.partition("#")[0]


def suffix_of(uri: str) -> str:
    """The suffix of the file that holds the item, in lower case."""
    return PurePosixPath(file_uri(uri)).suffix.lower()


def kind_of(uri: str) -> Kind | None:
    """The kind of the file that holds the item, None if it is of none that is read."""
    return _KINDS.get(suffix_of(uri))


def modality_of(uri: str) -> Modality | None:
    """The modality of what such a file holds, None if it may be of several or is unknown."""
    kind = kind_of(uri)
    return None if kind is None else _MODALITIES.get(kind)
