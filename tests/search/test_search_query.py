"""A query is what a person gives: a sentence, or a file whose content says what it is."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from aura.search import query as query_module
from aura.search.errors import SearchError
from aura.search.query import read_query


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 5), "red").save(buffer, format="PNG")
    return buffer.getvalue()


def sound() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(100, np.float32), 8000, format="WAV")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "given", ["seven", "parse a date", "e.g.", "3.14", "naïve café 🦊", "what is a.b.c?", "x" * 5000]
)
def test_a_sentence_is_a_text(given):
    assert (read_query(given).modality, read_query(given).content) == ("text", given)


@pytest.mark.parametrize(("content", "modality"), [(picture(), "image"), (sound(), "audio"), (b"ein Satz", "text")])
def test_a_file_is_what_it_holds_whatever_it_is_called(tmp_path, content, modality):
    path = tmp_path / "query.dat"
    path.write_bytes(content)
    for given in (path, str(path)):
        found = read_query(given)
        assert (found.modality, found.shown) == (modality, "query.dat")
    assert read_query(path).content == (content if modality != "text" else "ein Satz")


@pytest.mark.parametrize("given", ["", "  \n"])
def test_an_empty_query_is_refused(given):
    with pytest.raises(SearchError, match="the query is empty"):
        read_query(given)


@pytest.mark.parametrize("given", ["sound.wav", "album/photo.jpeg", "~/no-such-folder/note.txt"])
def test_what_looks_like_a_file_and_is_none_is_refused_by_name(given):
    with pytest.raises(SearchError, match=given.rpartition("/")[2]):
        read_query(given)


def test_files_that_hold_nothing_to_search_for_are_refused_with_the_reasons(tmp_path, monkeypatch):
    path = tmp_path / "query"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(SearchError, match=r"as image: .*as audio: .*as text: "):
        read_query(path)
    path.write_bytes(b"  \n")
    with pytest.raises(SearchError, match="is empty"):
        read_query(path)
    monkeypatch.setattr(query_module, "MAX_QUERY_BYTES", 2)
    with pytest.raises(SearchError, match="has 3 bytes; a query has at most 2"):
        read_query(path)


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "query.txt"
    path.write_text("a")

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(SearchError, match="cannot be read: Permission denied"):
        read_query(path)


def test_a_video_is_refused_with_what_to_give_instead(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(SearchError, match="one of its frames"):
        read_query(path)


@pytest.mark.parametrize("given", [3, None, b"bytes"])
def test_what_is_neither_text_nor_path_is_refused(given):
    with pytest.raises(SearchError, match=type(given).__name__):
        read_query(given)
