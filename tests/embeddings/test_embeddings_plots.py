"""The scatter of a table is a small PNG on the axes of largest variance."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from aura.embeddings.plots import principal_components, scatter
from aura.embeddings.table import EmbeddingModel, EmbeddingTable


def labelled(count: int, labels: int) -> EmbeddingTable:
    rng = np.random.default_rng(0)
    label = rng.integers(0, labels, count)
    vectors = rng.normal(size=(labels, 32))[label] + rng.normal(size=(count, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"package {value}" if value else None for value in label]
    columns = {"item_id": [str(i) for i in range(count)], "uri": [str(i) for i in range(count)]}
    items = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    items = items.append_column("modality", pa.array(["text"] * count, pa.string()))
    items = items.append_column("label", pa.array(names, pa.string()))
    items = items.append_column("sublabel", pa.array([None] * count, pa.string()))
    return EmbeddingTable.build(items, vectors.astype(np.float32), EmbeddingModel("m", "f", None, 32, "float32"))


@pytest.mark.parametrize(("count", "labels"), [(0, 1), (1, 1), (40, 3), (6000, 20)])
def test_a_table_of_any_size_becomes_a_small_png(count, labels):
    picture = scatter(labelled(count, labels))
    with Image.open(io.BytesIO(picture)) as image:
        assert image.format == "PNG"
        assert image.size == (560, 440)
    assert len(picture) < 60_000


def test_the_same_table_gives_the_same_picture():
    assert scatter(labelled(50, 4)) == scatter(labelled(50, 4))


def test_the_axes_are_those_of_largest_variance():
    rng = np.random.default_rng(1)
    vectors = (rng.normal(size=(400, 5)) * [1, 6, 1, 3, 1]).astype(np.float32)
    points, shares = principal_components(vectors)
    assert abs(np.corrcoef(points[:, 0], vectors[:, 1])[0, 1]) > 0.99
    assert abs(np.corrcoef(points[:, 1], vectors[:, 3])[0, 1]) > 0.98
    assert shares == pytest.approx([36 / 48, 9 / 48], abs=0.05)


def test_a_label_that_cannot_be_drawn_is_drawn_without_a_warning(recwarn):
    table = labelled(30, 3)
    names = [f"\x07 $a_{row % 3}" for row in range(30)]
    column = table.table.schema.get_field_index("label")
    strange = table.table.set_column(column, "label", pa.array(names, pa.string()))
    assert scatter(EmbeddingTable(strange, table.model))
    assert not list(recwarn)
