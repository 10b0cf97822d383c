"""Only what is new is encoded; what is there stays as it is, bit for bit."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from embeddings_tiny_models import WORDS
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aura.corpus.errors import ItemChangedError
from aura.embeddings import windows
from aura.embeddings.errors import EmbeddingTableError, EncodingError
from aura.embeddings.image import open_image_encoder
from aura.embeddings.incremental import embed_items
from aura.embeddings.table import EmbeddingModel, EmbeddingTable
from aura.embeddings.text import open_text_encoder
from aura.embeddings.windows import encode_window

TEXTS = [" ".join(WORDS.split()[start : start + length]) for start in range(8) for length in (1, 3, 7)]


def content_id(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def text_items(texts: list[str], label: str | None = None) -> pa.Table:
    return pa.table(
        {
            "item_id": pa.array([content_id(text.encode()) for text in texts], pa.string()),
            "uri": pa.array([f"file:{text}" for text in texts], pa.string()),
            "modality": ["text"] * len(texts),
            "label": pa.array([label] * len(texts), pa.string()),
            "sublabel": pa.array([None] * len(texts), pa.string()),
            "text": pa.array(texts, pa.large_string()),
        }
    )


def vectors_by_id(table: EmbeddingTable) -> dict[str, bytes]:
    return {i: v.tobytes() for i, v in zip(table.table["item_id"].to_pylist(), table.vectors, strict=True)}


@pytest.fixture(scope="module")
def encoder(tiny_text_model):
    return open_text_encoder(str(tiny_text_model), device="cpu", dtype="float32")


subsets = st.lists(st.sampled_from(TEXTS), unique=True)


@settings(max_examples=12, deadline=None)
@given(before=subsets, after=subsets)
def test_any_change_of_the_items_encodes_exactly_the_new_ones(encoder, before, after):
    first, _ = embed_items(text_items(before), encoder)
    second, report = embed_items(text_items(after), encoder, previous=first)
    scratch, _ = embed_items(text_items(after), encoder)
    assert second.table["item_id"].to_pylist() == text_items(after)["item_id"].to_pylist()
    assert report.encoded == len(set(after) - set(before))
    assert report.reused == len(set(after) & set(before))
    assert report.removed == len(set(before) - set(after))
    assert report.reason == ("incremental" if report.encoded else "nothing new")
    old, new = vectors_by_id(first), vectors_by_id(second)
    assert all(new[item_id] == old[item_id] for item_id in new.keys() & old.keys())
    assert np.allclose(second.vectors, scratch.vectors, atol=1e-6)


def test_the_first_run_says_so_and_counts_tokens(encoder):
    table, report = embed_items(text_items(TEXTS), encoder)
    assert (report.reason, report.encoded, report.reused, report.removed) == ("first run", len(TEXTS), 0, 0)
    assert report.tokens == sum(len(text.split()) + 2 for text in TEXTS)
    assert report.items_per_second > 0
    assert table.model == encoder.model


def test_an_unchanged_second_run_gives_an_equal_table_and_never_loads_the_model(tiny_text_model):
    first, _ = embed_items(text_items(TEXTS), open_text_encoder(str(tiny_text_model), device="cpu"))
    encoder = open_text_encoder(str(tiny_text_model), device="cpu")
    second, report = embed_items(text_items(TEXTS), encoder, previous=first)
    assert not encoder.is_loaded
    assert second.table.equals(first.table, check_metadata=True)
    assert (report.reason, report.encoded, report.items_per_second) == ("nothing new", 0, None)


def test_removing_items_needs_no_model_either(tiny_text_model):
    first, _ = embed_items(text_items(TEXTS), open_text_encoder(str(tiny_text_model), device="cpu"))
    encoder = open_text_encoder(str(tiny_text_model), device="cpu")
    second, report = embed_items(text_items(TEXTS[3:]), encoder, previous=first)
    assert not encoder.is_loaded
    assert report.removed == 3
    assert second.vectors.tobytes() == first.vectors[3:].tobytes()


def test_another_model_encodes_everything_again_and_names_both(encoder, other_text_model):
    first, _ = embed_items(text_items(TEXTS), encoder)
    other = open_text_encoder(str(other_text_model), device="cpu", dtype="float32")
    second, report = embed_items(text_items(TEXTS[1:]), other, previous=first)
    assert (report.encoded, report.reused, report.removed) == (len(TEXTS) - 1, 0, 1)
    assert report.reason == f"model changed: {first.model} -> {other.model}"
    assert not np.allclose(second.vectors, first.vectors[1:], atol=1e-2)


def test_vectors_of_another_arithmetic_are_not_mixed_with_new_ones(tiny_text_model):
    """The dtype "auto" means bfloat16 on one machine and float32 on another; the fingerprint is the same."""
    encoder = open_text_encoder(str(tiny_text_model), device="cpu", dtype="auto")
    full, _ = embed_items(text_items(TEXTS), encoder)
    elsewhere = {"float32": "bfloat16", "bfloat16": "float32"}[encoder.model.dtype]
    first = EmbeddingTable.build(
        text_items(TEXTS[:-1]),
        full.vectors[:-1],
        type(full.model)(full.model.name, encoder.fingerprint, None, 32, elsewhere),
    )
    second, report = embed_items(text_items(TEXTS), encoder, previous=first)
    assert (report.encoded, report.reused) == (len(TEXTS), 0)
    assert report.reason.startswith("model changed")
    assert second.vectors.tobytes() == full.vectors.tobytes()


def gone(uri: str, _: str) -> bytes:
    raise ItemChangedError(f"{uri!r} is gone; scan it again")


def test_another_arithmetic_without_a_new_vector_leaves_the_old_ones_as_they_are(tiny_text_model):
    encoder = open_text_encoder(str(tiny_text_model), device="cpu", dtype="float32")
    full, _ = embed_items(text_items(TEXTS), encoder)
    first = EmbeddingTable.build(text_items(TEXTS[:-1]), full.vectors[:-1], replace(full.model, dtype="bfloat16"))
    second, report = embed_items(text_items(TEXTS), encoder, previous=first, read=gone)
    assert (report.reason, report.encoded, report.reused) == ("nothing new", 0, len(TEXTS) - 1)
    assert [entry.uri for entry in report.set_aside] == [f"file:{TEXTS[-1]}"]
    assert second.table.equals(first.table, check_metadata=True)


def test_where_every_item_is_refused_the_table_is_empty_and_of_the_model(encoder):
    first, _ = embed_items(text_items(TEXTS[:3]), encoder)
    for previous in (None, first):
        seen: list[tuple[int, int]] = []
        table, report = embed_items(
            text_items(TEXTS[3:]),
            encoder,
            previous=previous,
            read=gone,
            progress=lambda done, total, seen=seen: seen.append((done, total)),
        )
        assert table.vectors.shape == (0, 32)
        assert table.model == encoder.model
        assert (report.encoded, report.removed) == (0, 0 if previous is None else 3)
        assert [entry.uri for entry in report.set_aside] == [f"file:{text}" for text in TEXTS[3:]]
        assert seen[-1] == (len(TEXTS) - 3, len(TEXTS) - 3)


def test_a_table_of_another_dimension_is_of_another_model(encoder):
    vectors = np.eye(len(TEXTS), 5, dtype=np.float32)
    first = EmbeddingTable.build(text_items(TEXTS), vectors, EmbeddingModel("other", "0" * 32, None, 5, "float32"))
    second, report = embed_items(text_items(TEXTS), encoder, previous=first)
    assert (second.model.dimension, report.encoded, report.removed) == (32, len(TEXTS), 0)
    assert report.reason.startswith("model changed: other (00000000, float32)")


def test_windows_that_were_encoded_elsewhere_are_put_together_in_their_order(encoder, monkeypatch):
    monkeypatch.setattr(windows, "TEXTS", 5)
    here, _ = embed_items(text_items(TEXTS), encoder)
    there, report = embed_items(
        text_items(TEXTS), encoder, elsewhere=lambda cut: (encode_window(window, encoder, None) for window in cut)
    )
    assert there.table.equals(here.table, check_metadata=True)
    assert report.encoded == len(TEXTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([{}, {"dtype": "bfloat16"}], "some items were encoded with .*float32.* and some with .*bfloat16"),
        ([{}, {"fingerprint": "1" * 32}], "put the same files on all machines"),
        ([{"fingerprint": "1" * 32}] * 2, "the items were encoded with .*11111111.* put the same files"),
    ],
)
def test_vectors_of_machines_that_differ_are_not_mixed(encoder, monkeypatch, changes, message):
    monkeypatch.setattr(windows, "TEXTS", len(TEXTS) // 2)

    def elsewhere(cut):
        for window, change in zip(cut, changes, strict=True):
            result = encode_window(window, encoder, None)
            yield replace(result, model=replace(result.model, **change))

    with pytest.raises(EncodingError, match=message):
        embed_items(text_items(TEXTS), encoder, elsewhere=elsewhere)


def test_the_parity_of_several_machines_is_that_of_the_worst(encoder, monkeypatch):
    monkeypatch.setattr(windows, "TEXTS", len(TEXTS) // 2)

    def elsewhere(cut):
        for window, parity in zip(cut, (0.9997, 0.9995), strict=True):
            result = encode_window(window, encoder, None)
            yield replace(result, model=replace(result.model, dtype="bfloat16", parity_cosine=parity))

    table, _ = embed_items(text_items(TEXTS), encoder, elsewhere=elsewhere)
    assert (table.model.dtype, table.model.parity_cosine) == ("bfloat16", 0.9995)


def test_labels_and_uris_are_those_of_the_new_listing(encoder):
    first, _ = embed_items(text_items(TEXTS, label="old"), encoder)
    second, report = embed_items(text_items(TEXTS, label="new"), encoder, previous=first)
    assert report.encoded == 0
    assert set(second.table["label"].to_pylist()) == {"new"}


def test_no_items_give_an_empty_table(encoder):
    table, report = embed_items(text_items([]), encoder)
    assert table.vectors.shape == (0, 32)
    assert (report.reason, report.encoded) == ("first run", 0)


def test_progress_covers_the_new_items_only(encoder):
    first, _ = embed_items(text_items(TEXTS[:-5]), encoder)
    seen: list[tuple[int, int]] = []
    embed_items(text_items(TEXTS), encoder, previous=first, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)


def test_items_without_text_or_with_a_repeated_id_are_refused(encoder):
    with pytest.raises(EmbeddingTableError, match="'text'"):
        embed_items(text_items(TEXTS).drop_columns("text"), encoder)
    with pytest.raises(EmbeddingTableError, match="more than once"):
        embed_items(text_items([TEXTS[0], TEXTS[0]]), encoder)


def test_images_that_changed_or_cannot_be_decoded_are_set_aside_and_the_run_goes_on(tiny_clip):
    contents = {}
    for seed in range(300):
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)).save(buffer, format="PNG")
        contents[f"digits:{seed}"] = buffer.getvalue()
    contents["digits:7"] = b"not an image"
    items = pa.table(
        {
            "item_id": [content_id(content) for content in contents.values()],
            "uri": list(contents),
            "modality": ["image"] * len(contents),
            "label": ["0"] * len(contents),
            "sublabel": pa.array([None] * len(contents), pa.string()),
        }
    )

    def read(uri: str, item_id: str) -> bytes:
        if uri == "digits:280":
            raise ItemChangedError("'digits:280' is gone; scan it again")
        assert content_id(contents[uri]) == item_id
        return contents[uri]

    encoder = open_image_encoder(str(tiny_clip), device="cpu", dtype="float32")
    seen: list[tuple[int, int]] = []
    table, report = embed_items(items, encoder, read=read, progress=lambda done, total: seen.append((done, total)))
    assert report.encoded == 298
    assert {entry.uri for entry in report.set_aside} == {"digits:7", "digits:280"}
    assert next(entry.reason for entry in report.set_aside if entry.uri == "digits:280").endswith("scan it again")
    assert table.table["uri"].to_pylist() == [uri for uri in contents if uri not in {"digits:7", "digits:280"}]
    assert seen[-1] == (300, 300)
    alone = encoder.encode([contents["digits:299"]]).vectors[0]
    assert np.allclose(table.vectors[-1], alone, atol=1e-6)
