"""What materializations have cost, read back from MLflow for the dashboard and the notebooks.

Belongs here: typed reading of the runs that `aura.measure.mlflow_recorder` writes. Does not: drawing them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from aura.measure.energy import EnergySource
from aura.measure.mlflow_store import DEFAULT_EXPERIMENT, connect, database_path, store_errors

if TYPE_CHECKING:
    from mlflow.entities import Run

_PAGE = 1000
_COST_METRICS = ("wall_seconds", "cpu_seconds", "peak_memory_mib", "joules_measured", "joules_modelled")


class CostHistoryError(RuntimeError):
    """The store of costs could not be read."""


@dataclass(frozen=True)
class MaterializationCost:
    """What one materialization cost.

    Attributes:
        asset: The asset's name.
        partition: Its partition, None without partitions.
        group: The asset's group.
        run_id: The orchestrator's run.
        mlflow_run_id: The MLflow run that holds it.
        started_at: When it started, in UTC.
        succeeded: False if the body raised.
        reused: True if nothing was computed because nothing had changed.
        wall_seconds: Length.
        cpu_seconds: CPU time.
        peak_memory_mib: Highest resident memory in MiB.
        energy_source: "measured", "modelled" or "unavailable".
        joules: Energy, None if unavailable.
        code_version: Version of the code, None if unknown.
        figures: Further figures by name.
        tags: What it was made with, by name.
    """

    asset: str
    partition: str | None
    group: str
    run_id: str
    mlflow_run_id: str
    started_at: datetime
    succeeded: bool
    reused: bool
    wall_seconds: float
    cpu_seconds: float
    peak_memory_mib: float
    energy_source: EnergySource
    joules: float | None
    code_version: str | None
    figures: Mapping[str, float]
    tags: Mapping[str, str]


class CostHistory:
    """Reads the costs of one experiment. A SQLite file that does not exist yet is an empty history."""

    def __init__(self, tracking_uri: str, experiment: str = DEFAULT_EXPERIMENT) -> None:
        """Check the address; nothing is opened yet.

        Args:
            tracking_uri: `sqlite:///<file>` or the http(s) address of a tracking server.
            experiment: Name of the experiment.

        Raises:
            TrackingUriError: If the address is neither a SQLite file nor a server.
        """
        self._tracking_uri = tracking_uri
        self._experiment = experiment
        self._database = database_path(tracking_uri)

    def latest(self, *, max_runs: int = 5000) -> list[MaterializationCost]:
        """The last materialization of each asset and partition.

        Args:
            max_runs: How many of the newest runs are looked at; about 0.6 ms each.

        Returns:
            One per asset and partition, the newest first.

        Raises:
            CostHistoryError: If the store cannot be read.
        """
        newest: dict[tuple[str, str | None], MaterializationCost] = {}
        for cost in self._read("", max_runs=max_runs):
            newest.setdefault((cost.asset, cost.partition), cost)
        return list(newest.values())

    def ended_since(self, moment: datetime | None = None) -> Iterator[MaterializationCost]:
        """The materializations that ended at this time or later (None: all), read page by page while they are taken.

        Args:
            moment: With its time zone.

        Yields:
            The last that started first. One that is recorded while a page is read may come twice.

        Raises:
            CostHistoryError: If the store cannot be read.
        """
        condition = "" if moment is None else f" AND attributes.end_time >= {int(moment.timestamp() * 1000)}"
        return self._read(condition)

    def series(self, asset: str, *, max_runs: int = 5000) -> list[MaterializationCost]:
        """The materializations of one asset, all partitions.

        Args:
            asset: The asset's name.
            max_runs: How many of its newest are returned.

        Returns:
            The oldest first.

        Raises:
            CostHistoryError: If the store cannot be read.
            ValueError: If the name holds a quote, which MLflow's filters cannot express.
        """
        if "'" in asset:
            raise ValueError(f"an asset's name holds no quotes, got {asset!r}")
        return list(self._read(f" AND tags.`aura.asset` = '{asset}'", max_runs=max_runs))[::-1]

    def _read(self, condition: str, *, max_runs: int | None = None) -> Iterator[MaterializationCost]:
        if self._database is not None and not self._database.exists():
            return
        try:
            for run in self._runs(condition, max_runs=max_runs):
                cost = _cost(run)
                if cost is not None:
                    yield cost
        except store_errors() as error:
            raise CostHistoryError(
                f"cannot read costs from MLflow at {self._tracking_uri}: {error}. Start the tracking server "
                "(`make up`), or set the tracking address to the store that the materializations write to"
            ) from error

    def _runs(self, condition: str, *, max_runs: int | None) -> Iterator[Run]:
        client = connect(self._tracking_uri)
        experiment = client.get_experiment_by_name(self._experiment)
        if experiment is None:
            return
        token: str | None = None
        remaining = sys.maxsize if max_runs is None else max_runs
        while remaining > 0:
            page = client.search_runs(
                [experiment.experiment_id],
                # A run that is still "RUNNING" belongs to a process that was killed between two calls.
                filter_string=f"attributes.status != 'RUNNING'{condition}",
                max_results=min(_PAGE, remaining),
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            yield from page
            remaining -= len(page)
            token = page.token
            if not token:
                return


def _cost(run: Run) -> MaterializationCost | None:
    """Read a run back; None for one that somebody else wrote into the experiment."""
    tags, metrics = run.data.tags, run.data.metrics
    if "aura.asset" not in tags or "wall_seconds" not in metrics:
        return None
    return MaterializationCost(
        asset=tags["aura.asset"],
        partition=tags.get("aura.partition"),
        group=tags["aura.group"],
        run_id=tags["dagster.run_id"],
        mlflow_run_id=run.info.run_id,
        started_at=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        succeeded=run.info.status == "FINISHED",
        reused=tags["aura.reused"] == "true",
        wall_seconds=metrics["wall_seconds"],
        cpu_seconds=metrics["cpu_seconds"],
        peak_memory_mib=metrics["peak_memory_mib"],
        energy_source=cast("EnergySource", tags["aura.energy.source"]),
        joules=metrics.get("joules_measured", metrics.get("joules_modelled")),
        code_version=tags.get("aura.code_version"),
        figures={name: value for name, value in metrics.items() if name not in _COST_METRICS},
        tags=dict(run.data.params),
    )
