"""A directory without labels: everything but the experts is made, and the experts say why they are not."""

from __future__ import annotations

from shell_graph import Graph, write_corpus

from aura.corpus.plots import plot_labels


def test_without_labels_the_experts_are_skipped_with_the_reason_and_the_rest_is_made(home, tmp_path):
    labelled = write_corpus(tmp_path / "labelled")
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in labelled.rglob("*.txt"):
        (flat / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    graph = Graph(home)
    graph.register(flat)
    outcome = graph.run("corpus")
    assert outcome.success
    assert {"corpus_manifest", "text_embeddings", "embedding_diagrams"} <= set(outcome.materialized)
    assert "label" in outcome.left_out["expert_model"]
    assert "expert_routing_table" in outcome.skipped
    png = plot_labels(graph.load("corpus_manifest"))
    assert png.startswith(b"\x89PNG")
