"""Keeps the cost of materializations as MLflow runs.

Belongs here: how a record becomes a run. Does not: reading them back (see `aura.measure.history`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from aura.measure.mlflow_store import DEFAULT_EXPERIMENT, artifact_directory, connect, database_path, store_errors
from aura.measure.recorder import Record

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

_BYTES_PER_MIB = 1024 * 1024

NOTE = """Every materialization of an asset is a run, named by asset, partition and time.

Search for ``tags.`aura.asset` = 'tier_placement'`` to see those of one asset, and for ``params.outcome = 'made'`` to
leave out what was reused. Tick two of them and click Compare: their parameters, what they were made with, and their
metrics, what they gave and cost, stand side by side.
"""
"""The description of the experiment, in Markdown."""


class MlflowRecorder:
    """One MLflow run per materialization, in three calls: create with tags, log everything, end.

    MLflow is imported, and the SQLite file created, at the first record. A store that cannot be reached costs the
    figures, never the materialization.
    """

    def __init__(
        self, tracking_uri: str, experiment: str = DEFAULT_EXPERIMENT, artifact_root: Path | None = None
    ) -> None:
        """Check the address; nothing is opened yet.

        Args:
            tracking_uri: `sqlite:///<file>` or the http(s) address of a tracking server.
            experiment: Name of the experiment; created at the first record if there is none.
            artifact_root: Directory of the experiment's artifacts. By default `artifacts` next to the SQLite file, or
                what the server chooses.

        Raises:
            TrackingUriError: If the address is neither a SQLite file nor a server.
        """
        self._tracking_uri = tracking_uri
        self._experiment = experiment
        database = database_path(tracking_uri)
        if artifact_root is None and database is not None:
            artifact_root = artifact_directory(database)
        self._artifact_location = None if artifact_root is None else artifact_root.absolute().as_uri()
        self._lock = threading.Lock()
        self._opened: tuple[MlflowClient, str] | None = None

    def record(self, record: Record) -> str | None:
        """Keep a record as a finished (or failed) run.

        Args:
            record: The materialization.

        Returns:
            The MLflow run id; None, with a logged warning, if the store could not be reached or refused it.
        """
        try:
            client, experiment_id = self._open()
            return _write(client, experiment_id, record)
        except store_errors() as error:
            logger.warning(
                "The cost of %s is not in MLflow at %s: %s. Its materialization is not affected. Start the tracking "
                "server (`make up`), or set the tracking address to one that answers or to sqlite:///<file>.",
                record.subject,
                self._tracking_uri,
                error,
            )
            return None

    def _open(self) -> tuple[MlflowClient, str]:
        with self._lock:
            if self._opened is None:
                client = connect(self._tracking_uri)
                self._opened = (client, self._experiment_id(client))
            return self._opened

    def _experiment_id(self, client: MlflowClient) -> str:
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(self._experiment)
        if found is not None:
            return str(found.experiment_id)
        try:
            tags = {"mlflow.note.content": NOTE}
            return str(client.create_experiment(self._experiment, self._artifact_location, tags))
        except MlflowException as error:
            # Another process may have created it since.
            found = client.get_experiment_by_name(self._experiment)
            if found is None or error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return str(found.experiment_id)


def _write(client: MlflowClient, experiment_id: str, record: Record) -> str:
    from mlflow.entities import Metric, Param

    cost = record.cost
    start_ms = int(cost.started_at.timestamp() * 1000)
    end_ms = int((cost.started_at + timedelta(seconds=cost.wall_seconds)).timestamp() * 1000)
    run = client.create_run(experiment_id, start_time=start_ms, tags=dict(_tags(record)), run_name=_run_name(record))
    run_id = str(run.info.run_id)
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, end_ms, 0) for name, value in _metrics(record).items()],
        params=[Param(name, value) for name, value in record.tags.items()],
        synchronous=True,
    )
    client.set_terminated(run_id, status="FINISHED" if record.succeeded else "FAILED", end_time=end_ms)
    return run_id


def _run_name(record: Record) -> str:
    asset = record.subject if record.partition is None else f"{record.subject}[{record.partition}]"
    return f"{asset} {record.cost.started_at:%Y-%m-%d %H:%M:%S}"


def _tags(record: Record) -> Mapping[str, str]:
    optional = {"aura.partition": record.partition, "aura.code_version": record.code_version}
    return {
        "dagster.run_id": record.run_id,
        "aura.asset": record.subject,
        "aura.group": record.group,
        "aura.energy.source": record.cost.energy.source,
        "aura.energy.method": record.cost.energy.method,
        "aura.peak_memory_method": record.cost.peak_memory_method,
        "aura.reused": str(record.reused).lower(),
        **{name: value for name, value in optional.items() if value is not None},
    }


def _metrics(record: Record) -> Mapping[str, float]:
    cost = record.cost
    metrics = {
        **record.figures,
        "wall_seconds": cost.wall_seconds,
        "cpu_seconds": cost.cpu_seconds,
        "peak_memory_mib": cost.peak_memory_bytes / _BYTES_PER_MIB,
    }
    if cost.energy.joules is not None:
        metrics[f"joules_{cost.energy.source}"] = cost.energy.joules
    return metrics
