"""What is asked: a sentence, or a file with a text, an image or a sound."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aura.corpus.kinds import kind_of
from aura.corpus.media import check_audio, check_image
from aura.corpus.rows import Modality, SetAsideError
from aura.corpus.text_files import decode
from aura.search.errors import SearchError

MAX_QUERY_BYTES = 64 * 2**20
"""Largest file that is taken as a query."""


@dataclass(frozen=True)
class Query:
    """A question in one modality.

    Attributes:
        modality: Of the question, not of what is looked for.
        content: The text, or the bytes of the image or sound.
        shown: How it is shown to people.
    """

    modality: Modality
    content: str | bytes
    shown: str


def read_query(given: str | Path) -> Query:
    """Take a file as what it holds, and everything else as a text.

    Args:
        given: The path of a file, or a text. What looks like the name of a file, and is none, is refused.

    Raises:
        SearchError: there is nothing to search for, or the file cannot be read, or used.
    """
    if not isinstance(given, (str, Path)):
        raise SearchError(f"a query is a text or the path of a file, got {given!r} of type {type(given).__name__}")
    if isinstance(given, str) and not given.strip():
        raise SearchError("the query is empty; give a sentence, or the path of an image, a sound or a text")
    path = Path(given).expanduser()
    if _is_file(path):
        return _from_file(path)
    if isinstance(given, Path) or _looks_like_file(given):
        raise SearchError(f"there is no file {str(given)!r}; give the path of one, or a sentence")
    return Query("text", given, given)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        # Longer than a name may be, or with a NUL in it: a sentence.
        return False


def _looks_like_file(given: str) -> bool:
    """One word that ends as the names of files do, such as sound.wav; "e.g." and "3.14" are none."""
    suffix = Path(given).suffix[1:]
    return not any(c.isspace() for c in given) and suffix.isalnum() and not suffix.isdigit() and 2 <= len(suffix) <= 5


def _from_file(path: Path) -> Query:
    try:
        size = path.stat().st_size
        if size > MAX_QUERY_BYTES:
            raise SearchError(f"{path} has {size} bytes; a query has at most {MAX_QUERY_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise SearchError(f"{path} cannot be read: {error.strerror}") from error
    return content_query(content, path.name)


def content_query(content: bytes, name: str) -> Query:
    """Take the content of a file as what it holds: an image, a sound or a text.

    Args:
        content: All of it.
        name: The name of the file.

    Raises:
        SearchError: It is a video, empty, or none of the three.
    """
    if kind_of(name) == "video":
        raise SearchError(f"{name} is a video, which has many vectors; give one of its frames, or its sound as WAV")
    kinds: tuple[Modality, ...] = ("image", "audio")
    reasons = []
    for modality, check in zip(kinds, (check_image, check_audio), strict=True):
        try:
            check(content)
        except SetAsideError as error:
            reasons.append(f"as {modality}: {error}")
        else:
            return Query(modality, content, name)
    try:
        text = decode(content)
    except SetAsideError as error:
        raise SearchError(f"{name} is no image, sound or text ({'; '.join(reasons)}; as text: {error})") from error
    if not text.strip():
        raise SearchError(f"{name} is empty; give a sentence, or the path of an image, a sound or a text")
    return Query("text", text, name)
