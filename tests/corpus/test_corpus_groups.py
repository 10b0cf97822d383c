"""Files that share a stem, and rows of tables that name files, as groups of items."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aura.corpus.directory import DirectorySource
from aura.corpus.manifest import CorpusManifest


def write(root: Path, *names: str) -> None:
    """Real files of the kinds that the names ask for, each with its own content."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shade = sum(name.encode()) % 256
        if path.suffix in (".png", ".jpg", ".webp"):
            Image.new("RGB", (8, 8), (shade, 0, 0)).save(path)
        elif path.suffix in (".wav", ".flac", ".ogg"):
            soundfile.write(path, np.full(100, shade / 512), 8_000)
        else:
            path.write_text(f"about {name}")


def scan(root: Path, **options: int) -> CorpusManifest:
    return DirectorySource("here", root, **options).scan()


def groups(manifest: CorpusManifest) -> dict[str, str | None]:
    return {row["uri"]: row["group"] for row in manifest.table.to_pylist() if row["status"] == "ok"}


def reasons(manifest: CorpusManifest) -> dict[str, str]:
    return {row["uri"]: row["reason"] for row in manifest.set_aside().to_pylist()}


def json_lines(path: Path, *rows: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_files_of_one_stem_and_several_kinds_are_one_group(tmp_path):
    write(tmp_path, "d/photo.jpg", "d/photo.txt", "d/photo.wav", "photo.txt", "d/other.jpg")
    assert groups(scan(tmp_path)) == {
        "d/other.jpg": None,
        "d/photo.jpg": "d/photo",
        "d/photo.txt": "d/photo",
        "d/photo.wav": "d/photo",
        "photo.txt": None,
    }


def test_files_of_one_stem_and_one_kind_are_no_group_until_another_kind_comes(tmp_path):
    write(tmp_path, "a.png", "a.jpg")
    assert set(groups(scan(tmp_path)).values()) == {None}
    write(tmp_path, "a.txt")
    assert groups(scan(tmp_path)) == dict.fromkeys(["a.jpg", "a.png", "a.txt"], "a")


def test_a_partner_that_is_set_aside_does_not_count(tmp_path):
    write(tmp_path, "a.txt")
    (tmp_path / "a.png").write_bytes(b"no image")
    (tmp_path / "a.wav").touch()
    assert groups(scan(tmp_path)) == {"a.txt": None}


def test_a_table_is_no_partner_of_the_files_of_its_stem(tmp_path):
    write(tmp_path, "a.png")
    (tmp_path / "a.csv").write_text("text\none\ntwo\n")
    assert set(groups(scan(tmp_path)).values()) == {None}


def test_stems_keep_their_dots_their_case_and_their_uri_characters(tmp_path):
    write(tmp_path, "v1.2 #é.png", "v1.2 #é.txt", "V1.2 #é.wav")
    assert groups(scan(tmp_path)) == {
        "V1.2 %23é.wav": None,
        "v1.2 %23é.png": "v1.2 %23é",
        "v1.2 %23é.txt": "v1.2 %23é",
    }


kinds = st.lists(st.sampled_from(["txt", "png", "wav"]), min_size=1, max_size=3, unique=True)


@settings(max_examples=25, deadline=None)
@given(tree=st.dictionaries(st.sampled_from("abcdef"), kinds), wanted=st.integers(1, 8))
def test_partners_are_chosen_together_but_for_the_last(tree, wanted):
    with tempfile.TemporaryDirectory() as directory:
        write(Path(directory), *(f"{stem}.{suffix}" for stem, suffixes in tree.items() for suffix in suffixes))
        chosen = groups(scan(Path(directory), max_items=wanted))
    assert len(chosen) == min(wanted, sum(map(len, tree.values())))
    parted = [stem for stem, suffixes in tree.items() if 0 < sum(uri[0] == stem for uri in chosen) < len(suffixes)]
    assert len(parted) <= 1


def test_a_row_that_names_files_is_one_thing_with_them(tmp_path):
    write(tmp_path, "pictures/a.png", "sounds/a.wav", "b.png", "b.txt")
    json_lines(
        tmp_path / "pairs" / "all.jsonl",
        {"text": "a dog", "image": "../pictures/a.png", "audio": "../sounds/a.wav", "label": "dog"},
        {"text": "a cat", "image": "../b.png"},
        {"text": "alone", "image": None},
    )
    rows = scan(tmp_path).table.to_pylist()
    assert [(row["uri"], row["modality"], row["label"], row["group"]) for row in rows] == [
        ("b.png", "image", None, "pairs/all.jsonl#1"),
        ("b.txt", "text", None, None),
        ("pairs/all.jsonl#0", "text", "dog", "pairs/all.jsonl#0"),
        ("pairs/all.jsonl#1", "text", "pairs", "pairs/all.jsonl#1"),
        ("pairs/all.jsonl#2", "text", "pairs", None),
        ("pictures/a.png", "image", "dog", "pairs/all.jsonl#0"),
        ("sounds/a.wav", "audio", "dog", "pairs/all.jsonl#0"),
    ]


def test_a_file_without_a_label_in_its_row_keeps_the_one_of_its_directory(tmp_path):
    write(tmp_path, "cats/a.png", "cats/b.png")
    (tmp_path / "rows.csv").write_text("text,image,label\nfirst,cats/a.png,dog\nsecond,cats/b.png,\n")
    table = scan(tmp_path).table
    labels = dict(zip(table["uri"].to_pylist(), table["label"].to_pylist(), strict=True))
    assert labels == {"cats/a.png": "dog", "cats/b.png": "cats", "rows.csv#0": "dog", "rows.csv#1": None}


def test_rows_without_a_text_column_are_groups_of_their_files(tmp_path):
    write(tmp_path, "a.png", "a.wav", "b.png")
    pq.write_table(pa.table({"image": ["a.png", "b.png"], "audio": ["a.wav", None]}), tmp_path / "rows.parquet")
    assert groups(scan(tmp_path)) == {"a.png": "rows.parquet#0", "a.wav": "rows.parquet#0", "b.png": None}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing.png", 'row rows.jsonl#0 names "missing.png" as image, which does not exist'),
        ("../out.png", 'names "../out.png" as image, which leads out of the root'),
        ("d/../../out.png", "which leads out of the root"),
        ("..", "which leads out of the root"),
        ("/etc/passwd", "an absolute path; expected one relative to the directory of the table"),
        (".hidden.png", "is hidden"),
        ("link.png", "which cannot be used: symbolic link leaves the corpus root"),
        ("a.wav", 'names "a.wav" as image, which by its suffix is none'),
        ("d", "which does not exist"),
        ("rows.jsonl", "which by its suffix is none"),
        ("bro\0ken\n.png", "which does not exist"),
        ("\ud800.png", "which does not exist"),
        ("x" * 10_000, "which does not exist"),
        (5, 'column "image" holds 5, expected a string'),
        (["a.png"], 'column "image" holds ["a.png"], expected a string'),
        ({"path": "a.png"}, "expected a string"),
    ],
)
def test_a_file_that_cannot_be_had_is_a_reason_of_its_row_and_loses_nothing_else(tmp_path, path, reason):
    root = tmp_path / "root"
    write(root, "a.png", "a.wav", ".hidden.png", "d/b.png")
    write(tmp_path, "out.png")
    (root / "link.png").symlink_to(tmp_path / "out.png")
    json_lines(root / "rows.jsonl", {"text": "one", "image": path, "audio": "a.wav"}, {"text": "two"})
    manifest = scan(root)
    assert reason in reasons(manifest)["rows.jsonl#0.image"]
    expected = {"a.png": None, "a.wav": "rows.jsonl#0", "d/b.png": None, "rows.jsonl#0": "rows.jsonl#0"}
    assert groups(manifest) == expected | ({"a.png": None} if path != "a.wav" else {}) | {"rows.jsonl#1": None}


def test_a_file_belongs_to_the_first_row_that_names_it(tmp_path):
    write(tmp_path, "a.png")
    json_lines(tmp_path / "a.jsonl", {"text": "one", "image": "a.png"}, {"text": "two", "image": "./a.png"})
    json_lines(tmp_path / "b.jsonl", {"text": "three", "image": "a.png"})
    manifest = scan(tmp_path)
    assert groups(manifest) == {"a.jsonl#0": "a.jsonl#0", "a.jsonl#1": None, "a.png": "a.jsonl#0", "b.jsonl#0": None}
    assert list(reasons(manifest)) == ["a.jsonl#1.image", "b.jsonl#0.image"]
    assert reasons(manifest)["b.jsonl#0.image"].endswith("which the row a.jsonl#0 names already")


def test_a_named_file_that_is_damaged_is_set_aside_and_leaves_its_partner_alone(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    json_lines(tmp_path / "rows.jsonl", {"text": "one", "image": "a.png"})
    manifest = scan(tmp_path)
    assert groups(manifest) == {"rows.jsonl#0": None}
    assert reasons(manifest)["a.png"].startswith("undecodable")


def test_a_row_with_nothing_and_one_with_a_wrong_text_say_so_and_the_files_stay(tmp_path):
    write(tmp_path, "a.png", "a.wav")
    json_lines(tmp_path / "rows.jsonl", {"text": 5, "image": "a.png", "audio": "a.wav"}, {"image": " ", "text": ""})
    manifest = scan(tmp_path)
    assert groups(manifest) == {"a.png": "rows.jsonl#0", "a.wav": "rows.jsonl#0"}
    assert reasons(manifest) == {"rows.jsonl#0": 'column "text" holds 5, expected a string', "rows.jsonl#1": "empty"}


def test_a_label_that_utf8_cannot_say_leaves_the_file_on_its_own(tmp_path):
    write(tmp_path, "a.png")
    (tmp_path / "rows.jsonl").write_text('{"text": "one", "image": "a.png", "label": "\\ud800"}\n')
    manifest = scan(tmp_path)
    assert groups(manifest) == {"a.png": None}
    assert "UTF-8" in reasons(manifest)["rows.jsonl#0.image"]


def test_a_parquet_column_of_another_type_is_a_reason_of_each_row_and_the_texts_stay(tmp_path):
    images = pa.array([{"bytes": b"x", "path": "a.png"}, None])
    pq.write_table(pa.table({"text": ["one", "two"], "image": images}), tmp_path / "rows.parquet")
    pq.write_table(pa.table({"image": [1, 2]}), tmp_path / "only.parquet")
    pq.write_table(pa.table({"text": ["one"], "image": pa.nulls(1)}), tmp_path / "nulls.parquet")
    manifest = scan(tmp_path)
    assert list(groups(manifest)) == ["nulls.parquet#0", "rows.parquet#0", "rows.parquet#1"]
    assert 'column "image" has the type struct' in reasons(manifest)["rows.parquet#0.image"]
    assert 'column "image" has the type int64' in reasons(manifest)["only.parquet#1.image"]


def test_a_table_that_cannot_be_used_takes_no_file(tmp_path):
    write(tmp_path, "a.png", "a.txt")
    (tmp_path / "rows.csv").write_text("text,image,image\none,a.png,a.png\n")
    manifest = scan(tmp_path)
    assert groups(manifest) == {"a.png": "a", "a.txt": "a"}
    assert 'column "image" is there more than once' in reasons(manifest)["rows.csv"]


def test_names_in_a_table_are_plain_paths_and_not_percent_encoded(tmp_path):
    write(tmp_path, "100% #1 日本.png")
    json_lines(tmp_path / "rows.jsonl", {"text": "one", "image": "100% #1 日本.png"})
    assert groups(scan(tmp_path))["100%25 %231 日本.png"] == "rows.jsonl#0"


def test_a_key_that_json_escapes_is_still_the_column(tmp_path):
    write(tmp_path, "a.png")
    (tmp_path / "rows.jsonl").write_text('{"text": "one", "\\u0069mage": "a.png"}\n')
    assert groups(scan(tmp_path))["a.png"] == "rows.jsonl#0"


def test_max_items_takes_the_files_of_a_row_with_the_row(tmp_path):
    write(tmp_path, *(f"{n}.png" for n in range(9)))
    json_lines(tmp_path / "rows.jsonl", *({"text": f"text {n}", "image": f"{n}.png"} for n in range(9)))
    assert list(groups(scan(tmp_path, max_items=4))) == ["0.png", "1.png", "rows.jsonl#0", "rows.jsonl#1"]
    assert groups(scan(tmp_path, max_items=1)) == {"rows.jsonl#0": None}


def test_a_named_file_reads_back(tmp_path):
    write(tmp_path, "a.png")
    json_lines(tmp_path / "rows.jsonl", {"text": "one", "image": "a.png"})
    source = DirectorySource("here", tmp_path)
    (item,) = source.scan().items("image").to_pylist()
    with Image.open(io.BytesIO(source.read(item["uri"], item["item_id"]))) as image:
        assert image.size == (8, 8)
