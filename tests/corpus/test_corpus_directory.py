"""A directory tree as a source, with every kind of broken input as a real file."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from aura.corpus.errors import CorpusRootError, ItemChangedError, PathOutsideCorpusError, TextItemError
from aura.corpus.manifest import CorpusManifest
from aura.corpus.rows import content_id

NOBODY = 65_534


def write_png(path: Path, shade: int = 100) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), shade, np.uint8)).save(buffer, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def scan(root: Path, **options: int) -> CorpusManifest:
    return DirectorySource("here", root, **options).scan()


def reasons(manifest: CorpusManifest) -> dict[str, str]:
    aside = manifest.set_aside()
    return dict(zip(aside["uri"].to_pylist(), aside["reason"].to_pylist(), strict=True))


def usable(manifest: CorpusManifest) -> dict[str, str]:
    rows = [row for row in manifest.table.to_pylist() if row["status"] == "ok"]
    return {row["uri"]: row["item_id"] for row in rows}


@contextmanager
def as_an_ordinary_user() -> Iterator[None]:
    """Root may read everything; without its powers the permissions count."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared_root() -> Iterator[Path]:
    """A directory that every user can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        root.chmod(0o755)
        yield root
        for path in root.iterdir():
            path.chmod(0o755)


def test_every_supported_kind_of_file_is_listed_in_the_order_of_uris(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "b.txt").write_text("plain")
    (tmp_path / "notes" / "a.md").write_text("# heading")
    (tmp_path / "page.HTML").write_text("<p>seen</p><script>unseen</script>")
    (tmp_path / "rows.jsonl").write_text('{"text": "from json", "label": "j"}\n')
    (tmp_path / "rows.csv").write_text("body\nfrom csv\n")
    pq.write_table(pa.table({"text": ["from parquet"]}), tmp_path / "rows.parquet")
    write_png(tmp_path / "images" / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "b.jpg")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "images" / "c.jpeg")
    soundfile.write(tmp_path / "sound.wav", np.zeros(100), 8_000)
    soundfile.write(tmp_path / "sound.flac", np.zeros(100), 8_000)
    for name in ("d.webp", "e.gif", "f.bmp", "g.tif", "h.tiff"):
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / name)
    for name, subtype in (("a.mp3", None), ("b.ogg", "VORBIS"), ("c.opus", "OPUS"), ("d.oga", "VORBIS")):
        kind = "MP3" if name == "a.mp3" else "OGG"
        (tmp_path / "sounds").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "sounds" / name, np.zeros(4_800), 48_000, format=kind, subtype=subtype)

    manifest = scan(tmp_path)

    assert [(row["uri"], row["modality"], row["label"], row["text"]) for row in manifest.table.to_pylist()] == [
        ("images/a.png", "image", "images", None),
        ("images/b.jpg", "image", "images", None),
        ("images/c.jpeg", "image", "images", None),
        *((f"images/{name}", "image", "images", None) for name in ("d.webp", "e.gif", "f.bmp", "g.tif", "h.tiff")),
        ("notes/a.md", "text", "notes", "# heading"),
        ("notes/b.txt", "text", "notes", "plain"),
        ("page.HTML", "text", None, "seen"),
        ("rows.csv#0", "text", None, "from csv"),
        ("rows.jsonl#0", "text", "j", "from json"),
        ("rows.parquet#0", "text", None, "from parquet"),
        ("sound.flac", "audio", None, None),
        ("sound.wav", "audio", None, None),
        *((f"sounds/{name}", "audio", "sounds", None) for name in ("a.mp3", "b.ogg", "c.opus", "d.oga")),
    ]
    assert manifest.set_aside().num_rows == 0


def truncated_png(path: Path) -> None:
    path.write_bytes(write_png(path)[:-30])


def zip_called_parquet(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "text")


def half_a_wav(path: Path) -> None:
    soundfile.write(path, np.zeros(1_000), 8_000)
    path.write_bytes(path.read_bytes()[:700])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated.png": (truncated_png, "undecodable: broken image"),
    "notes.jpg": (lambda path: path.write_text("no image"), "undecodable: none of PNG, JPEG"),
    "latin.txt": (lambda path: path.write_bytes("grüße".encode("latin-1")), "undecodable: not UTF-8"),
    "zip.parquet": (zip_called_parquet, "undecodable: broken Parquet"),
    "numbers.csv": (lambda path: path.write_text("a,b\n1,2\n"), 'no column "text" and no string column'),
    "nothing.txt": (lambda path: path.touch(), "empty"),
    "nothing.png": (lambda path: path.touch(), "empty"),
    "nothing.csv": (lambda path: path.touch(), "empty"),
    "blank.md": (lambda path: path.write_text(" \n\t\n"), "empty"),
    "scripts.html": (lambda path: path.write_text("<script>1</script>"), "empty"),
    "long.txt": (lambda path: path.write_text("x" * 2_000), "oversized: 2.0 KiB (2000 bytes), the limit is 1.0 KiB"),
    "large.png": (lambda path: path.write_bytes(b"x" * 20_000), "oversized: 19.5 KiB (20000 bytes)"),
    "half.wav": (half_a_wav, "undecodable: truncated audio"),
    "table.xlsx": (lambda path: path.write_bytes(b"PK"), "unsupported suffix .xlsx"),
    "Makefile": (lambda path: path.write_text("all:"), "unsupported: no suffix"),
    "pipe.txt": (os.mkfifo, "not a regular file"),
    "passwd.txt": (lambda path: path.symlink_to("/etc/passwd"), "symbolic link leaves the corpus root"),
    "etc": (lambda path: path.symlink_to("/etc"), "symbolic link leaves the corpus root"),
    "nowhere.txt": (lambda path: path.symlink_to("missing.txt"), "broken symbolic link: no such file"),
    "itself.txt": (lambda path: path.symlink_to("itself.txt"), "broken symbolic link: too many levels"),
    "up": (lambda path: path.symlink_to("."), "symbolic link to a directory"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_input_is_set_aside_with_its_reason_and_the_run_goes_on(tmp_path, name):
    make, reason = BROKEN[name]
    (tmp_path / "fine.txt").write_text("fine")
    make(tmp_path / name)

    manifest = scan(tmp_path, max_text_bytes=1_024, max_bytes=10_000)

    assert usable(manifest) == {"fine.txt": content_id(b"fine")}
    assert list(reasons(manifest)) == [name]
    assert reasons(manifest)[name].startswith(reason)


def test_a_file_and_a_directory_without_permission_are_set_aside(shared_root):
    (shared_root / "fine.txt").write_text("fine")
    (shared_root / "secret.txt").write_text("secret")
    (shared_root / "closed").mkdir()
    (shared_root / "closed" / "inside.txt").write_text("inside")
    (shared_root / "secret.txt").chmod(0)
    (shared_root / "closed").chmod(0)
    with as_an_ordinary_user():
        manifest = scan(shared_root)
    assert list(usable(manifest)) == ["fine.txt"]
    assert reasons(manifest) == {
        "closed/": "unreadable: permission denied",
        "secret.txt": "unreadable: permission denied",
    }


def test_a_root_that_cannot_be_read_is_an_error_and_not_an_empty_corpus(shared_root, tmp_path):
    closed = shared_root / "closed"
    closed.mkdir(mode=0)
    with as_an_ordinary_user(), pytest.raises(CorpusRootError, match="cannot be read: Permission denied"):
        scan(closed)
    with pytest.raises(CorpusRootError, match="does not exist"):
        scan(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(CorpusRootError, match="is not a directory"):
        scan(tmp_path / "file")


TEXTS = [
    "Zażółć gęślą jaźń, Œuvre, İstanbul, ẞ",
    "Съешь же ещё этих мягких французских булок",
    "你好 世界。こんにちは世界。안녕하세요 세계",
    "مرحبا بالعالم \u200f שלום עולם",
    "नमस्ते दुनिया สวัสดีชาวโลก",
    "👩🏽\u200d🚀 🏳️\u200d🌈 🇺🇳 1️⃣ \U0001d518 \U0001f9ff",
    "e\u0301 is not é, and \u2126 is not Ω",
    "z̷̢̛a̸l̴g̵o̶ " + "\u0301" * 500,
    "\u2028 \u2029 \x85 \x0b \x1b[31m \x7f \ufffe \ufeff",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_in_any_language_is_kept_as_it_stands(tmp_path, text):
    (tmp_path / "plain.txt").write_bytes(text.encode())
    (tmp_path / "bom.md").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "rows.jsonl").write_bytes(json.dumps({"text": text, "label": text}, ensure_ascii=False).encode())
    (tmp_path / "escaped.jsonl").write_text(json.dumps({"text": text, "label": text}))
    pq.write_table(pa.table({"text": [text], "label": [text]}), tmp_path / "rows.parquet")
    manifest = scan(tmp_path)
    assert manifest.set_aside().num_rows == 0
    assert manifest.table["text"].to_pylist() == [text] * 5
    assert set(manifest.table["item_id"].to_pylist()) == {content_id(text.encode())}
    assert set(manifest.table["label"].to_pylist()) == {None, text}


@pytest.mark.parametrize(
    "content",
    [
        "ü".encode("utf-16"),
        "ü".encode("utf-32"),
        "日本".encode("shift_jis"),
        "日本".encode("gb18030"),
        "булка".encode("koi8-r"),
        "日本".encode()[:-1],
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.html", "a.csv", "a.jsonl"])
def test_a_text_in_another_or_a_broken_encoding_is_undecodable(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    assert reasons(scan(tmp_path))[name].startswith("undecodable: ")


def test_one_row_of_a_table_that_is_too_long_or_empty_is_set_aside_alone(tmp_path):
    (tmp_path / "rows.csv").write_text(f"text,n\nfine,1\n{'x' * 2_000},2\n,3\n")
    manifest = scan(tmp_path, max_text_bytes=1_024)
    assert list(usable(manifest)) == ["rows.csv#0"]
    assert list(reasons(manifest)) == ["rows.csv#1", "rows.csv#2"]
    assert reasons(manifest)["rows.csv#2"] == "empty"


def test_lone_surrogates_in_json_never_stop_the_scan(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "\\ud800"}\n{"text": "a", "label": "\\udfff"}\n{"text": "b"}\n')
    (tmp_path / "columns.jsonl").write_text('{"\\ud800": 1}\n')
    manifest = scan(tmp_path)
    assert list(usable(manifest)) == ["rows.jsonl#2"]
    assert list(reasons(manifest)) == ["columns.jsonl", "rows.jsonl#0", "rows.jsonl#1"]


def test_names_with_unicode_spaces_and_uri_characters_are_read_back(tmp_path):
    names = ["grüße und 日本.png", "a#1.png", "100%.png", "new\nline.png", os.fsdecode(b"latin-\xe9.png")]
    contents = {name: write_png(tmp_path / name, shade) for shade, name in enumerate(names)}
    manifest = scan(tmp_path)
    assert set(usable(manifest)) == {
        "grüße und 日本.png",
        "a%231.png",
        "100%25.png",
        "new%0Aline.png",
        "latin-%E9.png",
    }
    source = DirectorySource("here", tmp_path)
    assert {source.read(uri, item_id) for uri, item_id in usable(manifest).items()} == set(contents.values())


def test_a_file_whose_name_looks_like_a_row_does_not_collide_with_it(tmp_path):
    (tmp_path / "rows.csv").write_text("text\none\n")
    (tmp_path / "rows.csv#0").write_text("other")
    assert list(scan(tmp_path).table["uri"].to_pylist()) == ["rows.csv#0", "rows.csv%230"]


def test_hidden_files_and_directories_are_passed_over_silently(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "a.txt").write_text("hidden")
    (tmp_path / ".b.txt").write_text("hidden")
    assert scan(tmp_path).table.num_rows == 0


def test_a_link_to_a_file_inside_the_root_is_an_item_of_its_own_label(tmp_path):
    content = write_png(tmp_path / "pool" / "1.png")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").symlink_to("../pool/1.png")
    manifest = scan(tmp_path)
    assert usable(manifest) == {"cat/1.png": content_id(content), "pool/1.png": content_id(content)}
    assert manifest.items("image")["label"].to_pylist() == ["cat"]
    assert DirectorySource("here", tmp_path).read("cat/1.png", content_id(content)) == content


def test_a_loop_of_directory_links_ends(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "fine.txt").write_text("fine")
    (tmp_path / "a" / "b").symlink_to(tmp_path)
    (tmp_path / "a" / "c").symlink_to(tmp_path / "a" / "c")
    manifest = scan(tmp_path)
    assert list(usable(manifest)) == ["a/fine.txt"]
    assert list(reasons(manifest)) == ["a/b", "a/c"]


def test_a_root_that_is_itself_a_link_is_followed(tmp_path):
    content = write_png(tmp_path / "real" / "a.png")
    (tmp_path / "link").symlink_to("real")
    source = DirectorySource("here", tmp_path / "link")
    assert source.read("a.png", usable(source.scan())["a.png"]) == content


@pytest.mark.parametrize("uri", ["../x", "../../etc/passwd", "/etc/passwd", "a/../../x.png", "%2E%2E/x.png", "out.png"])
def test_reading_outside_the_root_is_refused(tmp_path, uri):
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    content = write_png(tmp_path / "x.png")
    (root / "out.png").symlink_to(tmp_path / "x.png")
    with pytest.raises(PathOutsideCorpusError, match="outside the corpus root"):
        DirectorySource("here", root).read(uri, content_id(content))


def test_a_uri_with_a_nul_byte_is_refused(tmp_path):
    with pytest.raises(PathOutsideCorpusError, match="NUL"):
        DirectorySource("here", tmp_path).read("a%00.png", "0" * 32)


def test_an_item_that_changed_vanished_or_grew_is_not_read(tmp_path):
    item_id = content_id(write_png(tmp_path / "a.png", 1))
    source = DirectorySource("here", tmp_path, max_bytes=10_000)
    changed = content_id(write_png(tmp_path / "a.png", 2))
    with pytest.raises(ItemChangedError, match=f"is now {changed}, the manifest lists {item_id}"):
        source.read("a.png", item_id)
    (tmp_path / "a.png").write_bytes(b"x" * 10_001)
    with pytest.raises(ItemChangedError, match="oversized"):
        source.read("a.png", item_id)
    (tmp_path / "a.png").unlink()
    with pytest.raises(ItemChangedError, match="no such file or directory"):
        source.read("a.png", item_id)


@pytest.mark.parametrize("uri", ["a.txt", "rows.csv#0"])
def test_text_is_taken_from_the_manifest_and_not_read(tmp_path, uri):
    with pytest.raises(TextItemError, match="column 'text'"):
        DirectorySource("here", tmp_path).read(uri, "0" * 32)


def test_progress_counts_files_up_to_their_number(tmp_path):
    for n in range(3):
        (tmp_path / f"{n}.txt").write_text(str(n))
    seen: list[tuple[int, int]] = []
    DirectorySource("here", tmp_path).scan(lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_max_items_also_bounds_the_rows_of_one_table(tmp_path):
    (tmp_path / "rows.csv").write_text("text\n" + "".join(f"row {n}\n" for n in range(50)))
    assert list(usable(scan(tmp_path, max_items=3))) == ["rows.csv#0", "rows.csv#1", "rows.csv#2"]


names = st.sampled_from(
    [f"{folder}{stem}.{suffix}" for folder in ("", "d/") for stem in "abc" for suffix in ("txt", "md")]
)
trees = st.dictionaries(names, st.sampled_from(["one", "two", "three", ""]))


def build(root: Path, tree: dict[str, str]) -> None:
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


@settings(max_examples=40, deadline=None)
@given(then=trees, now=trees)
def test_scanning_twice_is_equal_and_every_change_of_the_tree_shows_exactly(then, now):
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        build(root, then)
        before = scan(root)
        assert scan(root) == before
        for name in then.keys() - now.keys():
            (root / name).unlink()
        build(root, now)
        changes = scan(root).changes_since(before)
    then, now = ({name: text for name, text in tree.items() if text} for tree in (then, now))
    assert changes.added == tuple(sorted(now.keys() - then.keys()))
    assert changes.removed == tuple(sorted(then.keys() - now.keys()))
    assert changes.changed == tuple(sorted(name for name in now.keys() & then.keys() if now[name] != then[name]))
    assert changes.unchanged == tuple(sorted(name for name in now.keys() & then.keys() if now[name] == then[name]))


@settings(max_examples=40, deadline=None)
@given(tree=trees, wanted=st.integers(1, 6), newcomer=names)
def test_the_choice_under_max_items_grows_by_one_and_hardly_moves_when_a_file_comes(tree, wanted, newcomer):
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        build(root, tree)
        chosen = set(usable(scan(root, max_items=wanted)))
        assert len(chosen) == min(wanted, len(usable(scan(root))))
        assert chosen <= set(usable(scan(root, max_items=wanted + 1)))
        build(root, {newcomer: "new"})
        assert len(chosen - set(usable(scan(root, max_items=wanted)))) <= 1
