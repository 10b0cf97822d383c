"""The dashboard: what is fresh, what it cost, where it lives. `streamlit run app/main.py`.

Belongs here: the page. Does not: putting figures together (`assets`), their look (`markup`, `charts`, `style.css`),
reading (`stored`, `costs`, `readings`). The page looks on: it owns no store and starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from zoneinfo import ZoneInfo

import streamlit as st

from app import markup
from app.charts import cost_chart, figures_of
from aura.corpus.errors import CorpusError
from aura.corpus.registry import SourceRegistry
from aura.overview.assets import AssetRow, asset_rows
from aura.overview.costs import ERRORS as COST_ERRORS
from aura.overview.costs import CostBook, CostView
from aura.overview.readings import Reader, Reading
from aura.overview.stored import RECENT_SECONDS, StoredValue, StoreView, TierFigures
from aura.settings import LOOPBACK, Settings, SettingsError, load_settings
from aura.tiers.errors import StoreError
from aura.tiers.published import CatalogError

HERE = Path(__file__).parent

# How long a panel waits for its source before it is drawn without, and an owner may take before it counts as absent.
PATIENCE_SECONDS = 0.6
OWNER_SECONDS = 5.0

# A tracking server is asked rarely; a SQLite file whenever the page looks, which is cheap if nobody wrote to it.
TIERS_EVERY_SECONDS = 2.0
ASSETS_EVERY_SECONDS = 5.0
SERVER_COSTS_SECONDS = 60.0


@dataclass(frozen=True)
class Sources:
    """Where the page reads, shared by all its visitors."""

    tiers: Reader[tuple[TierFigures, ...]]
    values: Reader[tuple[StoredValue, ...]]
    costs: Reader[CostBook]
    costs_every_seconds: float


@st.cache_resource(show_spinner=False)
def open_sources(store_directory: Path, tracking_uri: str, experiment: str) -> Sources:
    """Make the readers; nothing is opened before somebody looks."""
    store = StoreView(store_directory, OWNER_SECONDS)
    costs = CostView(tracking_uri, experiment)
    return Sources(
        tiers=Reader(store.tiers, (StoreError,)),
        values=Reader(store.values, (StoreError, CatalogError)),
        costs=Reader(costs.book, COST_ERRORS),
        costs_every_seconds=ASSETS_EVERY_SECONDS if tracking_uri.startswith("sqlite:") else SERVER_COSTS_SECONDS,
    )


def page() -> None:
    """Draw the page."""
    st.set_page_config(page_title="AURA", page_icon=str(HERE / "icon.svg"), layout="wide")
    st.html(HERE / "style.css")
    try:
        settings = load_settings()
    except SettingsError as error:
        st.html(markup.remedy("The settings cannot be read", str(error)))
        return
    live = draw_head(settings)
    sources = open_sources(settings.store_directory, settings.tracking_uri, settings.measure.mlflow_experiment)
    part(lambda: draw_assets(settings, sources), "assets", ASSETS_EVERY_SECONDS if live else None)
    st.subheader("Memory tiers", anchor=False)
    part(lambda: draw_tiers(settings, sources), "tiers", TIERS_EVERY_SECONDS if live else None)
    st.subheader("Costs over time", anchor=False)
    part(lambda: draw_costs(settings, sources), "costs", ASSETS_EVERY_SECONDS if live else None)


def part(draw: Callable[[], None], key: str, every_seconds: float | None) -> None:
    """Draw a part of the page that is drawn again by itself, without the rest."""
    st.fragment(draw, run_every=every_seconds, key=key)()


def draw_head(settings: Settings) -> bool:
    """Title, links, the switch. Gives whether the page is live."""
    st.html(
        '<h1 class="au-title"><b>AURA</b><span>what is fresh, what it cost, where it lives</span></h1>'
        + markup.note(f"home {settings.home}")
    )
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        live = st.toggle("Live", value=True, key="live", help="Off: the figures stay as they are until it is on again.")
        st.link_button("Dagster", dagster_address(settings), icon=":material/account_tree:")
        st.link_button("MLflow", settings.mlflow_address, icon=":material/monitoring:")
    return live


def draw_assets(settings: Settings, sources: Sources) -> None:
    """Summary and table of the assets."""
    costs = latest_costs(sources)
    values = sources.values.latest(max_age_seconds=ASSETS_EVERY_SECONDS / 2, patience_seconds=PATIENCE_SECONDS)
    rows = asset_rows(costs.value or CostBook({}), values.value or (), source_names(settings) if costs.value else [])
    now = datetime.now(UTC)
    if rows and costs.value is not None:
        st.html(markup.overview(rows, now))
    st.subheader("Assets", anchor=False)
    if rows:
        st.html(markup.note(as_of(values if costs.value is None else costs)))
    draw_absence(costs, "Costs and freshness are not known", settings.tracking_uri)
    tiers = latest_tiers(sources)
    if values.error != tiers.error:  # else the panel of the tiers says it
        draw_absence(values, "What is stored is not known", str(settings.store_directory))
    if not rows and costs.value is not None:
        nothing = "`make demo` computes the built-in sources, `make demo SOURCE=dir` a directory of your own."
        st.html(markup.remedy("Nothing is materialized yet", nothing, alarm=False))
    for partition, group in groupby(rows, key=lambda row: row.partition):
        draw_partition(settings, partition, list(group), costs, values)


def source_names(settings: Settings) -> list[str]:
    """The registered sources, which are the partitions; where they cannot be read, a panel says so."""
    try:
        return [spec.name for spec in SourceRegistry(settings.sources_file).specs()]
    except CorpusError as error:
        st.html(markup.remedy("The sources cannot be listed", str(error)))
        return []


def draw_partition(
    settings: Settings,
    partition: str | None,
    rows: list[AssetRow],
    costs: Reading[CostBook],
    values: Reading[tuple[StoredValue, ...]],
) -> None:
    """The assets of one partition; those that were never tried there are only named."""
    st.html(markup.heading(partition))
    tried = [row for row in rows if row.stored or row.succeeded_at or row.setback]
    if tried:
        known = markup.Known(costs=costs.value is not None, store=values.value is not None)
        st.html(markup.asset_table(tried, datetime.now(UTC), dagster_address(settings), known))
    never = [row.asset for row in rows if row not in tried]
    if never:
        st.html(markup.note(f"Never materialized here: {', '.join(never)}."))


def draw_tiers(settings: Settings, sources: Sources) -> None:
    """One card per tier that the machine has."""
    tiers = latest_tiers(sources)
    draw_absence(tiers, "The memory tiers are not known", str(settings.store_directory))
    if tiers.value is not None:
        window = f"Recent is the last {RECENT_SECONDS:.0f} s at most; L2 is also read without the owner, uncounted."
        st.html(markup.note(f"{as_of(tiers)} {window}") + markup.tier_cards(tiers.value))


def draw_costs(settings: Settings, sources: Sources) -> None:
    """One figure of one asset over time."""
    costs = latest_costs(sources)
    if costs.value is None:
        draw_absence(costs, "The history of costs is not known", settings.tracking_uri)
        return
    series = costs.value.series
    if not series:
        st.html(markup.note("No materialization has been recorded yet."))
        return
    left, right = st.columns([3, 2], gap="small")
    asset = left.selectbox("Asset", list(series), key="asset")
    runs = series[asset]
    figures = {figure.title: figure for figure in figures_of(runs)}
    title = right.selectbox("Figure", list(figures), key="figure")
    st.html(markup.note(f"{as_of(costs)} Each point is a materialization of {asset}."))
    st.vega_lite_chart(cost_chart(runs, figures[title]))


def latest_costs(sources: Sources) -> Reading[CostBook]:
    """The costs now."""
    return sources.costs.latest(max_age_seconds=sources.costs_every_seconds / 2, patience_seconds=PATIENCE_SECONDS)


def latest_tiers(sources: Sources) -> Reading[tuple[TierFigures, ...]]:
    """The tiers now."""
    return sources.tiers.latest(max_age_seconds=TIERS_EVERY_SECONDS / 2, patience_seconds=PATIENCE_SECONDS)


def draw_absence(reading: Reading[object], title: str, address: str) -> None:
    """Say that a source is not there, and the remedy; nothing if it is."""
    if reading.error is not None:
        st.html(markup.remedy(title, reading.error))
    elif reading.value is None or reading.waited_seconds > OWNER_SECONDS:
        waiting = f"Reading {address}, for {reading.waited_seconds:.0f} s so far."
        st.html(markup.remedy(f"{title} yet", waiting, alarm=False))


def as_of(reading: Reading[object]) -> str:
    """When the figures were read, on the visitor's clock."""
    zone = st.context.timezone
    return f"As of {reading.taken_at.astimezone(ZoneInfo(zone) if zone else UTC):%H:%M:%S %Z}."


def dagster_address(settings: Settings) -> str:
    """Where the Dagster UI is."""
    return f"http://{LOOPBACK}:{settings.services.dagster_port}"


if __name__ == "__main__":
    page()
