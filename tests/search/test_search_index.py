"""The index: it finds what a comparison with all vectors finds, whatever was added and taken away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from aura.embeddings.table import EmbeddingModel, EmbeddingTable
from aura.search import index as index_module
from aura.search.checks import finds_neighbours, finds_themselves
from aura.search.errors import SearchIndexError
from aura.search.index import OpenIndex, SearchIndex, build_index

MODEL = EmbeddingModel("m", "f" * 32, None, 32, "float32")


def clustered(count: int, seed: int = 0, dimension: int = 32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(40, dimension))[rng.integers(0, 40, count)] + 0.5 * rng.normal(size=(count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def table(vectors: np.ndarray, *, first: int = 0, modality: str = "text", model: EmbeddingModel = MODEL):
    ids = [f"{modality}{first + row:028x}" for row in range(len(vectors))]
    columns = {"item_id": ids, "uri": ids, "modality": [modality] * len(ids), "label": ids, "sublabel": ids}
    items = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    return EmbeddingTable.build(items, vectors, model)


def joined(*tables: EmbeddingTable) -> EmbeddingTable:
    return EmbeddingTable(pa.concat_tables([each.table for each in tables]), tables[0].model)


def exact(vectors: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
    return np.argsort(-(queries.astype(np.float64) @ vectors.T), axis=1)[:, :count]


@pytest.mark.parametrize("flat_up_to", [5000, 100])
def test_neighbours_are_those_of_a_comparison_with_all(flat_up_to):
    vectors = clustered(2000)
    made = build_index(table(vectors), flat_up_to=flat_up_to)
    assert made.card.parts["text"].way == ("flat" if flat_up_to == 5000 else "graph")
    queries = clustered(50, seed=1)
    found = OpenIndex(table(vectors), made).search(queries, "text", 10)
    expected = exact(vectors, queries, 10)
    same = np.mean([len(set(a) & set(b)) for a, b in zip(found.rows, expected, strict=True)]) / 10
    assert same >= (1.0 if flat_up_to == 5000 else 0.98)
    np.testing.assert_allclose(found.scores, np.take_along_axis(queries @ vectors.T, found.rows, 1), atol=2e-6)
    assert (np.diff(found.scores, axis=1) <= 0).all()


def test_every_vector_of_a_graph_finds_itself_first():
    vectors = clustered(3000)
    opened = OpenIndex(table(vectors), build_index(table(vectors), flat_up_to=10))
    assert (opened.search(vectors, "text", 1).rows[:, 0] == np.arange(3000)).all()


def test_an_index_comes_back_from_its_parts_and_finds_the_same():
    vectors = clustered(1500)
    made = build_index(table(vectors), flat_up_to=100)
    again = SearchIndex.from_parts(made.to_parts())
    assert again.card == made.card
    assert again.graphs["text"].content == made.graphs["text"].content
    assert (again.graphs["text"].strays == made.graphs["text"].strays).all()
    one, other = (OpenIndex(table(vectors), each).search(vectors[:20], "text") for each in (made, again))
    assert (one.rows == other.rows).all()


def test_modalities_are_searched_apart():
    texts, images = table(clustered(30)), table(clustered(20, seed=2), modality="image")
    both = joined(texts, images)
    opened = OpenIndex(both, build_index(both))
    assert [opened.count(modality) for modality in ("text", "image", "audio")] == [30, 20, 0]
    found = opened.search(images.vectors[:5], "image", 3)
    assert (found.rows[:, 0] == np.arange(30, 35)).all()
    assert (opened.search(images.vectors[:5], "text", 3).rows < 30).all()
    assert (opened.search(images.vectors[:5], "audio", 3).rows == -1).all()


def test_what_is_new_is_added_and_what_is_gone_is_not_found():
    vectors = clustered(2200)
    before = build_index(table(vectors[:2000]), flat_up_to=100)
    now = table(vectors[200:], first=200)
    made = build_index(now, before, flat_up_to=100)
    assert made.card.parts["text"].added == 200
    found = OpenIndex(now, made).search(vectors, "text", 5)
    assert (found.rows[200:, 0] == np.arange(2000)).all()
    assert (found.scores[:200, 0] < 1 - 1e-6).all()
    assert (found.rows >= 0).all()


def test_a_graph_is_made_anew_when_many_are_gone_or_the_model_is_another():
    vectors = clustered(2000)
    before = build_index(table(vectors), flat_up_to=100)
    fewer = table(vectors[900:], first=900)
    assert build_index(fewer, before, flat_up_to=100).card.parts["text"].added == 1100
    other = table(vectors, model=replace(MODEL, fingerprint="e" * 32))
    assert build_index(other, before, flat_up_to=100).card.parts["text"].added == 2000
    assert build_index(table(vectors), before, flat_up_to=100).card.parts["text"].added == 0


def test_where_many_neighbours_are_gone_those_that_are_left_are_found():
    """A whole cluster is taken out, which fills the graph's candidates with what is not there any more."""
    middle = clustered(1, seed=9)
    rng = np.random.default_rng(3)
    close = middle + 0.02 * rng.normal(size=(300, 32))
    close = (close / np.linalg.norm(close, axis=1, keepdims=True)).astype(np.float32)
    vectors = np.concatenate([clustered(2000), close])
    before = build_index(table(vectors), flat_up_to=100)
    now = table(vectors[:2000])
    made = build_index(now, before, flat_up_to=100)
    assert made.card.parts["text"].added == 0
    found = OpenIndex(now, made).search(np.concatenate([middle, close[:20]]), "text", 10)
    expected = OpenIndex(now, None).search(np.concatenate([middle, close[:20]]), "text", 10)
    assert (found.rows == expected.rows).all()


def test_more_neighbours_than_there_are_cost_nothing():
    small = table(clustered(5))
    assert OpenIndex(small, None).search(clustered(1), "text", 2_000_000_000).rows.shape == (1, 5)


def test_an_index_of_another_table_is_not_used_and_nothing_is_missed():
    vectors = clustered(600)
    before = build_index(table(vectors[:500]), flat_up_to=100)
    found = OpenIndex(table(vectors), before).search(vectors, "text", 1)
    assert (found.rows[:, 0] == np.arange(600)).all()


def test_a_graph_that_does_not_find_is_not_used(monkeypatch):
    monkeypatch.setattr(index_module, "MIN_RECALL", 1.1)
    assert build_index(table(clustered(500)), flat_up_to=100).card.parts["text"].way == "flat"


def test_equal_vectors_come_in_the_order_of_the_table():
    vectors = np.repeat(clustered(3), 20, axis=0)
    found = OpenIndex(table(vectors), build_index(table(vectors))).search(vectors[25:26], "text", 5)
    assert found.rows.tolist() == [[20, 21, 22, 23, 24]]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_tiny_tables_are_searched_and_checked(count):
    small = table(clustered(count))
    made = build_index(small)
    found = OpenIndex(small, made).search(clustered(1), "text", 5)
    assert (found.rows >= 0).sum() == count
    assert finds_themselves(made).passed
    assert finds_neighbours(made).passed


def test_the_checks_say_what_was_found():
    made = build_index(table(clustered(300)), flat_up_to=10)
    assert finds_themselves(made).passed
    worse = replace(made.card, parts={"text": replace(made.card.parts["text"], self_retrieval=0.9, recall=0.5)})
    broken = SearchIndex(worse, made.graphs)
    assert not finds_themselves(broken).passed
    assert not finds_neighbours(broken).passed
    assert finds_neighbours(broken).figures["recall_text"] == 0.5


def test_wrong_queries_and_parts_are_named():
    small = table(clustered(5))
    opened = OpenIndex(small, None)
    with pytest.raises(SearchIndexError, match=r"\(1, 3\).*32 dimensions"):
        opened.search(np.zeros((1, 3), np.float32), "text")
    with pytest.raises(SearchIndexError, match="at least 1, got 0"):
        opened.search(clustered(1), "text", 0)
    with pytest.raises(SearchIndexError, match="materialize the index again"):
        SearchIndex.from_parts({"card": b"{}"})
    made = build_index(table(clustered(300)), flat_up_to=10)
    with pytest.raises(SearchIndexError, match="graphs of"):
        SearchIndex(made.card, {})


def test_the_recall_of_a_shared_space_counts_queries_of_the_other_modality():
    """Images lie in a cone of their own, as those of contrastive models do."""
    texts = clustered(1500)
    aside = clustered(300, seed=2) + 2 * clustered(1, seed=5)
    images = (aside / np.linalg.norm(aside, axis=1, keepdims=True)).astype(np.float32)
    both = joined(table(texts), table(images, modality="image"))
    made = build_index(both, flat_up_to=1000)
    assert (made.card.parts["text"].way, made.card.parts["image"].way) == ("graph", "flat")
    found = OpenIndex(both, made).search(images, "text", 10)
    nearest = OpenIndex(both, None).search(images, "text", 10)
    across = (found.scores >= nearest.scores[:, -1:] - 1e-6).mean()
    assert made.card.parts["text"].recall <= across
    assert across >= 0.98


def test_an_index_of_other_vectors_of_the_same_items_is_not_used():
    before = build_index(table(clustered(1500)), flat_up_to=100)
    now = table(clustered(1500, seed=7))
    found = OpenIndex(now, before).search(now.vectors, "text", 1)
    assert (found.rows[:, 0] == np.arange(1500)).all()
