"""A directory tree as a source: texts, web pages, tables, images, sounds and videos.

Belongs here: which file is read how, labels, the choice under `max_items`. Does not: walking (`aura.corpus.tree`), the
file formats (`aura.corpus.text_files`, `tables`, `media`, `video`), what belongs together (`groups`, `named_files`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from aura.corpus.errors import ItemChangedError, TextItemError
from aura.corpus.groups import settle_groups, stem_group
from aura.corpus.kinds import Kind, file_uri, kind_of, modality_of, suffix_of
from aura.corpus.manifest import CorpusManifest
from aura.corpus.media import check_audio, check_image
from aura.corpus.named_files import NamedFile, named_files
from aura.corpus.rows import (
    MAX_TEXT_BYTES,
    ManifestRow,
    SetAsideError,
    content_id,
    set_aside_row,
    text_row,
    until_usable,
)
from aura.corpus.tables import TableRow, may_name_files, read_rows
from aura.corpus.text_files import decode, visible_text
from aura.corpus.tree import Found, list_tree, path_inside, read_bounded
from aura.corpus.video_items import video_item, video_rows

_log = logging.getLogger(__name__)

_CHECKS: dict[Kind, Callable[[bytes], None]] = {"image": check_image, "audio": check_audio}

MAX_BYTES = 32 * 2**20
"""Largest table, image, audio or video file in bytes."""


_Named = dict[str, dict[int, tuple[NamedFile, ...]]]


@dataclass(frozen=True)
class DirectorySource:
    """The files under `root`.

    A file's uri is its relative path, a table row's is "file#row", a video's items' are "file#frame=1.500" (the time in
    seconds) and "file#audio"; the label is the first sub-directory, or what the column "label" of a table says.
    `max_bytes` bounds binary and table files, `max_text_bytes` text files and the text of a row.

    Files of one directory that share their stem but not their kind are about the same thing; their group is their uri
    without suffix. A row of a table that names files is about one thing as well: its text and the files have the group
    "file#row", and its label if it has one. The items of a video without partners have its uri as their group, and any
    other item without partners has none.

    `max_items` keeps that many usable items. Files are visited in the order of a hash of their uri without suffix until
    there are enough, and the files that a table names together with the row that names them. So partners are chosen
    together (but for the last ones, where the bound may fall among them), the choice is spread over the tree, and it
    hardly moves when files come and go; the files that were not visited are not in the manifest.
    """

    name: str
    root: Path
    max_items: int | None = None
    max_bytes: int = MAX_BYTES
    max_text_bytes: int = MAX_TEXT_BYTES

    def scan(self, progress: Callable[[int, int], None] | None = None) -> CorpusManifest:
        """List the tree: files sorted by uri, the rows of a table in their order.

        Args:
            progress: called with the number of files done and the number of files in all, where files that a table
                names count with it.

        Raises:
            CorpusRootError: the root is not a readable directory.
        """
        found = {one.uri: one for one in list_tree(self.root)}
        named, alone = self._split(found)
        if self.max_items is not None:
            alone.sort(key=lambda one: (content_id(stem_group(one.uri).encode()), one.uri))
        rows = [_refused(one) for one in found.values() if one.reason]
        wanted = self.max_items
        for done, file in enumerate(alone, start=1):
            if wanted == 0:
                _log.info(
                    "%s: %d items are enough, %d files not read", self.name, self.max_items, len(alone) - done + 1
                )
                break
            visited = self._rows(file, named)
            read = list(visited if wanted is None else until_usable(visited, wanted))
            if wanted is not None:
                wanted -= sum(row.reason is None for row in read)
            rows += read
            if progress is not None:
                progress(done, len(alone))
        return CorpusManifest.from_rows(self.name, settle_groups(sorted(rows, key=lambda row: file_uri(row.uri))))

    def read(self, uri: str, item_id: str) -> bytes:
        """The bytes of an image or sound, if they are still those that the manifest lists.

        Raises:
            PathOutsideCorpusError: the path leads out of the root.
            TextItemError: the uri is a text item's.
            ItemChangedError: the file is gone, unreadable or has another content.
        """
        file, mark, fragment = uri.partition("#")
        path = path_inside(self.root, file)
        of_video = kind_of(file) == "video"
        if modality_of(file) == "text" or (mark and not of_video):
            raise TextItemError(f"{uri!r} of source {self.name!r} is text: take it from the manifest's column 'text'")
        try:
            content = read_bounded(path, self.max_bytes)
            if of_video:
                content = video_item(content, fragment)
        except SetAsideError as error:
            raise ItemChangedError(f"{uri!r} of source {self.name!r} is gone ({error}); scan it again") from error
        if content_id(content) != item_id:
            raise ItemChangedError(
                f"{uri!r} of source {self.name!r} is now {content_id(content)}, the manifest lists {item_id}; "
                f"scan the source again"
            )
        return content

    def _split(self, found: dict[str, Found]) -> tuple[_Named, list[Found]]:
        """What the tables name, by the table's uri and the row, and the files that no table names."""
        named: _Named = {}
        named_by: dict[str, str] = {}
        files = [one for one in found.values() if not one.reason]
        for table in (one for one in files if kind_of(one.uri) == "table"):
            # A table that cannot be used says so when it is visited.
            with suppress(SetAsideError):
                content = read_bounded(table.path, self.max_bytes)
                if may_name_files(content):
                    rows = read_rows(content, suffix_of(table.uri), default_label=None, max_bytes=self.max_bytes)
                    named[table.uri] = named_files(table.uri, list(rows), found, named_by)
        return named, [one for one in files if one.uri not in named_by]

    def _rows(self, file: Found, named: _Named) -> Iterator[ManifestRow]:
        """The rows of one file that no table names."""
        if kind_of(file.uri) == "table":
            return self._of_file(file, lambda: self._table_rows(file, named.get(file.uri, {})))
        items = self._of_file(file, lambda: self._items(file))
        return (replace(row, group=stem_group(file.uri)) for row in items)

    def _of_file(self, file: Found, read: Callable[[], Iterator[ManifestRow]]) -> Iterator[ManifestRow]:
        """What `read` gives, and a row with the reason where it stops."""
        try:
            yield from read()
        except SetAsideError as error:
            yield set_aside_row(file.uri, str(error), modality=modality_of(file.uri), size=file.size)

    def _items(self, file: Found) -> Iterator[ManifestRow]:
        """The items of a file that is no table."""
        kind = kind_of(file.uri)
        if kind is None:
            suffix = suffix_of(file.uri)
            raise SetAsideError(f"unsupported suffix {suffix}" if suffix else "unsupported: no suffix")
        if kind == "video":
            yield from video_rows(file.uri, _content(file, self.max_bytes), _label(file.uri))
        else:
            yield self._text(file) if kind == "text" else self._binary(file, kind)

    def _text(self, file: Found) -> ManifestRow:
        text = decode(_content(file, self.max_text_bytes))
        if suffix_of(file.uri) == ".html":
            text = visible_text(text)
        return text_row(file.uri, text, label=_label(file.uri), max_bytes=self.max_text_bytes)

    def _binary(self, file: Found, kind: Kind) -> ManifestRow:
        content = _content(file, self.max_bytes)
        _CHECKS[kind](content)
        return ManifestRow(file.uri, modality_of(file.uri), content_id(content), _label(file.uri), size=len(content))

    def _table_rows(self, file: Found, named: dict[int, tuple[NamedFile, ...]]) -> Iterator[ManifestRow]:
        content = _content(file, self.max_bytes)
        # A file that a row names keeps the label of its own directory, unless the row itself has one.
        label = None if named else _label(file.uri)
        for row in read_rows(content, suffix_of(file.uri), default_label=label, max_bytes=self.max_bytes):
            uri = f"{file.uri}#{row.row}"
            if row.reason is not None:
                yield set_aside_row(uri, row.reason, modality="text")
            elif row.text.strip() or row.row not in named:
                label = row.label or (_label(file.uri) if named else None)
                yield text_row(uri, row.text, label=label, group=uri, max_bytes=self.max_text_bytes)
            for one in named.get(row.row, ()):
                yield from self._named_rows(one, uri, row)

    def _named_rows(self, one: NamedFile, uri: str, row: TableRow) -> Iterator[ManifestRow]:
        """The rows of a file that the row called `uri` names, with its group and its label."""
        file = one.file
        if file is None:
            yield set_aside_row(f"{uri}.{one.column}", str(one.reason), modality=None)
            return
        for item in self._of_file(file, lambda: self._items(file)):
            yield replace(item, group=uri, label=row.label or item.label)


def _content(file: Found, max_bytes: int) -> bytes:
    content = read_bounded(file.path, max_bytes)
    if not content:
        raise SetAsideError("empty")
    return content


def _refused(one: Found) -> ManifestRow:
    return set_aside_row(one.uri, str(one.reason), modality=modality_of(one.uri), size=one.size)


def _label(uri: str) -> str | None:
    """The first sub-directory, None for files directly under the root."""
    parts = PurePosixPath(uri).parts
    return parts[0] if len(parts) > 1 else None
