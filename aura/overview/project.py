"""The state of a project, read once: what the report tells.

Belongs here: asking every source in turn, drawing the values while their store is open, saying what could not be read.
Does not: how it looks (`report`), reading one source (`costs`, `event_log`, `stored`, `values`).

One source that is damaged or silent costs its section, never the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar

from aura.corpus.errors import CorpusError
from aura.corpus.registry import SourceRegistry
from aura.events.errors import EventError
from aura.loading import open_catalog
from aura.overview.costs import ERRORS as COST_ERRORS
from aura.overview.costs import CostBook, CostView
from aura.overview.event_log import ALERTS, DRIFT, EventView, TailRecord, TopicFigures
from aura.overview.pictures import PICTURES
from aura.overview.readings import Reader
from aura.overview.stored import StoredValue, TierFigures, stored_values
from aura.overview.values import ValueView
from aura.services.status import Report, check_services
from aura.settings import Settings
from aura.tiers.catalog import Catalog
from aura.tiers.errors import StoreError
from aura.tiers.local import LocalStore
from aura.tiers.published import CatalogError, Published, ValueNotPublishedError
from aura.tiers.store import TieredStore

EVENTS_SECONDS = 30.0
"""Longest wait for the event log, all its topics together."""

ALERTS_READ = 40
"""Latest alerts of each topic that are read."""

STORE_ERRORS = (StoreError, CatalogError)
"""What is raised by a store, or a value in it, that cannot be read."""

Value = TypeVar("Value")

Say = Callable[[str, float | None], None]
"""Is told what is under way, and which part of it is done; None where nobody knows."""


class Section(StrEnum):
    """What is told, in this order."""

    ASSETS = "Assets"
    ALERTS = "Alerts"
    TIERS = "Memory tiers"
    EVENTS = "Events"
    COSTS = "Costs"
    VALUES = "Values"
    SERVICES = "Services"


@dataclass(frozen=True)
class Absence:
    """What could not be told.

    Attributes:
        section: Where it would stand.
        title: What is missing.
        reason: Why, with the remedy.
        alarm: Whether something is wrong; not where there only is nothing yet.
    """

    section: Section
    title: str
    reason: str
    alarm: bool = True


@dataclass(frozen=True)
class DrawnValue:
    """A published value in pictures.

    Attributes:
        published: What it was published as.
        pictures: Title and PNG bytes of each that could be drawn.
        unreadable: Why it could not be read, or not all of it drawn, with the remedy; None if it could.
    """

    published: Published
    pictures: Sequence[tuple[str, bytes]]
    unreadable: str | None


@dataclass(frozen=True)
class Kept:
    """What the store holds.

    Attributes:
        owned: Whether another process owns the store, which alone keeps anything in the tiers above the disk.
        tiers: The tiers, from fast to slow.
        stored: The published values with the tiers of their blocks.
        values: The values that have pictures, by partition and along the graph.
    """

    owned: bool
    tiers: Sequence[TierFigures]
    stored: Sequence[StoredValue]
    values: Sequence[DrawnValue]


@dataclass(frozen=True)
class State:
    """A project at one moment.

    Attributes:
        home: Where everything is kept.
        taken_at: When reading began, in UTC.
        book: The costs; None where they cannot be read.
        partitions: The registered sources.
        kept: What the store holds; None where it cannot be opened.
        topics: The topics of the event log; None where it cannot be read.
        alerts: The latest records of the topics of alerts and of drift, the newest first; None likewise.
        services: What was asked of the services.
        absences: What could not be read.
    """

    home: str
    taken_at: datetime
    book: CostBook | None
    partitions: Sequence[str]
    kept: Kept | None
    topics: Sequence[TopicFigures] | None
    alerts: Sequence[TailRecord] | None
    services: Report
    absences: Sequence[Absence]

    def unread(self) -> list[Section]:
        """The sections in which something is damaged or did not answer."""
        found = {each.section for each in self.absences if each.alarm}
        if self.kept is not None and any(each.unreadable is not None for each in self.kept.values):
            found.add(Section.VALUES)
        return [section for section in Section if section in found]


def read_state(settings: Settings, say: Say = lambda _said, _part: None) -> State:
    """Read everything; what cannot be read is in `State.absences`.

    Args:
        settings: Of the project.
        say: Told what is under way, and which part of it is done where that is known.
    """
    return _Reading(settings, say).state()


class _Reading:
    """One pass over the sources."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self._settings = settings
        self._say = say
        self._absences: list[Absence] = []

    def state(self) -> State:
        settings, now = self._settings, datetime.now(UTC)
        self._say("Asking the services ...", None)
        # First: later this process may own the store, and is not the owner that the services ask for.
        services = check_services(settings, now=now, looking_on=True)
        self._say("Reading costs and events ...", None)
        costs = CostView(settings.tracking_uri, settings.measure.mlflow_experiment)
        book = self._try(Section.COSTS, "Costs and freshness are not known", COST_ERRORS, costs.book)
        registry = SourceRegistry(settings.sources_file)
        specs = self._try(Section.ASSETS, "The sources cannot be listed", (CorpusError,), registry.specs)
        topics, alerts = self._events() or (None, None)
        with ExitStack() as opened:
            kept = self._kept(self._catalog(opened))
        return State(
            home=str(settings.home),
            taken_at=now,
            book=book,
            partitions=[spec.name for spec in specs or ()],
            kept=kept,
            topics=topics,
            alerts=alerts,
            services=services,
            absences=self._absences,
        )

    def _try(
        self, section: Section, title: str, errors: tuple[type[Exception], ...], read: Callable[[], Value]
    ) -> Value | None:
        try:
            return read()
        except errors as error:
            self._miss(section, title, str(error))
            return None

    def _miss(self, section: Section, title: str, reason: str, *, alarm: bool = True) -> None:
        self._absences.append(Absence(section, title, reason, alarm))

    def _events(self) -> tuple[Sequence[TopicFigures], Sequence[TailRecord]] | None:
        view = EventView(self._settings)

        def read() -> tuple[Sequence[TopicFigures], Sequence[TailRecord]]:
            alerts = [record for topic in (ALERTS, DRIFT) for record in view.tail(topic, ALERTS_READ)]
            return view.topics(), sorted(alerts, key=lambda each: each.time, reverse=True)

        reading = Reader(read, (EventError,)).latest(max_age_seconds=0, patience_seconds=EVENTS_SECONDS)
        if reading.waited_seconds == 0:
            view.close()
        if reading.value is None:
            silent = f"The event log has not answered within {EVENTS_SECONDS:.0f} s: see Services, and try again."
            reason = reading.error or silent
            self._miss(Section.ALERTS, "Alerts are not known", reason, alarm=view.exists())
            self._miss(Section.EVENTS, "The event log is not known", reason, alarm=view.exists())
        return reading.value

    def _catalog(self, opened: ExitStack) -> Catalog | None:
        try:
            return opened.enter_context(open_catalog(self._settings))
        except ValueNotPublishedError as error:
            self._miss(Section.TIERS, "There is no store yet", str(error), alarm=False)
        except STORE_ERRORS as error:
            self._miss(Section.TIERS, "The store cannot be opened", str(error))
        return None

    def _kept(self, catalog: Catalog | None) -> Kept | None:
        if catalog is None:
            return None
        store = catalog.store
        # Before anything is read here, which counts.
        tiers = self._try(Section.TIERS, "The tiers are not known", STORE_ERRORS, lambda: _tiers(store))
        published = self._try(
            Section.VALUES, "What is published is not known", STORE_ERRORS, lambda: self._published(catalog)
        )
        stored = self._try(
            Section.ASSETS, "What is stored is not known", STORE_ERRORS, lambda: stored_values(store, published or [])
        )
        values = list(self._drawn(catalog, published or []))
        return Kept(not isinstance(store, LocalStore), tiers or [], stored or [], values)

    def _published(self, catalog: Catalog) -> Sequence[Published]:
        """What is published, without what has a damaged pointer."""
        published = catalog.published()
        for place, reason in catalog.damaged(published).items():
            self._miss(Section.VALUES, f"{title_of(*place)} cannot be read", reason)
        return published

    def _drawn(self, catalog: Catalog, published: Iterable[Published]) -> Iterator[DrawnValue]:
        values = ValueView(lambda: catalog.store, lambda: published)
        order = list(PICTURES)
        drawable = [each for each in published if each.name in PICTURES]
        drawable.sort(key=lambda each: (each.partition is None, each.partition or "", order.index(each.name)))
        for number, each in enumerate(drawable):
            self._say(f"Drawing {title_of(each.name, each.partition)} ...", number / len(drawable))
            shown, unreadable = None, None
            try:
                shown = values.get(each.name, each.partition)
                if shown is not None:
                    shown.pictures()
            except STORE_ERRORS as error:
                unreadable = str(error)
            yield DrawnValue(each, [] if shown is None else shown.drawn, unreadable)


def title_of(name: str, partition: str | None) -> str:
    """A value as a title names it."""
    return name if partition is None else f"{name} of {partition}"


def _tiers(store: TieredStore) -> list[TierFigures]:
    """The tiers at one moment, with no window before it."""
    return [TierFigures(state, recent_gets=0, recent_get_seconds=None, recent_seconds=0.0) for state in store.tiers()]
