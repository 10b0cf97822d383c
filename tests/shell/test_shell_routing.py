"""A source's texts routed by a model that the settings name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from shell_graph import Graph, changed
from shell_models import save_mixture

from aura.experts.routing.table import RoutingTable
from aura_assets.step import FORCE_TAG


@pytest.fixture(scope="session")
def mixtures(tmp_path_factory, corpus_template):
    """Two checkpoints of one model."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(corpus_template.rglob("*.txt"))]
    root = tmp_path_factory.mktemp("mixtures")
    return save_mixture(root / "later", texts), save_mixture(root / "earlier", texts, seed=1)


def test_the_routing_of_a_configured_model_is_tabulated_on_the_texts(graph, mixtures) -> None:
    later, earlier = mixtures
    assert graph.run("corpus").success
    experts = {"routed_model": str(later), "earlier_checkpoint": str(earlier), "routed_tokens": 40, "clusters": 3}
    outcome = Graph(changed(graph.settings, experts=experts)).run("corpus")
    assert outcome.failed == {}
    assert "expert_model" in outcome.reused, "which model is routed does not change what is trained"
    table = graph.load("expert_routing_table")
    assert isinstance(table, RoutingTable)
    assert table.figures.model == str(later)
    assert table.figures.items == outcome.materialized["expert_routing_table"]["items"] == 60
    assert table.figures.truncated > 0
    assert set(table.labels["label"].to_pylist()) == {"decimal", "email", "turtle"}
    assert set(table.clusters["cluster"].to_pylist()) == {0, 1, 2}
    assert outcome.entries["expert_routing_table"].keys() >= {"load", "specialisation", "coactivation", "transitions"}
    assert 0 < outcome.materialized["expert_routing_table"]["saturation"] < 1
    assert outcome.checks["expert_routing_table", "shares_sum_to_one"].passed


def test_the_same_model_routes_the_same_texts_once(graph, mixtures, tmp_path) -> None:
    model = Path(shutil.copytree(mixtures[0], tmp_path / "model"))
    routed = Graph(changed(graph.settings, experts={"routed_model": str(model), "routed_texts": 20}))

    def run(**options):
        outcome = routed.run("corpus", **options)
        return outcome.materialized["expert_routing_table"]["why"], outcome.data_versions["expert_routing_table"]

    first = run()
    again = run()
    forced = run(tags={FORCE_TAG: "true"})
    assert (first[0], again[0], forced[0]) == (
        "routed 20 texts",
        "neither the texts, nor the model, nor a setting has changed",
        "routed 20 texts",
    )
    assert first[1] == again[1] == forced[1]
    for name in ("model.safetensors", "config.json"):
        shutil.copyfile(mixtures[1] / name, model / name)
    trained_on = run()
    assert trained_on[0] == "routed 20 texts"
    assert trained_on[1] != first[1]


def test_texts_without_labels_are_routed_too(graph, corpus_directory, mixtures) -> None:
    for path in sorted(corpus_directory.rglob("*.txt")):
        path.rename(corpus_directory / f"{path.parent.name}-{path.name}")
    experts = {"routed_model": str(mixtures[0]), "routed_texts": 10}
    outcome = Graph(changed(graph.settings, experts=experts)).run("corpus")
    assert "expert_model" in outcome.left_out
    assert outcome.materialized["expert_routing_table"]["items"] == 10
    assert outcome.materialized["expert_routing_table"]["label_bits"] == 0
