"""What the stage returns for a batch, without a cluster."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest
from cluster_material import TEXTS, on_cpu, text_items

from aura.corpus.errors import ItemChangedError
from aura.embeddings.cluster import EncoderRecipe, EncoderStage
from aura.embeddings.errors import EncodingError


@pytest.fixture(scope="module")
def recipe(word_model):
    return EncoderRecipe(on_cpu(text_model=word_model), "text")


def test_a_batch_has_a_row_for_each_item_with_its_vector_and_the_counts_of_the_batch(recipe):
    encoder = recipe.open()
    rows = EncoderStage(recipe)(text_items().select(["item_id", "text"]))
    encoded = encoder.encode(TEXTS)
    assert rows["item_id"].to_pylist() == text_items()["item_id"].to_pylist()
    assert np.array(rows["vector"].to_pylist(), np.float32).tobytes() == encoded.vectors.tobytes()
    assert rows["reason"].null_count == len(TEXTS)
    assert {json.dumps(asdict(encoder.model))} == set(rows["model"].to_pylist())
    counts = {name: set(rows[name].to_pylist()) for name in ("tokens", "chunked", "truncated")}
    assert counts == {"tokens": {encoded.tokens}, "chunked": {encoded.chunked}, "truncated": {0}}


@pytest.mark.parametrize("lost", [{0}, {2}, {4}, {1, 3}, {0, 1, 2, 3, 4}])
def test_an_item_that_is_refused_has_a_reason_in_place_of_a_vector(recipe, lost):
    items = text_items(TEXTS[:5])
    texts = dict(zip(items["uri"].to_pylist(), TEXTS, strict=False))
    gone = {uri for place, uri in enumerate(texts) if place in lost}

    def read(uri: str, _: str) -> str:
        if uri in gone:
            raise ItemChangedError("it is gone")
        return texts[uri]

    rows = EncoderStage(recipe, read)(items.select(["item_id", "uri"])).to_pylist()
    kept = [text for place, text in enumerate(TEXTS[:5]) if place not in lost]
    expected = iter(recipe.open().encode(kept).vectors)
    for place, row in enumerate(rows):
        assert row["reason"] == ("it is gone" if place in lost else None)
        assert row["vector"] == (None if place in lost else next(expected).tolist())


def test_an_empty_batch_stays_empty(recipe):
    rows = EncoderStage(recipe)(text_items([]))
    assert rows.num_rows == 0
    assert rows.schema.field("vector").type == pa.large_list(pa.float32())


def test_a_modality_without_a_model_is_refused(recipe):
    with pytest.raises(EncodingError, match="no model is configured for image items"):
        EncoderStage(EncoderRecipe(recipe.settings, "image"))
