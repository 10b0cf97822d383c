"""A directory tree as a source: texts, web pages, tables of texts, images and sounds.

Belongs here: which file is read how, labels, the choice under `max_items`. Does not: walking (`aura.corpus.tree`) and
the file formats (`aura.corpus.text_files`, `tables`, `media`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aura.corpus.errors import ItemChangedError, TextItemError
from aura.corpus.manifest import CorpusManifest
from aura.corpus.media import check_audio, check_image
from aura.corpus.rows import (
    MAX_TEXT_BYTES,
    ManifestRow,
    Modality,
    SetAsideError,
    content_id,
    set_aside_row,
    text_row,
    until_usable,
)
from aura.corpus.tables import TextRow, read_rows
from aura.corpus.text_files import decode, visible_text
from aura.corpus.tree import Found, list_tree, path_inside, read_bounded

_log = logging.getLogger(__name__)

_TEXT_SUFFIXES = (".txt", ".md", ".html")
_TABLE_SUFFIXES = (".jsonl", ".csv", ".parquet")
_MODALITIES: dict[str, Modality] = {
    **dict.fromkeys((*_TEXT_SUFFIXES, *_TABLE_SUFFIXES), "text"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"), "image"),
    **dict.fromkeys((".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus"), "audio"),
}
_CHECKS: dict[Modality, Callable[[bytes], None]] = {"image": check_image, "audio": check_audio}

MAX_BYTES = 32 * 2**20
"""Largest table, image or audio file in bytes."""


@dataclass(frozen=True)
class DirectorySource:
    """The files under `root`.

    A file's uri is its relative path, a table row's is "file#row"; the label is the first sub-directory, or what the
    column "label" of a table says. `max_bytes` bounds binary and table files, `max_text_bytes` text files and the text
    of a row.

    `max_items` keeps that many usable items. Files are visited in the order of a hash of their uri until there are
    enough, so the choice is spread over the tree and hardly moves when files come and go; the files that were not
    visited are not in the manifest.
    """

    name: str
    root: Path
    max_items: int | None = None
    max_bytes: int = MAX_BYTES
    max_text_bytes: int = MAX_TEXT_BYTES

    def scan(self, progress: Callable[[int, int], None] | None = None) -> CorpusManifest:
        """List the tree: files sorted by uri, the rows of a table in their order.

        Args:
            progress: called with the number of files done and the number of files in all.

        Raises:
            CorpusRootError: the root is not a readable directory.
        """
        found = list_tree(self.root)
        rows: dict[str, list[ManifestRow]] = {one.uri: [_refused(one)] for one in found if one.reason}
        files = [one for one in found if not one.reason]
        if self.max_items is not None:
            files.sort(key=lambda one: content_id(one.uri.encode()))
        wanted = self.max_items
        for done, file in enumerate(files, start=1):
            if wanted == 0:
                _log.info(
                    "%s: %d items are enough, %d files not read", self.name, self.max_items, len(files) - done + 1
                )
                break
            rows[file.uri] = self._rows(file, wanted)
            if wanted is not None:
                wanted -= sum(row.reason is None for row in rows[file.uri])
            if progress is not None:
                progress(done, len(files))
        return CorpusManifest.from_rows(self.name, (row for uri in sorted(rows) for row in rows[uri]))

    def read(self, uri: str, item_id: str) -> bytes:
        """The bytes of an image or audio file, if they are still those that the manifest lists.

        Raises:
            PathOutsideCorpusError: the path leads out of the root.
            TextItemError: the uri is a text item's.
            ItemChangedError: the file is gone, unreadable or has another content.
        """
        path = path_inside(self.root, uri)
        if _modality(uri) == "text" or "#" in uri:
            raise TextItemError(f"{uri!r} of source {self.name!r} is text: take it from the manifest's column 'text'")
        try:
            content = read_bounded(path, self.max_bytes)
        except SetAsideError as error:
            raise ItemChangedError(f"{uri!r} of source {self.name!r} is gone ({error}); scan it again") from error
        if content_id(content) != item_id:
            raise ItemChangedError(
                f"{uri!r} of source {self.name!r} is now {content_id(content)}, the manifest lists {item_id}; "
                f"scan the source again"
            )
        return content

    def _rows(self, file: Found, wanted: int | None) -> list[ManifestRow]:
        """The rows of one file, at most `wanted` usable ones, or the one row that says why there are none."""
        modality = _modality(file.uri)
        try:
            rows = self._readable(file, modality)
            return list(rows if wanted is None else until_usable(rows, wanted))
        except SetAsideError as error:
            return [set_aside_row(file.uri, str(error), modality=modality, size=file.size)]

    def _readable(self, file: Found, modality: Modality | None) -> Iterator[ManifestRow]:
        if modality is None:
            suffix = PurePosixPath(file.uri).suffix
            raise SetAsideError(f"unsupported suffix {suffix}" if suffix else "unsupported: no suffix")
        if file.size == 0:
            raise SetAsideError("empty")
        if _suffix(file.uri) in _TABLE_SUFFIXES:
            yield from self._table_rows(file)
        elif modality == "text":
            yield self._text(file)
        else:
            yield self._binary(file, modality)

    def _text(self, file: Found) -> ManifestRow:
        text = decode(read_bounded(file.path, self.max_text_bytes))
        if _suffix(file.uri) == ".html":
            text = visible_text(text)
        return text_row(file.uri, text, label=_label(file.uri), max_bytes=self.max_text_bytes)

    def _binary(self, file: Found, modality: Modality) -> ManifestRow:
        content = read_bounded(file.path, self.max_bytes)
        _CHECKS[modality](content)
        return ManifestRow(file.uri, modality, content_id(content), _label(file.uri), size=len(content))

    def _table_rows(self, file: Found) -> Iterator[ManifestRow]:
        content = read_bounded(file.path, self.max_bytes)
        rows = read_rows(content, _suffix(file.uri), default_label=_label(file.uri), max_bytes=self.max_bytes)
        return (self._table_row(file.uri, row) for row in rows)

    def _table_row(self, uri: str, row: TextRow) -> ManifestRow:
        item = f"{uri}#{row.row}"
        if row.reason is not None:
            return set_aside_row(item, row.reason, modality="text")
        return text_row(item, row.text, label=row.label, max_bytes=self.max_text_bytes)


def _refused(found: Found) -> ManifestRow:
    return set_aside_row(found.uri, str(found.reason), modality=_modality(found.uri))


def _suffix(uri: str) -> str:
    return PurePosixPath(uri).suffix.lower()


def _modality(uri: str) -> Modality | None:
    return _MODALITIES.get(_suffix(uri))


def _label(uri: str) -> str | None:
    """The first sub-directory, None for files directly under the root."""
    parts = PurePosixPath(uri).parts
    return parts[0] if len(parts) > 1 else None
