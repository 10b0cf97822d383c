"""Drift of a source from what it was: decided by the graph, told to the event log, accepted by a person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from shell_graph import SOURCE, Graph, changed, docstrings
from shell_models import save_word_model

from aura.topology.drift.embeddings import DriftReference
from aura.topology.drift.report import Decided, DriftReport, Unavailable, Verdict
from aura_assets.step import ACCEPT_TAG, FORCE_TAG
from resources.events import Events

DRAWING = ("turtle", "tkinter")
MAIL = ("email.message", "imaplib", "smtplib", "poplib", "http.client", "urllib.request", "ftplib", "mailbox")
ITEMS = 300
EMBEDDINGS = ["corpus_manifest", "text_embeddings", "drift_reference", "embedding_drift"]
NETWORK = ["corpus_manifest", "text_embeddings", "expert_model", "network_reference", "network_drift"]


def texts_about(modules: Sequence[str]) -> list[str]:
    """Docstrings of some modules, in an order that mixes the modules."""
    texts = sorted({text for module in modules for text in docstrings(module)})
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[row] for row in order]


def write(directory: Path, texts: Sequence[str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts):
        (directory / f"{number:03d}.txt").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_word_model(tmp_path_factory.mktemp("models") / "words", texts_about(DRAWING) + texts_about(MAIL))


@pytest.fixture
def drawings(home, model, tmp_path) -> Graph:
    """A graph that watches texts about drawing."""
    graph = Graph(changed(home, embeddings={"text_model": str(model)}, experts={"experts": 6}))
    write(tmp_path / "library" / "drawing", texts_about(DRAWING)[:ITEMS])
    graph.register(tmp_path / "library")
    return graph


def events_of(graph: Graph) -> list[dict[str, object]]:
    with Events(graph.settings).open() as log:
        return [dict(record.event.data) for record in log.read("drift", 0, 0).records]


@pytest.mark.slow
def test_another_topic_is_drift_until_it_is_accepted(drawings, tmp_path) -> None:
    first = drawings.run_selection(EMBEDDINGS)
    assert first.failed == {}
    assert first.materialized["drift_reference"]["why"] == "first seen"
    assert first.materialized["embedding_drift"]["verdict"] == "none"
    assert first.materialized["embedding_drift"]["shared_items"] == ITEMS
    assert first.checks["embedding_drift", "no_drift"].passed
    assert first.checks["embedding_drift", "drift_was_tested"].passed
    reference = drawings.load("drift_reference")
    assert isinstance(reference, DriftReference)

    write(tmp_path / "library" / "mail", texts_about(MAIL))
    second = drawings.run_selection(EMBEDDINGS)
    assert second.materialized["drift_reference"]["why"] == "kept"
    assert second.data_versions["drift_reference"] == first.data_versions["drift_reference"]
    report = drawings.load("embedding_drift")
    assert isinstance(report, DriftReport)
    assert report.drifted
    assert isinstance(report.plain, Decided)
    assert report.plain.p_value <= 0.005
    assert not second.checks["embedding_drift", "no_drift"].passed
    assert "drift.detected on drift, partition 0" in str(second.materialized["embedding_drift"]["event"])
    (event,) = events_of(drawings)
    assert (event["asset"], event["partition"], event["verdict"]) == ("embedding_drift", SOURCE, report.verdict.value)
    assert event["plain"]["p_value"] == report.plain.p_value

    again = drawings.run_selection(EMBEDDINGS)
    assert "embedding_drift" in again.reused
    assert len(events_of(drawings)) == 1

    forced = drawings.run_selection(EMBEDDINGS, tags={FORCE_TAG: "true"})
    assert forced.materialized["drift_reference"]["why"] == "kept"
    assert forced.materialized["embedding_drift"]["verdict"] == report.verdict.value
    assert len(events_of(drawings)) == 1, "the same decision is the same event"

    accepted = drawings.run_selection(["drift_reference", "embedding_drift"], tags={ACCEPT_TAG: "true"})
    assert accepted.materialized["drift_reference"]["why"] == "accepted by the run's tag"
    assert accepted.materialized["embedding_drift"]["verdict"] == "none"
    assert len(events_of(drawings)) == 1


def test_too_few_items_are_told_and_never_an_alarm(graph) -> None:
    outcome = graph.run_selection(EMBEDDINGS)
    report = graph.load("embedding_drift")
    assert isinstance(report, DriftReport)
    assert isinstance(report.topology, Unavailable)
    assert report.verdict in (Verdict.UNDECIDED, Verdict.NONE)
    assert not outcome.checks["embedding_drift", "drift_was_tested"].passed
    assert outcome.materialized["drift_reference"]["items_needed_for_an_alarm"] > 60
    assert outcome.checks["embedding_drift", "no_drift"].passed
    assert "event" not in outcome.materialized["embedding_drift"]


@pytest.mark.slow
def test_the_experts_network_is_compared_with_what_it_was(drawings, tmp_path) -> None:
    write(tmp_path / "library" / "mail", texts_about(MAIL)[:200])
    graph = Graph(changed(drawings.settings, drift={"network_window": 20}))
    first = graph.run_selection(NETWORK)
    assert first.failed == {}
    assert first.materialized["network_drift"]["verdict"] in ("none", "undecided")
    report = graph.load("network_drift")
    assert isinstance(report, DriftReport)
    assert (report.kind, report.shared, report.block_size) == ("network", report.current.items, 20)
    assert graph.load("network_reference").vectors.shape[1] == 6
    again = graph.run_selection(NETWORK)
    assert again.materialized["network_reference"]["why"] == "kept"
    assert "network_drift" in again.reused


def test_a_reference_stays_when_the_texts_are_gone_for_a_while(graph, corpus_directory) -> None:
    first = graph.run_selection(EMBEDDINGS)
    elsewhere = corpus_directory.rename(corpus_directory.with_name("unmounted"))
    corpus_directory.mkdir()
    (corpus_directory / "image.png").write_bytes(b"no image")
    assert graph.run_selection(EMBEDDINGS).success
    assert set(graph.published()) == {"corpus_manifest", "drift_reference"}
    (corpus_directory / "image.png").unlink()
    corpus_directory.rmdir()
    elsewhere.rename(corpus_directory)
    again = graph.run_selection(EMBEDDINGS)
    assert again.materialized["drift_reference"]["why"] == "kept"
    assert again.data_versions["drift_reference"] == first.data_versions["drift_reference"]


def test_a_reference_that_cannot_be_read_is_not_replaced_unasked(graph) -> None:
    graph.run_selection(EMBEDDINGS)
    with graph.catalog() as catalog:
        keys = catalog.find("drift_reference", graph.source).keys
        catalog.store.write({}, list(keys))
    lost = graph.run_selection(EMBEDDINGS)
    assert "materialize it with the tag aura/accept=true" in lost.failed["drift_reference"]
    accepted = graph.run_selection(EMBEDDINGS, tags={ACCEPT_TAG: "true"})
    assert accepted.materialized["drift_reference"]["why"] == "accepted by the run's tag"
