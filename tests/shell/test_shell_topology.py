"""What the graph makes of diagrams: vectors on one grid, averaged landscapes, loops that can be read."""

from __future__ import annotations

import shutil

from shell_graph import Graph, changed

from aura.topology.cycles import RepresentativeCycles
from aura.topology.subsamples import AveragedLandscapes
from aura.topology.vectors import TopologyVectors
from aura_assets.step import ACCEPT_TAG

DIAGRAMS = ["corpus_manifest", "text_embeddings", "embedding_diagrams"]
SUMMARIES = ["diagram_vectors", "averaged_landscapes", "embedding_loops"]


def test_diagrams_are_summarised_and_loops_are_listed_by_their_items(graph) -> None:
    outcome = graph.run_selection([*DIAGRAMS, *SUMMARIES])
    assert (outcome.failed, outcome.left_out) == ({}, {})
    assert all(check.passed for check in outcome.checks.values())
    vectors, averaged, loops = (graph.load(name) for name in SUMMARIES)
    assert isinstance(vectors, TopologyVectors)
    assert isinstance(averaged, AveragedLandscapes)
    assert isinstance(loops, RepresentativeCycles)
    assert vectors.provenance.parameters.fitted_on == graph.source
    assert (averaged.provenance.points, averaged.provenance.size, averaged.provenance.count) == (60, 20, 30)
    assert "band" in str(outcome.materialized["averaged_landscapes"]["guarantee"])
    table = str(outcome.materialized["embedding_loops"]["loops"])
    embeddings = graph.load("text_embeddings").table
    for cycle in loops.cycles:
        for uri in embeddings["uri"].take(list(cycle.vertices)).to_pylist():
            assert uri in table


def test_a_second_source_gets_the_grid_of_the_first(graph, corpus_directory, tmp_path) -> None:
    graph.run_selection([*DIAGRAMS, "diagram_vectors"])
    other = shutil.copytree(corpus_directory, tmp_path / "other")
    shutil.rmtree(other / "turtle")
    graph.register(other, "another")
    outcome = graph.run_selection([*DIAGRAMS, "diagram_vectors"], "another")
    assert outcome.materialized["diagram_vectors"]["fitted_on"] == graph.source
    first = graph.load("diagram_vectors").provenance.parameters
    second = graph.load("diagram_vectors", "another").provenance.parameters
    assert first == second
    asked = graph.run_selection(["diagram_vectors"], "another", tags={ACCEPT_TAG: "true"})
    assert str(asked.materialized["diagram_vectors"]["fitted_on"]).startswith("another, accepted at 2")
    follows = graph.run_selection(["diagram_vectors"])
    assert follows.materialized["diagram_vectors"]["fitted_on"] == asked.materialized["diagram_vectors"]["fitted_on"]


def test_a_source_smaller_than_a_subsample_has_no_averaged_landscapes(graph) -> None:
    configured = Graph(changed(graph.settings, topology={"subsample_points": 100}))
    outcome = configured.run_selection([*DIAGRAMS, "averaged_landscapes"])
    assert "60 items are no more than a subsample has (100)" in outcome.left_out["averaged_landscapes"]


def test_no_grid_for_all_sources_is_fitted_on_a_handful_of_bars(graph, corpus_directory) -> None:
    for number, path in enumerate(sorted(corpus_directory.rglob("*.txt"))):
        if number >= 8:
            path.unlink()
    outcome = graph.run_selection([*DIAGRAMS, "diagram_vectors"])
    assert "too few to fit a grid" in outcome.left_out["diagram_vectors"]
