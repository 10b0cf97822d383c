"""Texts out of JSON lines, CSV and Parquet."""

from __future__ import annotations

import io
import json
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aura.corpus.rows import SetAsideError
from aura.corpus.tables import TableRow, read_rows

LIMIT = 2**20


def rows(content: bytes, suffix: str, label: str | None = None, max_bytes: int = LIMIT) -> list[TableRow]:
    return list(read_rows(content, suffix, default_label=label, max_bytes=max_bytes))


def parquet(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def test_the_column_called_text_is_read_and_rows_count_from_0():
    content = b'{"title": "t", "text": "one", "label": "x"}\n\n{"text": "two", "label": 3}\n'
    assert rows(content, ".jsonl") == [TableRow(0, "one", "x"), TableRow(1, "two", "3")]


def test_the_only_string_column_besides_the_label_is_the_text():
    content = b"id,body,label\n1,one,x\n2,two,y\n"
    assert rows(content, ".csv") == [TableRow(0, "one", "x"), TableRow(1, "two", "y")]


def test_rows_of_a_file_without_labels_get_the_default_label():
    assert rows(b"text\none\n", ".csv", label="folder") == [TableRow(0, "one", "folder")]


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (b"title,body\nsome,thing\n", ".csv"),
        (b'{"title": "some", "body": "thing"}\n', ".jsonl"),
        (parquet(pa.table({"title": ["some"], "body": ["thing"]})), ".parquet"),
    ],
)
def test_several_string_columns_are_named_in_the_reason(content, suffix):
    with pytest.raises(SetAsideError, match=r'several string columns: the columns are "title", "body"'):
        rows(content, suffix)


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (b"width,height\n1,2\n", ".csv"),
        (b'{"width": 1, "height": 2}\n', ".jsonl"),
        (parquet(pa.table({"width": [1], "height": [2]})), ".parquet"),
    ],
)
def test_a_table_without_strings_has_its_columns_named_in_the_reason(content, suffix):
    with pytest.raises(SetAsideError, match=r'no string column: the columns are "width", "height"'):
        rows(content, suffix)


def test_a_column_called_text_wins_over_other_string_columns_and_keeps_its_digits_in_csv():
    assert rows(b"title,text,label\na,007,01\n", ".csv") == [TableRow(0, "007", "01")]


def test_csv_values_may_hold_commas_quotes_and_line_breaks():
    assert rows(b'text\n"a, ""b""\nc"\nd\n', ".csv") == [TableRow(0, 'a, "b"\nc'), TableRow(1, "d")]


def test_a_csv_row_with_too_many_fields_is_set_aside_alone():
    found = rows(b"text,label\none,x\ntwo,y,z\nthree,w\n", ".csv")
    assert found == [
        TableRow(0, "one", "x"),
        TableRow(1, reason="undecodable: 3 fields, expected 2"),
        TableRow(2, "three", "w"),
    ]


def test_a_broken_json_line_is_set_aside_alone():
    found = rows(b'{"text": "one"}\n{"text": \n[1]\n{"text": 5}\n{"other": 1}\n', ".jsonl")
    assert found[0] == TableRow(0, "one")
    assert [row.reason.split(" (")[0] for row in found[1:] if row.reason] == [
        "undecodable: not JSON",
        "undecodable: a JSON list, expected an object",
        'column "text" holds 5, expected a string',
        'column "text" holds null, expected a string',
    ]


def test_json_nested_too_deeply_is_set_aside():
    found = rows(b'{"text": "one"}\n' + b"[" * 100_000 + b"\n", ".jsonl")
    assert found[1].reason is not None
    assert "not JSON" in found[1].reason


def test_json_lines_are_split_at_line_feeds_only():
    text = "one\u2028two\x85three"
    assert rows(json.dumps({"text": text}, ensure_ascii=False).encode(), ".jsonl") == [TableRow(0, text)]


def test_a_file_without_one_json_object_says_what_its_first_row_is():
    with pytest.raises(SetAsideError, match=r"row 0 undecodable: not JSON"):
        rows(b"hello\nworld\n", ".jsonl")


@pytest.mark.parametrize(
    ("content", "suffix"),
    [(b"text,label\n", ".csv"), (b"\n\n", ".jsonl"), (parquet(pa.table({"text": pa.array([], "string")})), ".parquet")],
)
def test_a_table_without_rows_is_empty(content, suffix):
    with pytest.raises(SetAsideError, match="empty: no rows"):
        rows(content, suffix)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_table_in_latin_1_is_undecodable(suffix):
    with pytest.raises(SetAsideError, match="not UTF-8"):
        rows("text\nüber\n".encode("latin-1"), suffix)


def test_a_csv_with_two_text_columns_is_refused():
    with pytest.raises(SetAsideError, match='"text" is there more than once'):
        rows(b"text,text\na,b\n", ".csv")


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["one", None, "two"], pa.string()),
        pa.array(["one", None, "two"], pa.large_string()),
        pa.array(["one", None, "two"]).dictionary_encode(),
    ],
)
def test_parquet_strings_of_every_kind_are_read(column):
    found = rows(parquet(pa.table({"text": column, "label": [1, 2, None]})), ".parquet")
    assert found == [TableRow(0, "one", "1"), TableRow(1, reason="empty: the text is null"), TableRow(2, "two", None)]


def test_parquet_rows_are_numbered_across_row_groups():
    texts = [f"row {n}" for n in range(700)]
    found = rows(parquet(pa.table({"text": texts}), row_group_size=300), ".parquet")
    assert [(row.row, row.text) for row in found] == list(enumerate(texts))


def test_a_text_column_of_numbers_and_a_label_of_lists_are_refused_by_type():
    with pytest.raises(SetAsideError, match='"text" has the type int64, expected string'):
        rows(parquet(pa.table({"text": [1]})), ".parquet")
    with pytest.raises(SetAsideError, match='"label" has the type list'):
        rows(parquet(pa.table({"text": ["a"], "label": [["x"]]})), ".parquet")


def test_a_zip_archive_called_parquet_is_broken():
    with pytest.raises(SetAsideError, match="broken Parquet"):
        rows(b"PK\x03\x04" + b"\0" * 100, ".parquet")


@pytest.mark.parametrize("dictionary", [True, False])
def test_a_parquet_file_that_unfolds_too_far_is_a_decompression_bomb(dictionary):
    content = parquet(pa.table({"text": ["x" * 10_000] * 2_000}), compression="zstd", use_dictionary=dictionary)
    assert len(content) < 20_000
    with pytest.raises(SetAsideError, match="decompression bomb"):
        rows(content, ".parquet", max_bytes=2**20)


def test_parquet_text_that_is_not_utf8_is_undecodable_alone():
    wrong = pa.array([b"fine", b"\xff\xfe"], pa.binary()).view(pa.string())
    found = rows(parquet(pa.table({"text": wrong})), ".parquet")
    assert found[0] == TableRow(0, "fine")
    with pytest.raises(UnicodeEncodeError):
        found[1].text.encode()


@settings(max_examples=100, deadline=None)
@given(damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=5))
def test_a_damaged_parquet_file_gives_rows_or_a_reason(damage):
    content = bytearray(parquet(pa.table({"text": ["one", "two"], "label": ["a", "b"]})))
    for place, value in damage:
        content[int(place * len(content))] = value
    with suppress(SetAsideError):
        found = rows(bytes(content), ".parquet")
        assert [row.row for row in found] == list(range(len(found)))


@settings(max_examples=100, deadline=None)
@given(content=st.text(alphabet='text,label\n"ab1{}:[] ', max_size=80), suffix=st.sampled_from([".csv", ".jsonl"]))
def test_any_text_file_called_a_table_gives_rows_or_a_reason(content, suffix):
    with suppress(SetAsideError):
        found = rows(content.encode(), suffix)
        assert [row.row for row in found] == sorted({row.row for row in found})
