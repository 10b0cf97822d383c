"""What every page of the dashboard has: its readers, its head, parts that are drawn again by themselves.

Belongs here: reading settings, sharing readers among visitors, the switches, panels for what is absent. Does not: the
content of a page (`views`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TypeVar, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from aura.embeddings.errors import EmbeddingError
from aura.events.errors import EventError
from aura.overview import markup, units
from aura.overview.costs import ERRORS as COST_ERRORS
from aura.overview.costs import CostBook, CostView
from aura.overview.dagster_api import DagsterError, materializable
from aura.overview.event_log import EventView, TailRecord, TopicFigures
from aura.overview.machine import MachineView
from aura.overview.readings import KeyedReader, Reader, Reading
from aura.overview.stored import StoredValue, StoreView, TierFigures
from aura.overview.values import Shown, ValueView
from aura.search.errors import SearchError
from aura.search.finding import Found, find_published
from aura.search.places import Within
from aura.search.query import Query
from aura.services.status import Report, check_services
from aura.settings import LOOPBACK, Settings
from aura.tiers.catalog import Catalog
from aura.tiers.errors import StoreError
from aura.tiers.published import CatalogError

Value = TypeVar("Value")

SEARCH_ERRORS = (SearchError, EmbeddingError, StoreError, CatalogError)
"""What a search raises that cannot be answered; the message has the remedy."""

PATIENCE_SECONDS = 0.6
"""How long a panel waits for its source before it is drawn without."""

OWNER_SECONDS = 5.0
"""How long the store's owner may take before it counts as absent."""

SEARCH_SECONDS = 60.0
"""How long a visitor waits for an answer; the owner of the store has its own time-out."""

ANSWER_SECONDS = 60.0
"""How long an answer to a question is shown before it is searched for again."""

QUESTIONS = 8
"""Questions whose answers stay in memory, with their previews."""

KEPT = 24
"""Topics of which the latest records stay in memory."""

SHOWN = 8
"""Values that stay in memory, beside those that somebody looks at and the budget of those that are kept for that."""

ASKING = "asking"
"""Whether a question has been put to the visitor since the page was drawn as a whole."""

WAITING = "waiting"
"""Whether something has been drawn without a source that had not answered."""

WHOLE = "whole"
"""Whether the page has been drawn as a whole: what is drawn from then on is a part of it."""

SEE_ABOVE = "Not known: see above."
"""Where an earlier part of the page has said why."""

LOOK_AGAIN_SECONDS = 1.0
"""How soon a page is drawn again whose sources have not answered yet."""

# A tracking server is asked rarely; a SQLite file whenever the page looks, which is cheap if nobody wrote to it.
TIERS_EVERY_SECONDS = 2.0
ASSETS_EVERY_SECONDS = 5.0
EVENTS_EVERY_SECONDS = 3.0
PICTURES_EVERY_SECONDS = 20.0
SERVER_COSTS_SECONDS = 60.0
SERVICES_EVERY_SECONDS = 60.0

WINDOWS = {
    "10 min": timedelta(minutes=10),
    "1 h": timedelta(hours=1),
    "1 d": timedelta(days=1),
    "1 week": timedelta(days=7),
    "everything": None,
}
"""How far back the figures over time go."""


@dataclass(frozen=True)
class Question:
    """A question to the index.

    Attributes:
        query: What is asked.
        within: In what it is looked for; None for items like the query.
        source: In which source; None for all.
        count: How many items are wanted.
    """

    query: Query
    within: Within | None
    source: str | None
    count: int

    def answer(self, catalog: Catalog, settings: Settings) -> Found:
        """What is nearest; raises one of `SEARCH_ERRORS`."""
        return find_published(catalog, settings, self.query, within=self.within, source=self.source, count=self.count)


@dataclass(frozen=True)
class Readers:
    """Where the pages read, shared by all visitors."""

    tiers: Reader[tuple[TierFigures, ...]]
    values: Reader[tuple[StoredValue, ...]]
    damaged: Reader[tuple[str, ...]]
    costs: Reader[CostBook]
    costs_every_seconds: float
    topics: Reader[tuple[TopicFigures, ...]]
    services: Reader[Report]
    materializable: Reader[Mapping[str, tuple[str, ...] | None]]
    tails: KeyedReader[tuple[str, int], list[TailRecord]]
    found: KeyedReader[Question, Found]
    shown: KeyedReader[tuple[str, str | None], Shown[object] | None]
    store: StoreView
    machine: MachineView


@dataclass(frozen=True)
class Frame:
    """What a page is drawn with.

    Attributes:
        settings: Those of this project.
        readers: Where it reads.
        live: Whether its parts are drawn again by themselves.
        window: How far back figures over time go; None for all of them.
    """

    settings: Settings
    readers: Readers
    live: bool
    window: timedelta | None

    def part(self, draw: Callable[[Frame], None], key: str, every_seconds: float | None = None) -> None:
        """Draw a part of the page that is drawn again without the rest: when the visitor acts in it, and by itself.

        Args:
            draw: Draws it.
            key: Its name on this page.
            every_seconds: How often it is drawn by itself while the page is live; None for never.
        """

        def draw_part(frame: Frame) -> None:
            draw(frame)
            # A part has no end of the page, where the page waits for its sources: the page is drawn with it.
            if st.session_state[WHOLE] and st.session_state[WAITING] and not st.session_state[ASKING]:
                st.rerun()

        st.fragment(draw_part, run_every=every_seconds if self.live else None, key=key)(self)

    def start(self, *sources: Callable[[float], Reading[object]]) -> None:
        """Have several sources read at the same time, before the first of them is waited for."""
        for ask in sources:
            ask(0.0)

    def start_shown(self, partition: str | None, *names: str) -> None:
        """The same for published values of a partition that `shown` will be asked for."""
        for name in names:
            self._shown(name, partition, 0.0)

    def costs(self, patience_seconds: float = PATIENCE_SECONDS) -> Reading[CostBook]:
        """The costs now."""
        every = self.readers.costs_every_seconds
        return self.readers.costs.latest(max_age_seconds=every / 2, patience_seconds=patience_seconds)

    def values(self, patience_seconds: float = PATIENCE_SECONDS) -> Reading[tuple[StoredValue, ...]]:
        """The published values now."""
        every = ASSETS_EVERY_SECONDS
        return self.readers.values.latest(max_age_seconds=every / 2, patience_seconds=patience_seconds)

    def damaged(self) -> tuple[str, ...]:
        """Why published values cannot be found, with the remedy, as far as that is known."""
        every = SERVICES_EVERY_SECONDS
        return self.readers.damaged.latest(max_age_seconds=every, patience_seconds=PATIENCE_SECONDS).value or ()

    def tiers(self, patience_seconds: float = PATIENCE_SECONDS) -> Reading[tuple[TierFigures, ...]]:
        """The tiers now."""
        every = TIERS_EVERY_SECONDS
        return self.readers.tiers.latest(max_age_seconds=every / 2, patience_seconds=patience_seconds)

    def topics(self, patience_seconds: float = PATIENCE_SECONDS) -> Reading[tuple[TopicFigures, ...]]:
        """The topics of the event log now."""
        every = EVENTS_EVERY_SECONDS
        return self.readers.topics.latest(max_age_seconds=every / 2, patience_seconds=patience_seconds)

    def services(self) -> Reading[Report]:
        """The state of the services, as it was found within the last minute."""
        every = SERVICES_EVERY_SECONDS
        return self.readers.services.latest(max_age_seconds=every, patience_seconds=PATIENCE_SECONDS)

    def materializable(self) -> Reading[Mapping[str, tuple[str, ...] | None]]:
        """What Dagster can be asked for: the partitions of each asset, None for one without."""
        every = PICTURES_EVERY_SECONDS
        return self.readers.materializable.latest(max_age_seconds=every / 2, patience_seconds=PATIENCE_SECONDS)

    def tail(self, topic: str, count: int) -> Reading[list[TailRecord]]:
        """The latest records of a topic, the newest first."""
        every = EVENTS_EVERY_SECONDS
        return self.readers.tails.latest((topic, count), max_age_seconds=every / 2, patience_seconds=PATIENCE_SECONDS)

    def found(self, question: Question) -> Reading[Found]:
        """The answer to a question, as it was found within the last minute; the first question loads the model."""
        return self.readers.found.latest(question, max_age_seconds=ANSWER_SECONDS, patience_seconds=SEARCH_SECONDS)

    def shown(self, name: str, partition: str | None, kind: type[Value]) -> Shown[Value] | None:
        """A published value with its pictures; None, and a panel with the reason, where it cannot be had."""
        title = name if partition is None else f"{name} of {partition}"
        reading = self._shown(name, partition, PATIENCE_SECONDS)
        draw_absence(reading, f"{title} cannot be shown", str(self.settings.store_directory))
        found = reading.value
        if found is None and not reading.error and not reading.pending:
            st.html(markup.remedy(f"{title} is not published", f"Materialize `{name}` in Dagster.", alarm=False))
        if found is not None and not isinstance(found.value, kind):
            other = f"It is a {type(found.value).__name__}, not a {kind.__name__}: materialize `{name}` again."
            st.html(markup.remedy(f"{title} cannot be shown", other))
            return None
        return cast("Shown[Value] | None", found)

    def _shown(self, name: str, partition: str | None, patience_seconds: float) -> Reading[Shown[object] | None]:
        every = ASSETS_EVERY_SECONDS
        return self.readers.shown.latest(
            (name, partition), max_age_seconds=every / 2, patience_seconds=patience_seconds
        )

    def since(self) -> datetime | None:
        """Where the window begins, in UTC; None where it has no beginning."""
        return None if self.window is None else datetime.now(UTC) - self.window

    @property
    def event_log(self) -> str:
        """Where the event log is."""
        return self.settings.events.kafka or str(self.settings.event_log_file)

    @property
    def dagster(self) -> str:
        """Address of the Dagster UI."""
        return dagster_address(self.settings)


def dagster_address(settings: Settings) -> str:
    """Where the Dagster UI is."""
    return f"http://{LOOPBACK}:{settings.services.dagster_port}"


@st.cache_resource(show_spinner=False, max_entries=4, hash_funcs={Settings: Settings.model_dump_json})
def open_readers(settings: Settings) -> Readers:
    """Make the readers; nothing is opened before somebody looks."""
    tracking_uri = settings.tracking_uri
    store = StoreView(settings.store_directory, OWNER_SECONDS)
    costs = CostView(tracking_uri, settings.measure.mlflow_experiment)
    events = EventView(settings)
    shown = ValueView(store.joined, store.published)
    return Readers(
        tails=KeyedReader(lambda of: events.tail(*of), (EventError,), KEPT),
        found=KeyedReader(
            lambda question: question.answer(Catalog(store.joined()), settings), SEARCH_ERRORS, QUESTIONS
        ),
        shown=KeyedReader(lambda of: shown.get(*of), (StoreError, CatalogError), SHOWN),
        tiers=Reader(store.tiers, (StoreError,)),
        values=Reader(store.values, (StoreError, CatalogError)),
        damaged=Reader(store.damaged, (StoreError, CatalogError)),
        costs=Reader(costs.book, COST_ERRORS),
        costs_every_seconds=ASSETS_EVERY_SECONDS if tracking_uri.startswith("sqlite:") else SERVER_COSTS_SECONDS,
        topics=Reader(events.topics, (EventError,)),
        services=Reader(lambda: check_services(settings, now=datetime.now(UTC), looking_on=True), ()),
        materializable=Reader(lambda: materializable(dagster_address(settings)), (DagsterError,)),
        store=store,
        machine=MachineView(),
    )


def draw_head(settings: Settings, subtitle: str) -> Frame:
    """Title, links and switches, the same on every page."""
    st.session_state[ASKING] = st.session_state[WAITING] = st.session_state[WHOLE] = False
    st.html(markup.title(subtitle) + markup.note(f"home {settings.home}"))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        live = st.toggle("Live", value=True, key="live", help="Off: nothing is drawn again by itself.")
        window = st.segmented_control(
            "Time window", list(WINDOWS), default="1 d", required=True, key="window", label_visibility="collapsed"
        )
        st.link_button("Dagster", dagster_address(settings), icon=":material/account_tree:")
        st.link_button("MLflow", settings.mlflow_address, icon=":material/monitoring:")
    return Frame(settings, open_readers(settings), live, WINDOWS[window or "1 d"])


def draw_absence(reading: Reading[object], title: str, address: str) -> None:
    """Say that a source is not there, and the remedy; nothing if it is. A page that waits for it is drawn again.

    Args:
        reading: What is known of the source.
        title: What is missing without it.
        address: Where it is.
    """
    waited = f"for {reading.waited_seconds:.1f} s so far. `aura status` says which services answer."
    if reading.error is not None:
        st.html(markup.remedy(title, reading.error))
    elif reading.pending:
        st.html(markup.remedy(f"{title} yet", f"Reading {address}, {waited}", alarm=False))
        look_again()
    elif reading.late:
        shown = f"Reading {address} anew, {waited} What is shown is as of {clock(reading.taken_at)}."
        st.html(markup.remedy("There is no answer", shown, alarm=False))
        look_again()


def look_again() -> None:
    """Have the page drawn again in a moment, also where it is not live: something is still being read."""
    st.session_state[WAITING] = True


def draw_again_if_waiting() -> None:
    """What ends a page: draws it again in a moment if a source has not answered yet.

    Not under a question, which that would take away.
    """
    drawn_at = time.monotonic()

    @st.fragment(run_every=LOOK_AGAIN_SECONDS)
    def wait() -> None:
        if time.monotonic() - drawn_at > LOOK_AGAIN_SECONDS / 2 and not st.session_state[ASKING]:
            st.rerun()

    if st.session_state[WAITING]:
        wait()
    st.session_state[WAITING], st.session_state[WHOLE] = False, True


def as_of(reading: Reading[object]) -> str:
    """When the figures were read, on the visitor's clock."""
    return f"As of {clock(reading.taken_at)}."


def clock(moment: datetime) -> str:
    """A moment on the visitor's clock; with its date if it is not of the last day."""
    local = moment.astimezone(visitors_zone(st.context.timezone))
    recent = datetime.now(UTC) - moment < timedelta(hours=20)
    return f"{local:%H:%M:%S %Z}" if recent else f"{local:%Y-%m-%d %H:%M %Z}"


def visitors_zone(name: str | None) -> tzinfo:
    """The time zone that a browser names; UTC where it names none, or one that is not known here."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def made_at(moment: datetime) -> str:
    """How old a value is, for the line under it."""
    return f"Computed {units.age(moment, datetime.now(UTC))}, at {clock(moment)}."


def draw_pictures(shown: Shown[object] | None) -> None:
    """The pictures of a value, side by side where there is room, and its age."""
    if shown is None:
        return
    try:
        pictures = shown.pictures()
    except CatalogError as error:
        st.html(markup.remedy(f"{shown.published.name} cannot be drawn", str(error)))
        pictures = shown.drawn
    with st.container(horizontal=True, gap="small"):
        for caption, png in pictures:
            st.image(png, caption=caption, width="content", alt=caption)
    st.html(markup.note(made_at(datetime.fromisoformat(shown.published.created_at))))
