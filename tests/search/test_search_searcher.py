"""The searcher: which values stay in memory between questions, and which go."""

from __future__ import annotations

import pyarrow as pa
import pytest

from aura.embeddings.opening import Encoders
from aura.embeddings.table import EmbeddingTable
from aura.search.errors import SearchError
from aura.search.index import build_index
from aura.search.query import Query
from aura.search.searcher import Searcher
from aura.settings_sections import EmbeddingSettings
from aura.tiers.budgets import TierBudgets
from aura.tiers.catalog import Catalog
from aura.tiers.store import open_store

TEXTS = ("a turtle draws a square", "a mail has a header", "a thread waits for a lock")
ENCODERS = Encoders(EmbeddingSettings())


class CountingCatalog(Catalog):
    """Counts what is loaded."""

    def __init__(self, store):
        super().__init__(store)
        self.loaded = []

    def load_published(self, name, partition):
        self.loaded.append((name, partition))
        return super().load_published(name, partition)

    def loaded_since(self):
        loaded, self.loaded = self.loaded, []
        return loaded


def publish(catalog, source, texts=TEXTS):
    encoder = ENCODERS.text
    ids = [f"{source}-{number}" for number in range(len(texts))]
    columns = {"item_id": ids, "uri": ids, "modality": ["text"] * len(ids), "label": ids, "sublabel": ids}
    items = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    made = EmbeddingTable.build(items, encoder.encode(list(texts)).vectors, encoder.model)
    catalog.publish("text_embeddings", made, partition=source, provenance={})
    catalog.publish("text_index", build_index(made), partition=source, provenance={})


@pytest.fixture
def catalog(tmp_path):
    with open_store(tmp_path, budgets=TierBudgets()) as store:
        catalog = CountingCatalog(store)
        for source in ("a", "b"):
            publish(catalog, source)
        yield catalog


def asked(searcher, catalog, source=None):
    """The items that are nearest to a text of the source, and what was loaded to find them."""
    answer = searcher.search(catalog, Query("text", TEXTS[0], TEXTS[0]), source=source, count=2)
    return {hit.uri for hit in answer.hits}, catalog.loaded_since()


def of(*sources):
    return [(name, source) for source in sources for name in ("text_embeddings", "text_index")]


def test_a_value_is_loaded_once_for_all_questions_until_another_is_published(catalog):
    searcher = Searcher(ENCODERS)
    assert asked(searcher, catalog) == ({"a-0", "b-0"}, of("a", "b"))
    assert asked(searcher, catalog) == ({"a-0", "b-0"}, [])
    assert asked(searcher, catalog, "b")[1] == []
    publish(catalog, "b", TEXTS[:2])
    assert asked(searcher, catalog) == ({"a-0", "b-0"}, of("b"))


def test_values_that_are_too_much_go_the_least_recently_used_first_and_those_in_use_stay(catalog):
    searcher = Searcher(ENCODERS, kept_bytes=1)
    assert asked(searcher, catalog, "a") == ({"a-0", "a-2"}, of("a"))
    assert asked(searcher, catalog, "a")[1] == []
    assert asked(searcher, catalog, "b")[1] == of("b")
    assert asked(searcher, catalog, "a")[1] == of("a")
    assert asked(searcher, catalog)[1] == of("b")
    assert asked(searcher, catalog)[1] == []


def test_what_is_withdrawn_is_found_no_more_and_let_go(catalog):
    searcher = Searcher(ENCODERS)
    asked(searcher, catalog)
    for name, source in of("b"):
        catalog.withdraw(name, source)
    assert asked(searcher, catalog) == ({"a-0", "a-2"}, [])
    with pytest.raises(SearchError, match="of the source 'b'"):
        asked(searcher, catalog, "b")
    publish(catalog, "b")
    assert asked(searcher, catalog, "b") == ({"b-0", "b-2"}, of("b"))
