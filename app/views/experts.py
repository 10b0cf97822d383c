"""Who is sent where, what experts specialise in, and whether they pay."""

from __future__ import annotations

import streamlit as st

from app.frame import PICTURES_EVERY_SECONDS, SEE_ABOVE, Frame, clock, draw_absence, draw_pictures
from app.pick import picked_partition
from aura.experts.language.comparison import Interval, MoeVersusDense
from aura.experts.routing.requests import RequestActivations
from aura.experts.routing.table import RoutingTable
from aura.overview import markup

TITLE = "Experts"
SUBTITLE = "who is sent where, and whether it pays"
ICON = ":material/hub:"

ROUTING, COMPARISON, MODEL, REQUESTS = "expert_routing_table", "moe_versus_dense", "expert_model", "request_activations"
COLUMNS = {
    "layer": "layer",
    "experts": "experts",
    "top_k": "experts a token",
    "tokens": "tokens",
    "normalised_entropy": "normalised entropy of the load",
    "max_over_mean": "busiest over mean",
    "dead_experts": "dead experts",
    "drop_rate": "dropped",
    "label_bits": "bits shared with the label",
    "label_shuffled_max_bits": "with shuffled labels at most",
    "cluster_bits": "bits shared with the cluster",
    "cluster_shuffled_max_bits": "with shuffled clusters at most",
}
"""What is shown of a layer, by its column in the routing table."""


def draw(frame: Frame) -> None:
    """Draw the page."""
    frame.part(draw_routing, "routing", PICTURES_EVERY_SECONDS)
    st.header("Experts against a dense twin", anchor=False)
    frame.part(draw_comparison, "comparison", PICTURES_EVERY_SECONDS)
    frame.part(draw_requests, "requests", PICTURES_EVERY_SECONDS)


def draw_routing(frame: Frame) -> None:
    """The routing of one source: figures by layer, heat maps."""
    values = frame.values()
    draw_absence(values, "What is published is not known", str(frame.settings.store_directory))
    if values.value is None:
        return
    partition = picked_partition(values.value, (ROUTING,), "experts-source")
    if partition is None:
        nothing = f"Materialize `{ROUTING}`, or run `make demo`. A source without labels trains no experts."
        st.html(markup.remedy("No routing is published yet", nothing, alarm=False))
        return
    shown = frame.shown(ROUTING, partition, RoutingTable)
    if shown is None:
        return
    figures = shown.value.figures
    st.header("Routing", anchor=False)
    st.html(markup.note(f"{figures.items:,} items, {figures.tokens:,} tokens, through {figures.model}."))
    layers = shown.value.layers.select(list(COLUMNS)).rename_columns(list(COLUMNS.values()))
    st.dataframe(layers.to_pandas(), hide_index=True)
    draw_pictures(shown)
    if any(value.name == MODEL and value.partition == partition for value in values.value):
        draw_pictures(frame.shown(MODEL, partition, object))


def draw_comparison(frame: Frame) -> None:
    """Whether experts pay: the language model against its dense twin."""
    values = frame.values().value
    if values is None:
        st.html(markup.note(SEE_ABOVE))
        return
    if not any(value.name == COMPARISON for value in values):
        st.html(markup.note("Not measured here yet: run the job `language` in Dagster, which takes minutes."))
        return
    shown = frame.shown(COMPARISON, None, MoeVersusDense)
    if shown is None:
        return
    comparison = shown.value
    seeds = len(comparison.cards)
    about = f"Held-out text, {seeds} seed{'s' if seeds > 1 else ''}"
    headline = f"{comparison.equal_time.percent()} bits per byte at equal time"
    state = "" if comparison.proves_nothing is not None else mark(comparison.equal_time)
    st.html(markup.verdict(about, headline, comparison.sentence(), state))
    draw_pictures(shown)
    st.dataframe(comparison.table().to_pandas(), hide_index=True)


def mark(difference: Interval) -> str:
    """The state of a verdict about a difference to the twin, below zero better; "" where zero lies in its interval."""
    return "fresh" if difference.high < 0 else "late" if difference.low > 0 else ""


def draw_requests(frame: Frame) -> None:
    """What one request activated."""
    requests = [value for value in frame.values().value or () if value.name == REQUESTS]
    if not requests:
        return
    st.header("Requests", anchor=False)
    partition = picked_partition(requests, (REQUESTS,), "request", "Request")
    shown = frame.shown(REQUESTS, partition, RequestActivations)
    if shown is None:
        return
    request = shown.value
    st.html(markup.note(f"{request.tokens:,} tokens through {request.model}, answered at {clock(request.at)}."))
    draw_pictures(shown)
