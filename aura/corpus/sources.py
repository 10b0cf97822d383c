"""What a source is, how one is described, and how a description becomes a source.

Belongs here: the port and the choice of its adapter. Does not: the adapters (`aura.corpus.directory`, `python_docs`,
`digits`) and where descriptions are kept (`aura.corpus.registry`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, assert_never, get_args

from aura.corpus.digits import DigitsSource
from aura.corpus.directory import MAX_BYTES, DirectorySource
from aura.corpus.errors import SourceSpecError
from aura.corpus.manifest import CorpusManifest
from aura.corpus.python_docs import PythonDocsSource
from aura.corpus.rows import MAX_TEXT_BYTES

Kind = Literal["directory", "python-docs", "digits"]
_KINDS: tuple[Kind, ...] = get_args(Kind)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


class Source(Protocol):
    """Something that holds items."""

    @property
    def name(self) -> str:
        """The name under which the source is registered."""
        ...

    def scan(self, progress: Callable[[int, int], None] | None = None) -> CorpusManifest:
        """List what the source holds now; an unchanged source gives an equal manifest.

        Args:
            progress: called with (done, total).
        """
        ...

    def read(self, uri: str, item_id: str) -> bytes:
        """The content of an image or sound that the manifest lists under `uri`, which still has this `item_id`.

        Raises:
            ItemChangedError: the content is gone or is another one now.
            PathOutsideCorpusError: the uri leads out of the source.
            TextItemError: the uri is a text item's; its text is in the manifest.
        """
        ...


@dataclass(frozen=True)
class SourceSpec:
    """The description of a source.

    `name` matches [a-z0-9][a-z0-9._-]*; `path` is the root of a directory source and None for the built-in kinds;
    `max_items` bounds the usable items, None stands for the source's own default.

    Raises:
        SourceSpecError: a field is wrong.
    """

    name: str
    kind: Kind
    path: Path | None = None
    max_items: int | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SourceSpecError(
                f"a source's name starts with a-z or 0-9 and goes on with these, '.', '_' and '-', got {self.name!r}"
            )
        if self.kind not in _KINDS:
            raise SourceSpecError(
                f"source {self.name!r} has the kind {self.kind!r}, expected one of {', '.join(_KINDS)}"
            )
        if (self.path is not None) != (self.kind == "directory"):
            expected = "needs the path of its root" if self.kind == "directory" else "takes no path"
            raise SourceSpecError(f"source {self.name!r} of kind {self.kind!r} {expected}, got {self.path}")
        if self.max_items is not None and self.max_items < 1:
            raise SourceSpecError(f"source {self.name!r} has max_items {self.max_items}, expected at least 1 or None")


@dataclass(frozen=True)
class SourceOptions:
    """What holds for all sources, whichever is opened.

    Attributes:
        file_bytes: Largest table, image, audio or video file of a directory in bytes; a larger one is set aside.
        text_bytes: Largest text file, and largest text of a table's row, in bytes.
        spoken_digits: Directory with the recordings of the digits source, None for none.
    """

    file_bytes: int = MAX_BYTES
    text_bytes: int = MAX_TEXT_BYTES
    spoken_digits: Path | None = None


DEFAULT_OPTIONS = SourceOptions()


def open_source(spec: SourceSpec, options: SourceOptions = DEFAULT_OPTIONS) -> Source:
    """The source that `spec` describes; nothing is read yet."""
    if spec.kind == "digits":
        return DigitsSource(spec.name, spec.max_items, options.spoken_digits)
    if spec.kind == "python-docs":
        return PythonDocsSource(spec.name, spec.max_items)
    if spec.kind == "directory":
        if spec.path is None:
            raise SourceSpecError(f"source {spec.name!r} of kind 'directory' needs the path of its root")
        return DirectorySource(spec.name, spec.path, spec.max_items, options.file_bytes, options.text_bytes)
    assert_never(spec.kind)
