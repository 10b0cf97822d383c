"""What is computed again, and only that, when files, settings or models change."""

from __future__ import annotations

import shutil

import pyarrow.compute as pc
import pytest
from shell_graph import Graph, changed
from shell_models import save_word_model

from aura_assets.step import FORCE_TAG

EMBEDDED = ["corpus_manifest", "text_embeddings"]

TEXT_VALUES = {"text_embeddings", "text_index", "embedding_diagrams", "expert_model", "expert_routing_table"}
FOLLOWING = {"diagram_vectors", "averaged_landscapes", "embedding_loops", "embedding_drift", "network_drift"}
REFERENCES = {"drift_reference", "network_reference"}
"""What tells what was, and stays."""


def vectors_by_uri(graph: Graph) -> dict[str, bytes]:
    table = graph.load("text_embeddings")
    return {uri: vector.tobytes() for uri, vector in zip(table.table["uri"].to_pylist(), table.vectors, strict=True)}


def figures(outcome, asset="text_embeddings") -> dict[str, object]:
    return {name: outcome.materialized[asset][name] for name in ("encoded", "reused_vectors", "removed")}


@pytest.fixture(scope="module")
def collapsed_text_model(tmp_path_factory, corpus_template):
    """A model to which all texts mean nearly the same."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(corpus_template.rglob("*.txt"))]
    return save_word_model(tmp_path_factory.mktemp("models") / "collapsed", texts, spread=0.001)


def test_new_changed_and_removed_files_cost_one_encoding_each_at_most(graph, corpus_directory) -> None:
    assert figures(graph.run_selection(EMBEDDED)) == {"encoded": 60, "reused_vectors": 0, "removed": 0}
    before = vectors_by_uri(graph)

    (corpus_directory / "email" / "new.txt").write_text("Read a new message from the mail server", encoding="utf-8")
    outcome = graph.run_selection(EMBEDDED)
    assert figures(outcome) == {"encoded": 1, "reused_vectors": 60, "removed": 0}
    assert outcome.materialized["corpus_manifest"]["added"] == 1
    added = vectors_by_uri(graph)
    assert added.keys() - before.keys() == {"email/new.txt"}
    assert {uri: added[uri] for uri in before} == before

    changed_file = corpus_directory / "turtle" / "00.txt"
    changed_file.write_text("Return the number of digits in the decimal exponent", encoding="utf-8")
    outcome = graph.run_selection(EMBEDDED)
    assert figures(outcome) == {"encoded": 1, "reused_vectors": 60, "removed": 1}
    assert outcome.materialized["corpus_manifest"]["changed"] == 1
    after = vectors_by_uri(graph)
    assert after["turtle/00.txt"] != before["turtle/00.txt"]
    assert before["turtle/00.txt"] not in after.values()

    (corpus_directory / "decimal" / "03.txt").unlink()
    outcome = graph.run_selection(EMBEDDED)
    assert figures(outcome) == {"encoded": 0, "reused_vectors": 60, "removed": 1}
    assert "decimal/03.txt" not in vectors_by_uri(graph)
    assert "decimal/03.txt" not in graph.load("corpus_manifest").table["uri"].to_pylist()


def test_a_removed_file_disappears_from_everything_downstream(graph, corpus_directory) -> None:
    before = graph.run("corpus")
    for name in ("00.txt", "01.txt"):
        (corpus_directory / "turtle" / name).unlink()
    after = graph.run("corpus")
    assert after.failed == {}
    assert after.reused == frozenset()
    for name in TEXT_VALUES | {"corpus_manifest"}:
        assert after.data_versions[name] != before.data_versions[name], name
    assert graph.load("embedding_diagrams").provenance.points == 58
    routed = graph.load("expert_routing_table")
    assert routed.figures.items == 58
    labels = routed.labels.filter(pc.equal(routed.labels["label"], "turtle"))
    assert after.materialized["expert_routing_table"]["items"] == 58
    assert labels.num_rows > 0


def test_without_any_text_the_embeddings_are_skipped_and_what_was_published_is_withdrawn(
    graph, corpus_directory
) -> None:
    assert graph.run("corpus").failed == {}
    assert set(graph.published()) == TEXT_VALUES | FOLLOWING | REFERENCES | {"corpus_manifest"}
    for label in ("decimal", "email", "turtle"):
        shutil.rmtree(corpus_directory / label)
    outcome = graph.run("corpus")
    assert outcome.success
    assert outcome.left_out["text_embeddings"] == "skipped: no text items in this source"
    assert outcome.skipped >= (TEXT_VALUES | FOLLOWING | REFERENCES) - {"text_embeddings"}
    assert set(graph.published()) == REFERENCES | {"corpus_manifest"}
    with graph.store() as store:
        left = {entry.key.split("/")[1] for entry in store.entries("values/")}
    assert left == REFERENCES | {"corpus_manifest"}


def test_the_texts_of_another_source_stay_when_one_source_loses_its_own(graph, corpus_directory, tmp_path) -> None:
    other = shutil.copytree(corpus_directory, tmp_path / "other")
    graph.register(other, "other")
    graph.run_selection(EMBEDDED)
    graph.run_selection(EMBEDDED, "other")
    for label in ("decimal", "email", "turtle"):
        shutil.rmtree(corpus_directory / label)
    graph.run_selection(EMBEDDED)
    assert set(graph.published()) == {"corpus_manifest"}
    assert set(graph.published("other")) == set(EMBEDDED)


def test_what_cannot_be_read_is_set_aside_with_its_reason_and_the_run_goes_on(graph, corpus_directory) -> None:
    (corpus_directory / "email" / "empty.txt").write_bytes(b"")
    (corpus_directory / "email" / "blank.txt").write_text(" \n\t\n", encoding="utf-8")
    (corpus_directory / "email" / "huge.txt").write_text("word " * 3000, encoding="utf-8")
    (corpus_directory / "email" / "binary.txt").write_bytes(bytes(range(256)) * 4)
    (corpus_directory / "email" / "program.exe").write_bytes(b"MZ")
    (corpus_directory / "email" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (corpus_directory / "email" / "secret.txt").symlink_to("/etc/passwd")
    small = Graph(changed(graph.settings, corpus={"max_text_bytes": 10_000}))
    outcome = small.run_selection(EMBEDDED)
    assert outcome.success
    aside = {
        row["uri"].removeprefix("email/"): row["reason"]
        for row in graph.load("corpus_manifest").table.to_pylist()
        if row["status"] == "set aside"
    }
    assert set(aside) == {
        "empty.txt",
        "blank.txt",
        "huge.txt",
        "binary.txt",
        "program.exe",
        "broken.png",
        "secret.txt",
    }
    assert all(len(reason) > 4 for reason in aside.values())
    assert ".exe" in aside["program.exe"]
    manifest = outcome.materialized["corpus_manifest"]
    assert manifest["set_aside"] == 7
    shown = str(manifest["set_aside_items"])
    for name, reason in aside.items():
        assert name in shown
        assert reason.replace("|", "\\|").replace("\n", " ") in shown
    assert figures(outcome)["encoded"] == 60


def test_a_blocking_check_that_fails_keeps_the_value_before_it_and_stops_what_follows(
    graph, collapsed_text_model
) -> None:
    assert graph.run("corpus").failed == {}
    before = graph.published()
    collapsed = Graph(changed(graph.settings, embeddings={"text_model": str(collapsed_text_model)}))
    outcome = collapsed.run("corpus")
    assert not outcome.success
    assert set(outcome.failed) == {"text_embeddings"}
    assert "not published" in outcome.failed["text_embeddings"]
    assert "mean cosine" in outcome.failed["text_embeddings"]
    check = outcome.checks["text_embeddings", "no_collapse"]
    assert not check.passed
    assert check.severity.value == "ERROR"
    assert outcome.checks["text_embeddings", "unit_norms"].passed
    assert set(outcome.materialized) == {"corpus_manifest"}
    assert graph.published() == before
    with graph.store() as store:
        blocks = {entry.key for entry in store.entries("values/text_embeddings/")}
    with graph.catalog() as catalog:
        assert blocks == set(catalog.find("text_embeddings", graph.source).keys)


def test_a_check_that_only_warns_does_not_stop_anything(graph, corpus_directory) -> None:
    for number in range(70):
        (corpus_directory / "email" / f"{number}.bin").write_bytes(b"x")
    outcome = graph.run_selection(EMBEDDED)
    assert outcome.success
    check = outcome.checks["corpus_manifest", "most_items_usable"]
    assert not check.passed
    assert check.severity.value == "WARN"
    assert set(outcome.materialized) == set(EMBEDDED)
    assert set(graph.published()) == set(EMBEDDED)


def test_a_forced_run_computes_again_and_gets_the_same(graph) -> None:
    first = graph.run("corpus")
    forced = graph.run("corpus", tags={FORCE_TAG: "true"})
    assert forced.reused == frozenset()
    assert forced.data_versions == first.data_versions
    assert (
        forced.materialized["expert_model"]["switch_accuracy"] == first.materialized["expert_model"]["switch_accuracy"]
    )


def test_another_setting_of_topology_recomputes_the_diagrams_only(graph) -> None:
    first = graph.run("corpus")
    outcome = Graph(changed(graph.settings, topology={"landmarks": 20})).run("corpus")
    assert outcome.reused == {"text_index", "expert_model", "expert_routing_table", "embedding_drift", "network_drift"}
    assert outcome.materialized["text_embeddings"]["encoded"] == 0
    assert outcome.materialized["embedding_diagrams"]["landmarks"] == 20
    differing = {name for name, version in outcome.data_versions.items() if version != first.data_versions[name]}
    assert differing == {"embedding_diagrams", "diagram_vectors", "embedding_loops"}


def test_another_model_encodes_everything_anew(graph, tmp_path, corpus_template) -> None:
    graph.run_selection(EMBEDDED)
    texts = [path.read_text(encoding="utf-8") for path in sorted(corpus_template.rglob("*.txt"))][:50]
    other = save_word_model(tmp_path / "models" / "other", texts)
    outcome = Graph(changed(graph.settings, embeddings={"text_model": str(other)})).run_selection(EMBEDDED)
    assert figures(outcome)["encoded"] == 60
    assert str(outcome.materialized["text_embeddings"]["why"]).startswith("model changed")


def test_the_checks_alone_can_be_run_on_what_is_published(graph) -> None:
    import dagster as dg

    graph.run_selection(EMBEDDED)
    before = graph.published()
    definitions = graph.definitions()
    asset = next(a for a in definitions.assets if dg.AssetKey("text_embeddings") in a.keys)
    outcome = graph.run_selection(dg.AssetSelection.checks_for_assets(asset))
    assert outcome.success, outcome.failed
    assert outcome.materialized == {}
    assert {check: evaluation.passed for check, evaluation in outcome.checks.items()} == {
        ("text_embeddings", "unit_norms"): True,
        ("text_embeddings", "no_collapse"): True,
    }
    assert graph.published() == before


def test_the_checks_alone_on_a_value_that_is_not_there_say_what_to_materialize(graph) -> None:
    import dagster as dg

    graph.run_selection(["corpus_manifest"])
    asset = next(a for a in graph.definitions().assets if dg.AssetKey("text_embeddings") in a.keys)
    outcome = graph.run_selection(dg.AssetSelection.checks_for_assets(asset))
    assert not outcome.success
    assert "Materialize the asset 'text_embeddings' first" in outcome.failed["text_embeddings"]


@pytest.mark.slow
def test_the_packaged_model_embeds_and_the_experts_learn_from_it(graph) -> None:
    packaged = Graph(changed(graph.settings, embeddings={"text_model": None}))
    outcome = packaged.run("corpus")
    assert outcome.failed == {}
    model = outcome.materialized["text_embeddings"]["model"]
    assert (model["name"], model["dimension"]) == ("all-MiniLM-L6-v2", 384)
    assert outcome.checks["text_embeddings", "no_collapse"].passed
    learned = outcome.materialized["expert_model"]
    assert learned["switch_accuracy"] > 2 * learned["majority_accuracy"]
