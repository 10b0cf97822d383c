"""What the materializations have cost, read from MLflow only when something was added.

Belongs here: the series of every asset. Does not: drawing (`charts`, `markup`), what a cost is (`aura.measure`).
"""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from aura.measure.history import CostHistory, CostHistoryError, MaterializationCost
from aura.measure.mlflow_store import TrackingUriError, database_path

RUNS_PER_ASSET = 200
"""How many runs of each asset are kept."""

ERRORS: tuple[type[Exception], ...] = (CostHistoryError, TrackingUriError)
"""What reading raises when MLflow is not there."""


@dataclass(frozen=True)
class CostBook:
    """The latest materializations of every asset.

    Attributes:
        series: By asset, at most RUNS_PER_ASSET of all partitions together, the oldest first.
    """

    series: Mapping[str, tuple[MaterializationCost, ...]]

    @property
    def runs(self) -> Iterable[MaterializationCost]:
        """All of them."""
        return (run for runs in self.series.values() for run in runs)


class CostView:
    """Looks into one MLflow experiment."""

    def __init__(self, tracking_uri: str, experiment: str) -> None:
        """Nothing is opened yet."""
        self._tracking_uri = tracking_uri
        self._experiment = experiment
        self._read_at: tuple[int, int] | None = None
        self._book = CostBook({})
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
        series = {name: tuple(history.series(name, max_runs=RUNS_PER_ASSET)) for name in history.assets()}
        self._book = CostBook({name: runs for name, runs in series.items() if runs})
        if not self._loaded:
            # Streamlit collects garbage of all generations after each run of a part of the page. What MLflow's import
            # has made is none; looking through it took most of the page's CPU time.
            gc.freeze()
            self._loaded = True
        self._read_at = version
        return self._book

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
