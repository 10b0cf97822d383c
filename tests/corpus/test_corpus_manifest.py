"""The manifest: its rules, what it counts, and how it compares with an earlier one."""

from __future__ import annotations

import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura.corpus.errors import ManifestSchemaError
from aura.corpus.manifest import SCHEMA, CorpusManifest
from aura.corpus.rows import ManifestRow, content_id, set_aside_row, text_row
from aura.tiers.values import StoredValue

ROWS = (
    text_row("a.txt", "first"),
    text_row("b.txt", "second", label="letters"),
    text_row("copy.txt", "first"),
    ManifestRow("d.png", "image", content_id(b"png"), size=3),
    set_aside_row("e.bin", "unsupported suffix .bin", modality=None, size=7),
)


def manifest(*rows: ManifestRow) -> CorpusManifest:
    return CorpusManifest.from_rows("here", rows)


def encoded(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def test_the_item_id_is_the_blake2b_128_hash_of_the_utf8_text():
    # Reference: printf 'abc' | b2sum -l 128
    assert text_row("a", "abc").item_id == "cf4ab791c62b8d2b2109c90275287816"
    assert text_row("a", "é").item_id == content_id("é".encode())


def test_items_gives_each_content_once_in_manifest_order():
    texts = manifest(*ROWS).items("text")
    assert texts["uri"].to_pylist() == ["a.txt", "b.txt"]
    assert texts["text"].to_pylist() == ["first", "second"]
    assert manifest(*ROWS).items("audio").num_rows == 0


def test_items_of_an_empty_manifest_is_an_empty_table():
    assert manifest().items("text").schema.names == SCHEMA.names
    assert manifest().counts().num_rows == 0


def test_counts_are_per_modality_and_status():
    assert manifest(*ROWS).counts().to_pylist() == [
        {"modality": "image", "status": "ok", "rows": 1, "bytes": 3},
        {"modality": "text", "status": "ok", "rows": 3, "bytes": 16},
        {"modality": None, "status": "set aside", "rows": 1, "bytes": 7},
    ]


def test_what_was_set_aside_comes_with_its_reason():
    assert manifest(*ROWS).set_aside().to_pylist() == [
        {"uri": "e.bin", "modality": None, "bytes": 7, "reason": "unsupported suffix .bin"}
    ]


def test_a_manifest_survives_its_parts_and_is_a_stored_value():
    before = manifest(*ROWS)
    after = CorpusManifest.from_parts(before.to_parts())
    assert isinstance(before, StoredValue)
    assert after == before
    assert after.table.schema.metadata == before.table.schema.metadata


def test_equal_manifests_have_equal_bytes_however_their_tables_were_chunked():
    whole = manifest(*ROWS)
    pieces = pa.concat_tables([whole.table.slice(0, 2), whole.table.slice(2)])
    assert encoded(CorpusManifest("here", pieces).table) == encoded(whole.table)


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (ManifestRow("x", "image", "abc", size=3), "32 hex digits"),
        (ManifestRow("x", None, content_id(b""), size=3), "a modality"),
        (ManifestRow("x", "image", content_id(b"")), "size in bytes"),
        (ManifestRow("x", "text", content_id(b""), size=0), "carries a text"),
        (ManifestRow("x", "image", content_id(b""), size=0, text="t"), "carries a text"),
        (ManifestRow("x", "video", content_id(b""), size=0), "modality among text, image, audio"),  # type: ignore[arg-type]
        (ManifestRow("x", "image", content_id(b""), size=0, reason="broken"), "has no item_id"),
    ],
)
def test_a_row_that_breaks_a_rule_is_refused_by_name(row, rule):
    with pytest.raises(ManifestSchemaError, match=rule) as caught:
        manifest(row)
    assert "'x'" in str(caught.value)


def test_two_rows_with_one_uri_are_refused():
    with pytest.raises(ManifestSchemaError, match=r"'a.txt' more than once"):
        manifest(text_row("a.txt", "one"), text_row("a.txt", "two"))


def test_a_status_that_nobody_knows_is_refused():
    table = manifest(ROWS[0]).table
    wrong = table.set_column(table.schema.get_field_index("status"), "status", pa.array(["fine"]))
    with pytest.raises(ManifestSchemaError, match="status 'ok' or 'set aside'"):
        CorpusManifest("here", wrong)


def test_a_table_with_other_columns_is_refused_with_both_schemas():
    with pytest.raises(ManifestSchemaError, match=r"item_id: string.*got \(n: int64\)"):
        CorpusManifest("here", pa.table({"n": [1]}))


def test_parts_without_the_table_or_without_the_source_are_refused():
    with pytest.raises(ManifestSchemaError, match="one Arrow table called 'items'"):
        CorpusManifest.from_parts({"items": b"bytes"})
    with pytest.raises(ManifestSchemaError, match="source is unknown"):
        CorpusManifest.from_parts({"items": manifest().table.replace_schema_metadata(None)})


def test_everything_is_added_when_there_was_nothing_before():
    changes = manifest(*ROWS).changes_since(None)
    assert changes.added == ("a.txt", "b.txt", "copy.txt", "d.png")
    assert changes.changed == changes.removed == changes.unchanged == ()


def test_an_item_that_becomes_unusable_is_removed_and_comes_back_as_added():
    good = manifest(text_row("a.txt", "fine"))
    bad = manifest(set_aside_row("a.txt", "empty", modality="text"))
    assert bad.changes_since(good).removed == ("a.txt",)
    assert good.changes_since(bad).added == ("a.txt",)


contents = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["one", "two", "three"]))


@given(then=contents, now=contents)
def test_changes_split_both_manifests_into_what_stayed_and_what_did_not(then, now):
    old, new = (manifest(*(text_row(uri, text) for uri, text in sorted(one.items()))) for one in (then, now))
    changes = new.changes_since(old)
    assert set(changes.added) == now.keys() - then.keys()
    assert set(changes.removed) == then.keys() - now.keys()
    assert set(changes.changed) == {uri for uri in now.keys() & then.keys() if now[uri] != then[uri]}
    assert set(changes.unchanged) == {uri for uri in now.keys() & then.keys() if now[uri] == then[uri]}
