"""Texts out of the rows of a table file: JSON lines, CSV (RFC 4180) and Parquet.

Belongs here: which column holds the text, row numbers, what is wrong with a row or a file. Does not: uris and ids.

The text is the column "text", or else the only string column besides "label". Rows count from 0; in JSON lines blank
lines do not count, in CSV the header does not. A broken row is set aside alone; a file whose columns cannot be
understood is set aside as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from aura.corpus.rows import SetAsideError, oversized
from aura.corpus.text_files import decode

TEXT = "text"
LABEL = "label"

_EXPANSION = 8
"""A table may unfold to this many times the largest allowed file; beyond that it is a decompression bomb."""
_BATCH_ROWS = 256


@dataclass(frozen=True)
class TextRow:
    """One row: its number, and either its text or the reason why there is none."""

    row: int
    text: str = ""
    label: str | None = None
    reason: str | None = None


def read_rows(content: bytes, suffix: str, *, default_label: str | None, max_bytes: int) -> Iterator[TextRow]:
    """The rows of a table file in order.

    Args:
        content: the file's bytes.
        suffix: ".jsonl", ".csv" or ".parquet".
        default_label: the label of every row in a file without a "label" column.
        max_bytes: the largest allowed file, from which the limit for unfolded Parquet is derived.

    Raises:
        SetAsideError: the file as a whole cannot be used; raised while iterating.
    """
    readers: dict[str, Callable[[], Iterator[TextRow]]] = {
        ".jsonl": lambda: _json_lines(content, default_label),
        ".csv": lambda: _csv(content, default_label),
        ".parquet": lambda: _parquet(content, default_label, _EXPANSION * max_bytes),
    }
    return readers[suffix]()


def _text_column(columns: list[str], strings: list[str]) -> str:
    """The name of the text column among all `columns`, of which `strings` hold strings."""
    if TEXT in columns:
        name = TEXT
    else:
        candidates = [column for column in strings if column != LABEL]
        if len(candidates) != 1:
            what = "several string columns" if candidates else "no string column"
            raise SetAsideError(f'no column "text" and {what}: the columns are {_quoted(columns)}')
        name = candidates[0]
    for column in (name, LABEL):
        if columns.count(column) > 1:
            raise SetAsideError(f'column "{column}" is there more than once: the columns are {_quoted(columns)}')
    return name


def _quoted(columns: list[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns) or "none"


def _json_lines(content: bytes, default_label: str | None) -> Iterator[TextRow]:
    # Not splitlines: U+2028 and its like may stand inside a JSON string.
    lines = [line for line in decode(content).split("\n") if line.strip()]
    records = [_json_object(line) for line in lines]
    objects = [record for record in records if isinstance(record, dict)]
    if not objects:
        raise SetAsideError(f"no row is usable: row 0 {records[0]}" if records else "empty: no rows")
    columns = list(dict.fromkeys(column for record in objects for column in record))
    strings = [column for column in columns if any(isinstance(record.get(column), str) for record in objects)]
    name = _text_column(columns, strings)
    for row, record in enumerate(records):
        if isinstance(record, str):
            yield TextRow(row, reason=record)
            continue
        text = record.get(name)
        label = _json_label(record.get(LABEL)) if LABEL in columns else default_label
        if isinstance(text, str):
            yield TextRow(row, text, label)
        else:
            yield TextRow(row, reason=f'column "{name}" holds {json.dumps(text)[:40]}, expected a string')


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


def _csv(content: bytes, default_label: str | None) -> Iterator[TextRow]:
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
            convert_options=pyarrow.csv.ConvertOptions(column_types={TEXT: pa.string(), LABEL: pa.string()}),
        )
    except pa.ArrowException as error:
        raise SetAsideError(f"undecodable: broken CSV ({error})") from error
    columns, name = _arrow_columns(table.schema)
    if not table.num_rows and not broken:
        raise SetAsideError("empty: no rows")
    labels = _values(table[LABEL]) if LABEL in columns else [default_label] * table.num_rows
    numbers = (row for row in range(table.num_rows + len(broken)) if row not in broken)
    rows = [TextRow(row, reason=reason) for row, reason in broken.items()]
    rows += map(_checked, numbers, _values(table[name]), labels)
    yield from sorted(rows, key=lambda row: row.row)


def _parquet(content: bytes, default_label: str | None, limit: int) -> Iterator[TextRow]:
    try:
        yield from _parquet_rows(content, default_label, limit)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SetAsideError(f"undecodable: broken Parquet ({str(error).partition(chr(10))[0]})") from error


def _parquet_rows(content: bytes, default_label: str | None, limit: int) -> Iterator[TextRow]:
    file = pq.ParquetFile(pa.BufferReader(content))
    columns, name = _arrow_columns(file.schema_arrow)
    if not file.metadata.num_rows:
        raise SetAsideError("empty: no rows")
    groups = (file.metadata.row_group(group) for group in range(file.metadata.num_row_groups))
    unfolded = sum(group.total_byte_size for group in groups)
    if unfolded > limit:
        raise SetAsideError(f"decompression bomb, {oversized(unfolded, limit)}")
    wanted = [name, LABEL] if LABEL in columns else [name]
    row = seen = 0
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=wanted):
        # Dictionary pages unfold only here, so the sizes that the file states are not enough.
        seen += batch.nbytes
        if seen > limit:
            raise SetAsideError(f"decompression bomb, {oversized(seen, limit)}")
        labels = _values(batch[LABEL]) if LABEL in columns else [default_label] * batch.num_rows
        yield from map(_checked, range(row, row + batch.num_rows), _values(batch[name]), labels)
        row += batch.num_rows


def _arrow_columns(schema: pa.Schema) -> tuple[list[str], str]:
    """All column names, and which one holds the text."""
    columns = list(schema.names)
    name = _text_column(columns, [field.name for field in schema if _is_string(field.type)])
    if not _is_string(schema.field(name).type):
        raise SetAsideError(f'column "{name}" has the type {schema.field(name).type}, expected string')
    if LABEL in columns and pa.types.is_nested(schema.field(LABEL).type):
        raise SetAsideError(f'column "{LABEL}" has the type {schema.field(LABEL).type}, expected strings or numbers')
    return columns, name


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


def _checked(row: int, text: str | None, label: str | None) -> TextRow:
    if text is None:
        return TextRow(row, reason="empty: the text is null")
    return TextRow(row, text, label)
