"""What the rows of a table file say: JSON lines, CSV (RFC 4180) and Parquet.

Belongs here: which column holds what, row numbers, what is wrong with a row or a file. Does not: uris and ids, and
whether a file that a row names is there (`aura.corpus.named_files`).

The columns "image", "audio" and "video" name files. The text is the column "text"; in a table that names no files it
is else the only string column besides "label". Rows count from 0; in JSON lines blank lines do not count, in CSV the
header does not. A broken row is set aside alone; a file whose columns cannot be understood is set aside as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from aura.corpus.rows import SetAsideError, oversized
from aura.corpus.text_files import decode

TEXT = "text"
LABEL = "label"
FILES = ("image", "audio", "video")
"""Columns whose values are paths of files."""

_EXPANSION = 8
"""A table may unfold to this many times the largest allowed file; beyond that it is a decompression bomb."""
_BATCH_ROWS = 256


@dataclass(frozen=True)
class FileCell:
    """One file that a row names: the column, and either the path as it stands there or the reason why it is none."""

    column: str
    path: str = ""
    reason: str | None = None


@dataclass(frozen=True)
class TableRow:
    """One row: its number, its text or the reason why there is none, and the files that it names.

    In a table that names files the text may be "" for none.
    """

    row: int
    text: str = ""
    label: str | None = None
    reason: str | None = None
    files: tuple[FileCell, ...] = ()


@dataclass(frozen=True)
class _Columns:
    """The columns that count: the one with the text, whether there are labels, and those that name files.

    `untyped` are columns for files of a type that holds no paths; each row says so.
    """

    text: str | None
    has_label: bool
    files: tuple[str, ...]
    untyped: tuple[FileCell, ...] = ()

    def arrow_names(self) -> list[str]:
        return [*([self.text] if self.text else ()), *([LABEL] if self.has_label else ()), *self.files]


def may_name_files(content: bytes) -> bool:
    """Whether a table file can have one of the columns `FILES`; if not, that is certain and no row has to be read."""
    return b"\\u" in content or any(column.encode() in content for column in FILES)


def read_rows(content: bytes, suffix: str, *, default_label: str | None, max_bytes: int) -> Iterator[TableRow]:
    """The rows of a table file in order.

    Args:
        content: the file's bytes.
        suffix: ".jsonl", ".csv" or ".parquet".
        default_label: the label of every row in a file without a "label" column.
        max_bytes: the largest allowed file, from which the limit for unfolded Parquet is derived.

    Raises:
        SetAsideError: the file as a whole cannot be used; raised while iterating.
    """
    readers: dict[str, Callable[[], Iterator[TableRow]]] = {
        ".jsonl": lambda: _json_lines(content, default_label),
        ".csv": lambda: _csv(content, default_label),
        ".parquet": lambda: _parquet(content, default_label, _EXPANSION * max_bytes),
    }
    return readers[suffix]()


def _columns(names: list[str], strings: list[str]) -> _Columns:
    """What the columns called `names` hold, of which `strings` hold strings."""
    files = tuple(column for column in FILES if column in names)
    text: str | None = TEXT
    if TEXT not in names:
        text = None if files else _only_text(names, [column for column in strings if column != LABEL])
    for column in (text, LABEL, *files):
        if column is not None and names.count(column) > 1:
            raise SetAsideError(f'column "{column}" is there more than once: the columns are {_quoted(names)}')
    return _Columns(text, LABEL in names, files)


def _only_text(names: list[str], candidates: list[str]) -> str:
    if len(candidates) != 1:
        what = "several string columns" if candidates else "no string column"
        raise SetAsideError(f'no column "text" and {what}: the columns are {_quoted(names)}')
    return candidates[0]


def _quoted(columns: list[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns) or "none"


def _json_lines(content: bytes, default_label: str | None) -> Iterator[TableRow]:
    # Not splitlines: U+2028 and its like may stand inside a JSON string.
    lines = [line for line in decode(content).split("\n") if line.strip()]
    records = [_json_object(line) for line in lines]
    objects = [record for record in records if isinstance(record, dict)]
    if not objects:
        raise SetAsideError(f"no row is usable: row 0 {records[0]}" if records else "empty: no rows")
    names = list(dict.fromkeys(column for record in objects for column in record))
    strings = [column for column in names if any(isinstance(record.get(column), str) for record in objects)]
    columns = _columns(names, strings)
    for row, record in enumerate(records):
        if isinstance(record, str):
            yield TableRow(row, reason=record)
        else:
            yield _json_row(row, record, columns, default_label)


def _json_row(row: int, record: dict[str, object], columns: _Columns, default_label: str | None) -> TableRow:
    label = _json_label(record.get(LABEL)) if columns.has_label else default_label
    files = _cells((column, record.get(column)) for column in columns.files)
    text = "" if columns.text is None else record.get(columns.text)
    if text is None and columns.files:
        text = ""
    if isinstance(text, str):
        return TableRow(row, text, label, files=files)
    return TableRow(row, label=label if files else None, reason=_not_a_string(str(columns.text), text), files=files)


def _cells(values: Iterable[tuple[str, object]]) -> tuple[FileCell, ...]:
    """The files named by (column, value) pairs; no value and a blank one name none."""
    return tuple(
        FileCell(column, value) if isinstance(value, str) else FileCell(column, reason=_not_a_string(column, value))
        for column, value in values
        if value is not None and not (isinstance(value, str) and not value.strip())
    )


def _not_a_string(column: str, value: object) -> str:
    return f'column "{column}" holds {json.dumps(value)[:40]}, expected a string'


def _json_object(line: str) -> dict[str, object] | str:
    """The object on one line, or the reason why there is none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"undecodable: not JSON ({error})"
    return value if isinstance(value, dict) else f"undecodable: a JSON {type(value).__name__}, expected an object"


def _json_label(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _csv(content: bytes, default_label: str | None) -> Iterator[TableRow]:
    plain = decode(content).encode()
    broken: dict[int, str] = {}

    def note(row: pyarrow.csv.InvalidRow) -> str:
        # Arrow counts from 1 and counts the header.
        broken[row.number - 2] = f"undecodable: {row.actual_columns} fields, expected {row.expected_columns}"
        return "skip"

    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(plain),
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=max(len(plain), 1)),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
            convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys((TEXT, LABEL, *FILES), pa.string())),
        )
    except pa.ArrowException as error:
        raise SetAsideError(f"undecodable: broken CSV ({error})") from error
    columns = _arrow_columns(table.schema)
    if not table.num_rows and not broken:
        raise SetAsideError("empty: no rows")
    numbers = (row for row in range(table.num_rows + len(broken)) if row not in broken)
    rows = [TableRow(row, reason=reason) for row, reason in broken.items()]
    rows += _arrow_rows(numbers, table, columns, default_label)
    yield from sorted(rows, key=lambda row: row.row)


def _parquet(content: bytes, default_label: str | None, limit: int) -> Iterator[TableRow]:
    try:
        yield from _parquet_rows(content, default_label, limit)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SetAsideError(f"undecodable: broken Parquet ({str(error).partition(chr(10))[0]})") from error


def _parquet_rows(content: bytes, default_label: str | None, limit: int) -> Iterator[TableRow]:
    file = pq.ParquetFile(pa.BufferReader(content))
    columns = _arrow_columns(file.schema_arrow)
    if not file.metadata.num_rows:
        raise SetAsideError("empty: no rows")
    groups = (file.metadata.row_group(group) for group in range(file.metadata.num_row_groups))
    unfolded = sum(group.total_byte_size for group in groups)
    if unfolded > limit:
        raise SetAsideError(f"decompression bomb, {oversized(unfolded, limit)}")
    row = seen = 0
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns.arrow_names()):
        # Dictionary pages unfold only here, so the sizes that the file states are not enough.
        seen += batch.nbytes
        if seen > limit:
            raise SetAsideError(f"decompression bomb, {oversized(seen, limit)}")
        yield from _arrow_rows(range(row, row + batch.num_rows), batch, columns, default_label)
        row += batch.num_rows


def _arrow_columns(schema: pa.Schema) -> _Columns:
    columns = _columns(list(schema.names), [field.name for field in schema if _is_string(field.type)])
    if columns.text is not None and not _is_string(schema.field(columns.text).type):
        raise SetAsideError(f'column "{columns.text}" has the type {schema.field(columns.text).type}, expected string')
    if columns.has_label and pa.types.is_nested(schema.field(LABEL).type):
        raise SetAsideError(f'column "{LABEL}" has the type {schema.field(LABEL).type}, expected strings or numbers')
    types = {column: schema.field(column).type for column in columns.files}
    untyped = tuple(
        FileCell(column, reason=f'column "{column}" has the type {kind}, expected string')
        for column, kind in types.items()
        if not _is_string(kind) and not pa.types.is_null(kind)
    )
    return replace(columns, files=tuple(column for column, kind in types.items() if _is_string(kind)), untyped=untyped)


def _arrow_rows(
    numbers: Iterable[int], table: pa.Table | pa.RecordBatch, columns: _Columns, default_label: str | None
) -> Iterator[TableRow]:
    texts = [""] * table.num_rows if columns.text is None else _values(table[columns.text])
    labels = _values(table[LABEL]) if columns.has_label else [default_label] * table.num_rows
    paths = {column: _values(table[column]) for column in columns.files}
    for place, (number, text, label) in enumerate(zip(numbers, texts, labels, strict=True)):
        named = _cells((column, values[place]) for column, values in paths.items())
        files = (*named, *columns.untyped)
        if text is None and not columns.files:
            yield TableRow(number, reason="empty: the text is null", files=files)
        else:
            yield TableRow(number, text or "", label, files=files)


def _is_string(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))


def _values(column: pa.Array | pa.ChunkedArray) -> list[str | None]:
    """The values as strings; a string that is not UTF-8, which Arrow does not check, comes with lone surrogates."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode() if isinstance(column, pa.Array) else column.cast(column.type.value_type)
    if not _is_string(column.type):
        column = column.cast(pa.string())
    raw = column.cast(pa.large_binary()).to_pylist()
    return [value if value is None else value.decode("utf-8", "surrogateescape") for value in raw]
