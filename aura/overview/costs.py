"""What the materializations have cost, read from MLflow only when something was added, and then little more than that.

Belongs here: the series of every asset, and the runs that tell its state. Does not: drawing (`charts`, `markup`), what
a cost is (`aura.measure`).
"""

from __future__ import annotations

import gc
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from aura.measure.history import CostHistory, CostHistoryError, MaterializationCost
from aura.measure.mlflow_store import TrackingUriError, database_path

RUNS_PER_ASSET = 200
"""How many runs of each asset its series holds."""

OVERLAP = timedelta(minutes=15)
"""Runs are read again that ended so long before the last known one: some are recorded late, and clocks differ."""

REREAD_SECONDS = 86400.0
"""Everything is read again after this time: old runs may have been deleted in MLflow, or recorded very late."""

CHUNK = 1000
"""Runs that are in memory at once besides those that are kept."""

CHANGES = ("added", "changed", "removed")
"""Figures of a listing; all zero where it found what was there before."""

OUTCOMES = ("made", "reused", "skipped", "refused", "failed")
"""How a materialization ends: skipped where there was nothing to make, refused by a check."""

ERRORS: tuple[type[Exception], ...] = (CostHistoryError, TrackingUriError)
"""What reading raises when MLflow is not there."""


@dataclass(frozen=True)
class Standing:
    """The materializations that tell the state of one asset in one partition, however long ago they were.

    Attributes:
        last: The last one.
        succeeded: The last that succeeded; reusing what is there is one. None: never.
        computed: The last that succeeded and computed something.
        changed: The last that succeeded and found a change in what it lists.
    """

    last: MaterializationCost
    succeeded: MaterializationCost | None = None
    computed: MaterializationCost | None = None
    changed: MaterializationCost | None = None

    def with_run(self, run: MaterializationCost) -> Standing:
        """With one more run of this asset and partition, whenever that was."""
        good = run if succeeded(run) else None
        return Standing(
            last=_later(self.last, run),
            succeeded=_latest(self.succeeded, good),
            computed=_latest(self.computed, good if good is not None and not good.reused else None),
            changed=_latest(self.changed, good if good is not None and _found_change(good) else None),
        )


@dataclass(frozen=True)
class CostBook:
    """The materializations that are shown; `CostBook.of` puts it together.

    Attributes:
        series: By asset in order of the name, at most RUNS_PER_ASSET of all partitions together, the oldest first.
        standings: By asset and partition, all that were ever materialized.
    """

    series: Mapping[str, tuple[MaterializationCost, ...]]
    standings: Mapping[tuple[str, str | None], Standing] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Iterable[MaterializationCost]) -> CostBook:
        """Of these runs, in any order."""
        return cls({}).with_runs(runs)

    def with_runs(self, runs: Iterable[MaterializationCost]) -> CostBook:
        """With these runs too, in any order; one that is in it already is not taken twice."""
        series = {asset: {run.mlflow_run_id: run for run in kept} for asset, kept in self.series.items()}
        standings = dict(self.standings)
        for run in runs:
            series.setdefault(run.asset, {})[run.mlflow_run_id] = run
            key = (run.asset, run.partition)
            standings[key] = standings.get(key, Standing(run)).with_run(run)
        kept = {asset: tuple(sorted(series[asset].values(), key=_moment)[-RUNS_PER_ASSET:]) for asset in sorted(series)}
        return CostBook(kept, standings)

    def begins_at(self, asset: str) -> datetime | None:
        """Since when a series has every run, in UTC: the first start of one that is full; earlier runs may be missing.

        None where nothing is left out.
        """
        runs = self.series.get(asset, ())
        return runs[0].started_at if len(runs) >= RUNS_PER_ASSET else None

    @property
    def runs(self) -> Iterable[MaterializationCost]:
        """Those of the series."""
        return (run for runs in self.series.values() for run in runs)


class CostView:
    """Looks into one MLflow experiment."""

    def __init__(self, tracking_uri: str, experiment: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is opened yet.

        Args:
            tracking_uri: `sqlite:///<file>` or the http(s) address of a tracking server.
            experiment: Name of the experiment.
            clock: Seconds.
        """
        self._tracking_uri = tracking_uri
        self._experiment = experiment
        self._clock = clock
        self._read_at: tuple[int, int] | None = None
        self._book = CostBook({})
        self._all_read_at = float("-inf")
        self._loaded = False
        self._probe: tuple[int, sqlite3.Connection] | None = None

    def book(self) -> CostBook:
        """The costs now; a SQLite file that nobody wrote to since is not read again.

        Raises:
            CostHistoryError: MLflow cannot be read; the message has the remedy.
            TrackingUriError: The address is neither a SQLite file nor a server.
        """
        version = self._version()
        if version is not None and version == self._read_at:
            return self._book
        history = CostHistory(self._tracking_uri, self._experiment)
        self._book = self._with_latest(history) or self._with_all(history)
        if not self._loaded:
            # Streamlit collects garbage of all generations after each run of a part of the page. What MLflow's import
            # has made is none; looking through it took most of the page's CPU time.
            gc.freeze()
            self._loaded = True
        self._read_at = version
        return self._book

    def _with_latest(self, history: CostHistory) -> CostBook | None:
        """What is known, with what was added; None where everything is to be read.

        That is so where the last known run is not there any more: the store was made anew, or runs were deleted.
        """
        newest = max(self._book.runs, key=ended_at, default=None)
        if newest is None or self._clock() - self._all_read_at >= REREAD_SECONDS:
            return None
        added = list(history.ended_since(min(ended_at(newest), datetime.now(UTC)) - OVERLAP))
        if all(run.mlflow_run_id != newest.mlflow_run_id for run in added):
            return None
        return self._book.with_runs(added)

    def _with_all(self, history: CostHistory) -> CostBook:
        started_at, book, runs = self._clock(), CostBook({}), history.ended_since()
        while some := list(islice(runs, CHUNK)):
            book = book.with_runs(some)
        self._all_read_at = started_at
        return book

    def _version(self) -> tuple[int, int] | None:
        """Changes when another connection commits to the SQLite file; None if there is no file to ask.

        See https://www.sqlite.org/pragma.html#pragma_data_version.
        """
        path = database_path(self._tracking_uri)
        if path is None or not path.exists():
            return None
        try:
            return (path.stat().st_ino, self._data_version(path))
        except (OSError, sqlite3.Error) as error:
            raise CostHistoryError(
                f"cannot read costs from MLflow at {self._tracking_uri}: {error}. Move the file away, or set "
                "AURA_MEASURE__MLFLOW_URI to the store that the materializations write to"
            ) from error

    def _data_version(self, path: Path) -> int:
        inode = path.stat().st_ino
        if self._probe is None or self._probe[0] != inode:
            if self._probe is not None:
                self._probe[1].close()
            # Successive readings come from different threads, never two at a time.
            self._probe = (
                inode,
                sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False),
            )
        with closing(self._probe[1].execute("PRAGMA data_version")) as rows:
            return int(rows.fetchone()[0])


def ended_at(run: MaterializationCost) -> datetime:
    """When a materialization ended, in UTC."""
    return run.started_at + timedelta(seconds=run.wall_seconds)


def outcome(run: MaterializationCost) -> str:
    """In a word, one of `OUTCOMES`."""
    return run.tags.get("outcome", "made" if run.succeeded else "failed")


def succeeded(run: MaterializationCost) -> bool:
    """Whether something is there after it: a step that a check refused, or that had nothing to make, ended well too."""
    return run.succeeded and outcome(run) not in {"refused", "skipped"}


def _found_change(run: MaterializationCost) -> bool:
    return any(run.figures.get(name, 0) for name in CHANGES)


def _moment(run: MaterializationCost) -> tuple[datetime, str]:
    return (run.started_at, run.mlflow_run_id)


def _later(one: MaterializationCost, other: MaterializationCost) -> MaterializationCost:
    return max(one, other, key=_moment)


def _latest(known: MaterializationCost | None, run: MaterializationCost | None) -> MaterializationCost | None:
    return known if run is None else run if known is None else _later(known, run)
