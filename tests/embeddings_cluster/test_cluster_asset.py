"""The asset of the real graph with a cluster in its settings."""

from __future__ import annotations

import pytest
from shell_graph import Graph, changed, small_settings, write_corpus
from shell_models import save_word_model

from aura.embeddings.table import EmbeddingTable

pytestmark = pytest.mark.slow

ASSETS = ["corpus_manifest", "text_embeddings"]


def test_the_texts_of_a_source_are_embedded_on_the_cluster_as_they_are_here(connected, tmp_path):
    corpus = write_corpus(tmp_path / "library")
    texts = [path.read_text(encoding="utf-8") for path in sorted(corpus.rglob("*.txt"))]
    model = save_word_model(tmp_path / "words", texts)
    outcomes, tables = [], []
    for name, address in (("here", None), ("there", connected)):
        graph = Graph(changed(small_settings(tmp_path / name, model), embeddings={"ray_address": address}))
        graph.register(corpus)
        outcomes.append(graph.run_selection(ASSETS))
        tables.append(graph.load("text_embeddings"))
        assert outcomes[-1].failed == {}
    here, there = tables
    assert isinstance(there, EmbeddingTable)
    assert there.table.equals(here.table, check_metadata=True)
    assert there.vectors.tobytes() == here.vectors.tobytes()
    counts = [
        {name: outcome.materialized["text_embeddings"][name] for name in ("encoded", "set_aside", "tokens", "chunked")}
        for outcome in outcomes
    ]
    assert counts[0] == counts[1]
    assert counts[0]["encoded"] == len(texts)


def test_an_address_that_cannot_be_used_stops_the_embeddings_with_the_remedy(word_model, tmp_path):
    settings = small_settings(tmp_path / "home", word_model)
    graph = Graph(changed(settings, embeddings={"ray_address": "ray://127.0.0.1:10001"}))
    graph.register(write_corpus(tmp_path / "library"))
    outcome = graph.run_selection(ASSETS)
    assert set(outcome.failed) == {"text_embeddings"}
    assert "set AURA_EMBEDDINGS__RAY_ADDRESS to auto" in outcome.failed["text_embeddings"]
