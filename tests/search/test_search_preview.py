"""What is shown of an item: real content, small, for terminals and notebooks, harmless whatever it holds."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from PIL import Image
from rich.console import Console

from aura.corpus.directory import DirectorySource
from aura.search.finding import Found
from aura.search.preview import MAX_HEARD_BYTES, TEXT_CHARACTERS, half_blocks, preview, shaded
from aura.search.query import Query
from aura.search.searcher import Answer, Hit

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def library(tmp_path):
    root = tmp_path / "library"
    root.mkdir()
    (root / "long.txt").write_text("word " * 200, encoding="utf-8")
    (root / "hostile.txt").write_text(f"{HOSTILE} [bold]not markup[/] \x1b[31m", encoding="utf-8")
    Image.fromarray(np.repeat(np.uint8([[0, 255]]), 8, axis=1).repeat(16, axis=0)).save(root / "half.png")
    soundfile.write(root / "rising.wav", np.linspace(0, 1, 8000, dtype=np.float32), 8000)
    (root / "both.txt").write_text("a text and an image", encoding="utf-8")
    Image.new("RGB", (4, 4), "blue").save(root / "both.png")
    source = DirectorySource("library", root)
    return source, source.scan()


def hit(manifest, uri) -> Hit:
    row = next(row for row in manifest.table.to_pylist() if row["uri"] == uri)
    return Hit(0.5, "library", uri, row["item_id"], row["modality"], row["label"])


def shown(library, uri):
    source, manifest = library
    return preview(hit(manifest, uri), manifest, source)


def test_a_long_text_is_shortened(library):
    text = shown(library, "long.txt").text
    assert len(text) == TEXT_CHARACTERS
    assert text.startswith("word word")
    assert text.endswith("…")


def test_an_image_is_drawn_with_and_without_colours(library):
    found = shown(library, "half.png")
    assert found.text == "16 x 16 pixels"
    lines = found.drawn(colours=False).plain.split("\n")
    assert {line[:8] for line in lines[:-1]} == {" " * 8}
    assert {line[8:16] for line in lines[:-1]} == {"█" * 8}
    assert found.drawn().plain.startswith("▀" * 16)
    assert "data:image/png;base64," in found.html()


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (300, 200)])
def test_images_of_any_shape_are_drawn_small(size):
    for draw in (half_blocks, shaded):
        lines = draw(Image.new("RGB", size, "white"), 16).plain.split("\n")
        assert 1 <= len(lines) <= 16
        assert {len(line) for line in lines} == {16}


def test_a_sound_is_drawn_by_its_loudness_and_can_be_heard(library):
    found = shown(library, "rising.wav")
    assert found.text == "1.00 s at 8000 Hz"
    assert list(found.loudness) == sorted(found.loudness)
    assert found.loudness[-1] == 1
    assert found.sound is not None
    assert len(found.sound) < MAX_HEARD_BYTES
    assert "<audio controls" in found.html()


def test_a_fused_thing_names_its_items(library):
    _, manifest = library
    thing = Hit(0.5, "library", "both", "0" * 32, "fused", None)
    assert preview(thing, manifest, library[0]).text == "image both.png, text both.txt"


def test_what_is_gone_or_changed_says_so(library, tmp_path):
    source, manifest = library
    gone = hit(manifest, "half.png")
    (tmp_path / "library" / "half.png").unlink()
    assert "scan it again" in preview(gone, manifest, source).text
    unknown = Hit(0.5, "library", "x.png", "0" * 32, "image", None)
    assert preview(unknown, manifest, source).text == "gone since it was embedded"


def test_hostile_content_is_shown_and_does_nothing(library):
    found = shown(library, "hostile.txt")
    answer = Answer(Query("text", HOSTILE, HOSTILE), (found.hit,), HOSTILE, 1)
    page = Found(answer, [found])._repr_html_()
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    console = Console(force_terminal=False, width=200)
    with console.capture() as capture:
        console.print(found.drawn())
    assert "[bold]not markup[/]" in capture.get()
    assert "\x1b" not in capture.get()
