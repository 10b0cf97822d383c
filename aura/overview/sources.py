"""What `aura top` reads: machine, tiers, events and what is known of the assets.

Belongs here: asking for all of it, saying what of it could not be read. Does not: reading (`stored`, `costs`,
`event_log`, `machine`), text (`panels`), screens (`top`, `once`).
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aura.corpus.errors import CorpusError
from aura.corpus.registry import SourceRegistry
from aura.events.errors import EventError
from aura.overview.assets import AssetRow, asset_rows
from aura.overview.costs import ERRORS as COST_ERRORS
from aura.overview.costs import CostBook, CostView
from aura.overview.event_log import EventView, TopicFigures
from aura.overview.machine import MachineView
from aura.overview.panels import absence, is_silent
from aura.overview.readings import Reader, Reading
from aura.overview.stored import StoredValue, StoreView, TierFigures
from aura.settings import Settings
from aura.tiers.errors import StoreError
from aura.tiers.owner import read_address
from aura.tiers.published import CatalogError

OWNER_SECONDS = 5.0
"""Longest wait for the owner of the store in one call."""

SLOW_SECONDS = 5.0
"""Events and assets are read no more often than this."""

DAMAGE_SECONDS = 60.0
"""Damaged pointers are looked for no more often than this: each that is found is read, which counts as a get."""

STORE_ERRORS = (StoreError, CatalogError)


@dataclass(frozen=True)
class AssetReadings:
    """What is known of the assets.

    Attributes:
        costs: What they cost.
        values: What is published.
        partitions: The registered sources.
        damaged: Why pointers of values cannot be read, with the remedy.
    """

    costs: Reading[CostBook]
    values: Reading[tuple[StoredValue, ...]]
    partitions: Reading[tuple[str, ...]]
    damaged: tuple[str, ...]

    @property
    def rows(self) -> list[AssetRow]:
        """One per asset and partition, as far as they are known."""
        return asset_rows(self.costs.value or CostBook({}), self.values.value or (), self.partitions.value or ())

    @property
    def readings(self) -> dict[str, Reading[object]]:
        """By name."""
        return {"costs": self.costs, "values": self.values, "sources": self.partitions}

    @property
    def errors(self) -> dict[str, str]:
        """What is not there, by name, each with the reason and the remedy."""
        damaged = {"pointers": "; ".join(self.damaged)} if self.damaged else {}
        return absences(self.readings) | damaged


@dataclass(frozen=True)
class Sources:
    """What is read, each when somebody asks."""

    settings: Settings
    machine: MachineView
    tiers: Reader[tuple[TierFigures, ...]]
    values: Reader[tuple[StoredValue, ...]]
    damaged: Reader[tuple[str, ...]]
    topics: Reader[tuple[TopicFigures, ...]]
    costs: Reader[CostBook]
    partitions: Reader[tuple[str, ...]]

    @classmethod
    def of(cls, settings: Settings) -> Sources:
        """The sources of a project; nothing is opened yet."""
        store = StoreView(settings.store_directory, OWNER_SECONDS)
        costs = CostView(settings.tracking_uri, settings.measure.mlflow_experiment)
        registry = SourceRegistry(settings.sources_file)
        return cls(
            settings=settings,
            machine=MachineView(),
            tiers=Reader(store.tiers, (StoreError,)),
            values=Reader(store.values, STORE_ERRORS),
            damaged=Reader(store.damaged, STORE_ERRORS),
            topics=Reader(EventView(settings).topics, (EventError,)),
            costs=Reader(costs.book, COST_ERRORS),
            partitions=Reader(lambda: tuple(spec.name for spec in registry.specs()), (CorpusError,)),
        )

    def assets(self, patience_seconds: float) -> AssetReadings:
        """What is known of the assets now.

        Args:
            patience_seconds: Longest wait for each source.
        """
        costs = self.costs.latest(max_age_seconds=SLOW_SECONDS, patience_seconds=patience_seconds)
        values = self.values.latest(max_age_seconds=SLOW_SECONDS, patience_seconds=patience_seconds)
        partitions = self.partitions.latest(max_age_seconds=SLOW_SECONDS, patience_seconds=patience_seconds)
        damaged: tuple[str, ...] = ()
        # Not before: then the pointers that can be read are known, and not read again.
        if values.value is not None:
            found = self.damaged.latest(max_age_seconds=DAMAGE_SECONDS, patience_seconds=patience_seconds)
            damaged = found.value or ()
        return AssetReadings(costs, values, partitions, damaged)

    def unread(self, errors: Iterable[str]) -> list[str]:
        """Of what is not there, by name, that which should be: it is damaged, or does not answer.

        A store that no process owns, and an event log that no event has made yet, are no failures.
        """
        excused: set[str] = set()
        if not has_owner(self.settings.store_directory):
            excused |= {"tiers", "values"}
        if not EventView(self.settings).exists():
            excused.add("events")
        return [name for name in errors if name not in excused]


def absences(readings: Mapping[str, Reading[object]]) -> dict[str, str]:
    """Why there are no figures, with the remedy, for those readings that failed or are silent."""
    missing = {name: reading for name, reading in readings.items() if reading.error or is_silent(reading)}
    return {name: reason for name, reading in missing.items() if (reason := absence(reading)) is not None}


def has_owner(directory: Path) -> bool:
    """Whether a process serves the store in a directory, also one that does not answer; one that died does not."""
    address = read_address(directory)
    if address is None:
        return False
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(OWNER_SECONDS)
        try:
            connection.connect(address.socket)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            # Somebody listens who does not take any more.
            return True
    return True
