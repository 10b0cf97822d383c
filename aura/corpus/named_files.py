"""The files that the rows of a table name: which they are, or why they cannot be had.

Belongs here: from a path in a table to a file of the tree. Does not: reading the table (`aura.corpus.tables`) or the
files.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from aura.corpus.kinds import kind_of
from aura.corpus.rows import SetAsideError
from aura.corpus.tables import FileCell, TableRow
from aura.corpus.tree import Found, encoded

_SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class NamedFile:
    """What stands behind one cell: the file, or (`reason` set) why there is none."""

    column: str
    file: Found | None = None
    reason: str | None = None


def named_files(
    table: str, rows: Iterable[TableRow], found: Mapping[str, Found], named_by: dict[str, str]
) -> dict[int, tuple[NamedFile, ...]]:
    """The files of each row of `table` that names any.

    A path is relative to the directory of the table, with `/` between its parts.

    Args:
        table: the uri of the table.
        rows: its rows.
        found: everything in the tree by its uri.
        named_by: which row ("table#row") has named a file; the files of these rows are added.

    Raises:
        SetAsideError: the table as a whole cannot be used.
    """
    return {
        row.row: tuple(_named(cell, row, table, found, named_by) for cell in row.files) for row in rows if row.files
    }


def _named(
    cell: FileCell, row: TableRow, table: str, found: Mapping[str, Found], named_by: dict[str, str]
) -> NamedFile:
    uri = f"{table}#{row.row}"
    try:
        file = _found(cell, row, table, found, named_by)
    except SetAsideError as error:
        return NamedFile(cell.column, reason=f"row {uri} {error}")
    named_by[file.uri] = uri
    return NamedFile(cell.column, file)


def _found(cell: FileCell, row: TableRow, table: str, found: Mapping[str, Found], named_by: Mapping[str, str]) -> Found:
    if cell.reason is not None:
        raise SetAsideError(f"cannot be read: {cell.reason}")
    if not _is_text(row.label or ""):
        raise SetAsideError("has a label that holds what UTF-8 cannot say")
    uri = posixpath.normpath(posixpath.join(str(PurePosixPath(table).parent), encoded(cell.path)))
    file = found.get(uri)
    if file is not None and file.reason is None and kind_of(uri) == cell.column and uri not in named_by:
        return file
    raise SetAsideError(f'names "{cell.path[:_SHOWN_CHARACTERS]}" as {cell.column}, {_fault(uri, file, named_by)}')


def _fault(uri: str, file: Found | None, named_by: Mapping[str, str]) -> str:
    if uri.startswith("/"):
        return "an absolute path; expected one relative to the directory of the table"
    if PurePosixPath(uri).parts[:1] == ("..",):
        return "which leads out of the root of the corpus"
    if file is None:
        return "which does not exist, is hidden, or lies behind a link to a directory"
    if file.reason is not None:
        return f"which cannot be used: {file.reason}"
    if uri in named_by:
        return f"which the row {named_by[uri]} names already"
    return "which by its suffix is none"


def _is_text(label: str) -> bool:
    try:
        label.encode()
    except UnicodeEncodeError:
        return False
    return True
