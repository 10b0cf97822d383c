"""The table of embeddings keeps its promises about schema, values and provenance."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from aura.embeddings.errors import EmbeddingTableError
from aura.embeddings.table import EmbeddingModel, EmbeddingTable

MODEL = EmbeddingModel("m", "f" * 32, None, 3, "bfloat16", 0.9995)


def some_items(count: int = 4) -> pa.Table:
    return pa.table(
        {
            "item_id": [f"{i:032x}" for i in range(count)],
            "uri": [f"file:{i}" for i in range(count)],
            "modality": ["text"] * count,
            "label": pa.array([None if i == 1 else "l" for i in range(count)], pa.string()),
            "sublabel": pa.array([None] * count, pa.string()),
            "text": pa.array(["t"] * count, pa.large_string()),
        }
    )


def some_vectors(count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)


def test_parts_bring_back_the_same_table_and_model():
    table = EmbeddingTable.build(some_items(), some_vectors(), MODEL)
    again = EmbeddingTable.from_parts(table.to_parts())
    assert again.model == MODEL
    assert again.table.equals(table.table, check_metadata=True)
    assert again.vectors.tobytes() == some_vectors().tobytes()


def test_vectors_are_a_view_of_the_arrow_buffer():
    table = EmbeddingTable.build(some_items(), some_vectors(), MODEL)
    first, second = table.vectors, table.vectors
    assert first is not second
    assert np.shares_memory(first, second)
    assert not table.vectors.flags.writeable


def test_vectors_of_a_sliced_chunked_table_are_those_of_its_rows():
    whole = EmbeddingTable.build(some_items(), some_vectors(), MODEL)
    chunked = pa.concat_tables([whole.table.slice(2, 1), whole.table.slice(0, 2)])
    assert np.array_equal(EmbeddingTable(chunked, MODEL).vectors, some_vectors()[[2, 0, 1]])
    assert np.array_equal(EmbeddingTable(whole.table.slice(1), MODEL).vectors, some_vectors()[1:])


def test_an_empty_table_has_no_vectors_of_the_models_dimension():
    table = EmbeddingTable.build(some_items(0), some_vectors(0), MODEL)
    assert EmbeddingTable.from_parts(table.to_parts()).vectors.shape == (0, 3)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (some_vectors().astype(np.float64), "float64"),
        (some_vectors()[:, :2].copy(), r"\(4, 3\)"),
        (some_vectors(3), r"\(3, 3\)"),
        (np.where(np.arange(12).reshape(4, 3) == 7, np.nan, some_vectors()).astype(np.float32), "file:2"),
    ],
)
def test_wrong_vectors_are_refused(vectors, message):
    with pytest.raises(EmbeddingTableError, match=message):
        EmbeddingTable.build(some_items(), vectors, MODEL)


def test_a_repeated_item_is_refused():
    items = pa.concat_tables([some_items(2), some_items(2)])
    with pytest.raises(EmbeddingTableError, match="more than once"):
        EmbeddingTable.build(items, some_vectors(), MODEL)


def test_vectors_of_another_dimension_than_the_models_are_refused():
    table = EmbeddingTable.build(some_items(), some_vectors(), MODEL)
    with pytest.raises(EmbeddingTableError, match="columns"):
        EmbeddingTable(table.table, EmbeddingModel("m", "f", None, 4, "float32"))


@pytest.mark.parametrize("metadata", [None, {b"aura": b"not json"}, {b"aura": b'{"name": "m"}'}, {b"aura": b"[]"}])
def test_parts_without_a_model_are_refused(metadata):
    table = EmbeddingTable.build(some_items(), some_vectors(), MODEL).table.replace_schema_metadata(metadata)
    with pytest.raises(EmbeddingTableError, match="model"):
        EmbeddingTable.from_parts({"embeddings": table})


def test_parts_of_something_else_are_refused():
    with pytest.raises(EmbeddingTableError, match="weights"):
        EmbeddingTable.from_parts({"weights": b""})
