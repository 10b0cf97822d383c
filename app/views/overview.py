"""What is fresh, what it cost, where it lives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import groupby

import streamlit as st

from app.actions import confirm
from app.charts import cost_chart, figures_of
from app.frame import (
    ASSETS_EVERY_SECONDS,
    EVENTS_EVERY_SECONDS,
    SEE_ABOVE,
    Frame,
    as_of,
    clock,
    draw_absence,
    look_again,
)
from aura.corpus.errors import CorpusError
from aura.corpus.registry import SourceRegistry
from aura.overview import asset_markup, markup
from aura.overview.assets import AssetRow, asset_rows
from aura.overview.costs import RUNS_PER_ASSET, CostBook
from aura.overview.dagster_api import materialize
from aura.overview.event_log import ALERTS, DRIFT, TailRecord
from aura.overview.readings import Reading
from aura.overview.stored import StoredValue
from aura.settings import Settings

TITLE = "Overview"
SUBTITLE = "what is fresh, what it cost, where it lives"
ICON = ":material/dashboard:"

RUNS = 15
"""Latest runs that are listed."""

ALERTS_SHOWN = 20
"""Latest alerts of each topic that are listed."""


def draw(frame: Frame) -> None:
    """Draw the page."""
    frame.start(frame.costs, frame.values, frame.topics)
    frame.part(draw_assets, "assets", ASSETS_EVERY_SECONDS)
    if not frame.settings.services.dashboard_read_only:
        draw_materialize(frame)
    st.header("Costs over time", anchor=False)
    frame.part(draw_costs, "costs", ASSETS_EVERY_SECONDS)
    st.header("Latest runs", anchor=False)
    frame.part(draw_runs, "runs", ASSETS_EVERY_SECONDS)
    st.header("Alerts", anchor=False)
    frame.part(draw_alerts, "alerts", EVENTS_EVERY_SECONDS)


def draw_assets(frame: Frame) -> None:
    """Summary and table of the assets."""
    settings = frame.settings
    costs, values = frame.costs(), frame.values()
    rows = asset_rows(costs.value or CostBook({}), values.value or (), source_names(settings) if costs.value else [])
    if rows and costs.value is not None:
        st.html(asset_markup.overview(rows, datetime.now(UTC)))
    st.header("Assets", anchor=False)
    if rows:
        st.html(markup.note(" ".join(_ages(costs, values))))
    draw_absence(costs, "Costs and freshness are not known", settings.tracking_uri)
    draw_absence(values, "What is stored is not known", str(settings.store_directory))
    if values.value is not None:
        for reason in frame.damaged():
            st.html(markup.remedy("A published value cannot be found", reason))
    if not rows and costs.value is not None:
        nothing = "`make demo` computes the built-in sources, `make demo SOURCE=dir` a directory of your own."
        st.html(markup.remedy("Nothing is materialized yet", nothing, alarm=False))
    known = asset_markup.Known(costs=costs.value is not None, store=values.value is not None)
    for partition, group in groupby(rows, key=lambda row: row.partition):
        draw_partition(frame, partition, list(group), known)


def _ages(costs: Reading[CostBook], values: Reading[tuple[StoredValue, ...]]) -> Iterator[str]:
    if costs.value is not None:
        yield f"Costs as of {clock(costs.taken_at)}."
    if values.value is not None:
        yield f"What is stored as of {clock(values.taken_at)}."


def source_names(settings: Settings) -> list[str]:
    """The registered sources, which are the partitions; where they cannot be read, a panel says so."""
    try:
        return [spec.name for spec in SourceRegistry(settings.sources_file).specs()]
    except CorpusError as error:
        st.html(markup.remedy("The sources cannot be listed", str(error)))
        return []


def draw_partition(frame: Frame, partition: str | None, rows: list[AssetRow], known: asset_markup.Known) -> None:
    """The assets of one partition; those that were never tried there are only named."""
    st.html(markup.heading(partition))
    tried = [row for row in rows if row.tried]
    if tried:
        st.html(asset_markup.asset_table(tried, datetime.now(UTC), frame.dagster, known))
    never = [row.asset for row in rows if not row.tried]
    if never:
        st.html(markup.note(f"Never materialized here: {', '.join(never)}."))


def draw_materialize(frame: Frame) -> None:
    """Ask Dagster for one asset in one partition."""
    with st.expander("Materialize an asset"):
        assets = frame.materializable()
        if assets.value is None:
            if assets.pending:
                st.html(markup.note(f"Asking {frame.dagster} which assets there are."))
                look_again()
            else:
                st.html(markup.note(assets.error or "Dagster gave no answer."))
                st.button("Ask again")
            return
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
            draw_choice(frame, assets.value)


def draw_choice(frame: Frame, assets: Mapping[str, tuple[str, ...] | None]) -> None:
    """The asset and partition that Dagster is asked for."""
    asset = st.selectbox("Asset", list(assets), key="asset-to-make")
    partitions = assets[asset]
    partition = st.selectbox("Partition", partitions, key="partition-to-make") if partitions else None
    if st.button("Materialize ..."):
        title = asset if partition is None else f"{asset} of {partition}"
        confirm(
            f"Materialize {title}? Dagster starts a run.",
            lambda: f"Run {materialize(frame.dagster, asset, partition)} is queued; see it in Dagster.",
        )


def draw_runs(frame: Frame) -> None:
    """What was materialized last, with its outcome."""
    costs = frame.costs()
    if costs.value is None:
        st.html(markup.note(SEE_ABOVE))
        return
    since = frame.since()
    runs = [run for run in costs.value.runs if since is None or run.started_at >= since]
    if not runs:
        st.html(markup.note(f"{as_of(costs)} No run within the time window."))
        return
    latest = sorted(runs, key=lambda run: run.started_at, reverse=True)[:RUNS]
    left_out = f" Only the latest {RUNS} are listed." if len(runs) > RUNS else ""
    st.html(markup.note(f"{as_of(costs)}{left_out}"))
    st.html(asset_markup.run_table(latest, datetime.now(UTC), frame.dagster))


def draw_alerts(frame: Frame) -> None:
    """What was raised on the topic of alerts, and drift that was found."""
    topics = frame.topics()
    if topics.value is None:
        draw_absence(topics, "Alerts are not known", frame.event_log)
        return
    since = frame.since()
    tails: list[Reading[list[TailRecord]]] = []
    shown: list[TailRecord] = []
    left_out = ""
    for topic in (ALERTS, DRIFT):
        # One more than is listed, which tells whether there are more.
        tail = frame.tail(topic, ALERTS_SHOWN + 1)
        draw_absence(tail, f"{topic} cannot be read", frame.event_log)
        if tail.value is None:
            return
        within = [record for record in tail.value if since is None or record.time >= since]
        if len(within) > ALERTS_SHOWN:
            left_out += f" Of {topic} only the latest {ALERTS_SHOWN} are listed."
        shown += within[:ALERTS_SHOWN]
        tails.append(tail)
    none = "" if shown else " No alert within the time window."
    st.html(markup.note(f"{as_of(min(tails, key=lambda tail: tail.taken_at))}{none}{left_out}"))
    if shown:
        latest = sorted(shown, key=lambda record: record.time, reverse=True)
        st.html(markup.alert_table(latest, datetime.now(UTC)))


def draw_costs(frame: Frame) -> None:
    """One figure of one asset over time."""
    costs = frame.costs()
    if costs.value is None:
        st.html(markup.note(SEE_ABOVE))
        return
    since = frame.since()
    within = {
        asset: [run for run in runs if since is None or run.started_at >= since]
        for asset, runs in costs.value.series.items()
    }
    series = {asset: runs for asset, runs in within.items() if runs}
    if not series:
        nothing = (
            "has been recorded yet" if not costs.value.series else "falls into the time window: choose a longer one"
        )
        st.html(markup.note(f"No materialization {nothing}."))
        return
    left, right = st.columns([3, 2], gap="small")
    dearest = max(series, key=lambda name: sum(run.cpu_seconds for run in series[name]))
    asset = left.selectbox("Asset", list(series), index=list(series).index(dearest), key="asset")
    runs = series[asset]
    figures = {figure.title: figure for figure in figures_of(runs)}
    title = right.selectbox("Figure", list(figures), key="figure")
    begin = costs.value.begins_at(asset)
    left_out = ""
    if begin is not None and (since is None or begin > since):
        left_out = f" Only the latest {RUNS_PER_ASSET} runs are read, since {clock(begin)}."
    st.html(markup.note(f"{as_of(costs)} Each point is a materialization of {asset}.{left_out}"))
    st.vega_lite_chart(cost_chart(runs, figures[title]))
