"""Windows are cut in order and within bounds, and say at which places something has no vector."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from embeddings_tiny_models import WORDS
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aura.corpus.errors import ItemChangedError
from aura.embeddings import windows
from aura.embeddings.image import open_image_encoder
from aura.embeddings.text import open_text_encoder
from aura.embeddings.windows import cut, encode_window

SIZES = st.lists(st.integers(0, 12), max_size=40)


def files(sizes: list[int]) -> pa.Table:
    ids = pa.array([str(number) for number in range(len(sizes))], pa.string())
    return pa.table({"item_id": ids, "uri": ids, "bytes": pa.array(sizes, pa.int64())})


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


@settings(deadline=None)
@given(sizes=SIZES)
def test_files_are_cut_by_count_and_bytes_into_windows_that_cannot_be_larger(sizes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "FILES", 5)
        patch.setattr(windows, "WINDOW_BYTES", 10)
        found = list(cut(files(sizes), is_text=False))
    assert [row for window in found for row in window["bytes"].to_pylist()] == sizes
    assert all(1 <= window.num_rows <= 5 for window in found)
    held = [sum(window["bytes"].to_pylist()) for window in found]
    assert all(total <= 10 or window.num_rows == 1 for total, window in zip(held, found, strict=True))
    for before, total, after in zip(found, held, found[1:], strict=False):
        assert before.num_rows == 5 or total + after["bytes"][0].as_py() > 10


def test_texts_and_files_of_unknown_size_are_cut_by_count(monkeypatch):
    monkeypatch.setattr(windows, "TEXTS", 4)
    monkeypatch.setattr(windows, "FILES", 3)
    monkeypatch.setattr(windows, "WINDOW_BYTES", 1)
    items = files([100] * 10)
    assert [window.num_rows for window in cut(items, is_text=True)] == [4, 4, 2]
    assert [window.num_rows for window in cut(items.drop_columns("bytes"), is_text=False)] == [3, 3, 3, 1]


def test_no_items_are_no_window():
    assert list(cut(files([]), is_text=True)) == []
    assert list(cut(files([]), is_text=False)) == []


def test_what_has_no_vector_is_named_by_its_place_in_order_and_the_others_keep_theirs(tiny_clip):
    encoder = open_image_encoder(str(tiny_clip), device="cpu", dtype="float32")
    contents = {str(number): png(number) for number in range(6)}
    contents["1"] = contents["1"][:-40]
    contents["4"] = b""

    def read(uri: str, item_id: str) -> bytes:
        assert uri == item_id
        if uri in {"2", "5"}:
            raise ItemChangedError(f"{uri!r} is gone; scan it again")
        return contents[uri]

    seen: list[tuple[int, int]] = []
    window = encode_window(files([0] * 6), encoder, read, lambda done, total: seen.append((done, total)))
    assert list(window.refused) == [1, 2, 4, 5]
    assert window.refused[2] == "'2' is gone; scan it again"
    assert "cannot be decoded" in window.refused[1]
    assert window.vectors.tobytes() == encoder.encode([contents["0"], contents["3"]]).vectors.tobytes()
    assert window.model == encoder.model
    assert seen[-1] == (4, 4)


def test_a_window_of_which_nothing_can_be_read_has_no_vectors_but_a_model(tiny_clip):
    encoder = open_image_encoder(str(tiny_clip), device="cpu", dtype="float32")

    def read(uri: str, _: str) -> bytes:
        raise ItemChangedError(f"{uri} is gone")

    window = encode_window(files([0, 0]), encoder, read)
    assert window.vectors.shape == (0, encoder.model.dimension)
    assert window.refused == {0: "0 is gone", 1: "1 is gone"}
    assert window.model == encoder.model


def test_texts_are_taken_from_the_column_and_counted(tiny_text_model):
    encoder = open_text_encoder(str(tiny_text_model), device="cpu", dtype="float32")
    texts = ["red fish", WORDS + " " + WORDS, ""]
    window = encode_window(files([0] * 3).append_column("text", [texts]), encoder, None)
    alone = encoder.encode(texts)
    assert window.vectors.tobytes() == alone.vectors.tobytes()
    assert (window.tokens, window.chunked, window.truncated) == (alone.tokens, 1, 0)
    assert window.refused == {}
