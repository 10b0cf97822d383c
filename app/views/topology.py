"""The shape of the embeddings: diagrams, drift with its threshold, what the longest loops are about."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from app.frame import PICTURES_EVERY_SECONDS, Frame, draw_absence, draw_pictures, made_at
from app.pick import picked_partition
from aura.corpus.manifest import CorpusManifest
from aura.embeddings.table import EmbeddingTable
from aura.overview import markup
from aura.topology.cycles import RepresentativeCycles
from aura.topology.diagrams import PersistenceDiagrams
from aura.topology.drift.report import DriftReport, Verdict
from aura.topology.loops import loop_items

TITLE = "Topology"
SUBTITLE = "the shape of the embeddings, and whether it changes"
ICON = ":material/scatter_plot:"

DIAGRAMS = ("embedding_diagrams", "image_embedding_diagrams")
DRIFTS = {"embedding_drift": "The embeddings", "network_drift": "The network of the experts"}
STATES = {Verdict.NONE: "fresh", Verdict.UNDECIDED: ""}
"""How a verdict is marked; the others are alarms."""

MORE = ("diagram_vectors", "averaged_landscapes")
LOOPS = ("embedding_loops", "text_embeddings", "corpus_manifest")
"""The loops, and what says what they are about."""


def draw(frame: Frame) -> None:
    """Draw the page."""
    frame.part(draw_source, "topology", PICTURES_EVERY_SECONDS)


def draw_source(frame: Frame) -> None:
    """Everything about one source."""
    values = frame.values()
    draw_absence(values, "What is published is not known", str(frame.settings.store_directory))
    if values.value is None:
        return
    partition = picked_partition(values.value, (*DIAGRAMS, *DRIFTS), "topology-source")
    if partition is None:
        nothing = "No diagrams are published. `make demo` computes them for the built-in sources."
        st.html(markup.remedy("There is no topology to show yet", nothing, alarm=False))
        return
    published = {value.name for value in values.value if value.partition == partition}
    frame.start_shown(partition, *sorted(published & {*DRIFTS, *DIAGRAMS, *MORE, *LOOPS}))
    draw_drifts(frame, published, partition)
    for name in filter(published.__contains__, DIAGRAMS):
        draw_diagrams(frame, name, partition)
    if "embedding_loops" in published:
        draw_loops(frame, partition)
    for name in filter(published.__contains__, MORE):
        draw_pictures(frame.shown(name, partition, object))


def draw_drifts(frame: Frame, published: set[str], partition: str) -> None:
    """What has been decided about drift."""
    st.header("Drift", anchor=False)
    for name, title in DRIFTS.items():
        if name in published:
            draw_drift(frame, name, title, partition)
    if not published & DRIFTS.keys():
        st.html(markup.note("No decision about drift is published for this source."))


def draw_drift(frame: Frame, name: str, title: str, partition: str) -> None:
    """A decision in words, with both tests."""
    shown = frame.shown(name, partition, DriftReport)
    if shown is None:
        return
    report = shown.value
    st.html(markup.verdict(title, report.headline, report.sentence, STATES.get(report.verdict, "late")))
    draw_pictures(shown)


def draw_diagrams(frame: Frame, name: str, partition: str) -> None:
    """Diagram, barcode and Betti curves, with what they guarantee."""
    shown = frame.shown(name, partition, PersistenceDiagrams)
    if shown is None:
        return
    st.header("Diagrams of the texts" if name == DIAGRAMS[0] else "Diagrams of the images", anchor=False)
    provenance = shown.value.provenance
    st.html(markup.note(f"{provenance.reason} {provenance.guarantee.sentence}"))
    draw_pictures(shown)


def draw_loops(frame: Frame, partition: str) -> None:
    """The items of the longest loops in order."""
    loops = frame.shown("embedding_loops", partition, RepresentativeCycles)
    embeddings = frame.shown("text_embeddings", partition, EmbeddingTable)
    manifest = frame.shown("corpus_manifest", partition, CorpusManifest)
    if loops is None or embeddings is None or manifest is None:
        return
    st.header("What the longest loops are about", anchor=False)
    age = made_at(datetime.fromisoformat(loops.published.created_at))
    st.html(markup.note(f"The items of each loop in order; the last is a neighbour of the first. {age}"))
    items = loop_items(loops.value, embeddings.value, manifest.value)
    st.dataframe(items.to_pandas(), hide_index=True)
