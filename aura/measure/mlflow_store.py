"""The way to an MLflow store: a SQLite file of our own making or a tracking server.

Belongs here: addresses, creating the file safely and cheaply, bounded waiting. Does not: what is written or read (see
`aura.measure.mlflow_recorder` and `aura.measure.history`).
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

DEFAULT_EXPERIMENT = "aura"

_SQLITE_PREFIX = "sqlite:///"
_CREATION_TIMEOUT_SECONDS = 60
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only a private directory in it, made by tempfile

# Read by MLflow at import (telemetry) or at each request; a value that the user has set stays. MLflow's own defaults
# wait up to 120 s, eight times over, for a server that does not answer.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}


class TrackingUriError(ValueError):
    """An address that is neither a SQLite file nor a tracking server."""


def database_path(tracking_uri: str) -> Path | None:
    """The SQLite file behind an address.

    Args:
        tracking_uri: `sqlite:///relative/path`, `sqlite:////absolute/path`, or the http(s) address of a server.

    Returns:
        The file, which need not exist; None for a server.

    Raises:
        TrackingUriError: If it is neither.
    """
    if tracking_uri.startswith(_SQLITE_PREFIX) and len(tracking_uri) > len(_SQLITE_PREFIX):
        return Path(tracking_uri.removeprefix(_SQLITE_PREFIX)).absolute()
    address = urlsplit(tracking_uri)
    if address.scheme in {"http", "https"} and address.hostname:
        return None
    raise TrackingUriError(
        f"the MLflow tracking address is {tracking_uri!r}; expected sqlite:///<file> or http(s)://<server>. "
        "For another database start `mlflow server --backend-store-uri <database>` and give the server's address"
    )


def connect(tracking_uri: str) -> MlflowClient:
    """Open a client; creates the SQLite file if there is none.

    Sets the variables of `_ENVIRONMENT` for this process where the user has not: no telemetry, no progress bars,
    and a server that is silent costs seconds, not minutes.

    Args:
        tracking_uri: See `database_path`.

    Returns:
        A client that may be used by several threads.

    Raises:
        TrackingUriError: If the address is neither a SQLite file nor a server.
        Exception: One of `store_errors`, if the file cannot be created, is locked for a minute, is no SQLite database,
            or has the schema of another version of MLflow.
    """
    path = database_path(tracking_uri)
    if path is not None:
        create_database(path)
        # MLflow retries for 100 s on a file that it cannot open.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("PRAGMA schema_version")
        tracking_uri = f"{_SQLITE_PREFIX}{path}"
    _set_environment()
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri)


def store_errors() -> tuple[type[Exception], ...]:
    """What a store that cannot be reached, opened, read or written raises; for an except clause."""
    _set_environment()
    from mlflow.exceptions import MlflowException

    return (MlflowException, OSError, Timeout, sqlite3.Error)


def _set_environment() -> None:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def create_database(path: Path) -> None:
    """Create MLflow's tables in a new SQLite file; does nothing if the file exists.

    MLflow creates its schema through some seventy migrations, each of which waits for the disk: 5 s on a slow one. The
    file is made in memory (0.5 s) and renamed into place under a lock, so that a killed process leaves no half of it
    and of several processes one creates it. Write-ahead logging, which stays with the file, makes a record wait for the
    disk a third as long and lets a dashboard read meanwhile.

    Args:
        path: The file. Artifacts of MLflow's default experiment go to `artifacts` next to it.

    Raises:
        OSError: If it cannot be written.
        filelock.Timeout: If another process has been creating it for a minute.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock"), timeout=_CREATION_TIMEOUT_SECONDS):
        if not path.exists():
            _create_under_lock(path)


def _create_under_lock(path: Path) -> None:
    _set_environment()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    in_memory = _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK)
    with tempfile.TemporaryDirectory(
        prefix="aura-mlflow-", dir=_SHARED_MEMORY if in_memory else path.parent
    ) as scratch:
        draft = Path(scratch) / "mlflow.db"
        with _quiet("mlflow.store.db.utils"):
            store = SqlAlchemyStore(f"{_SQLITE_PREFIX}{draft}", artifact_directory(path).as_uri())  # type: ignore[no-untyped-call]
        store.engine.dispose()
        with closing(sqlite3.connect(draft)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        unpublished = path.with_name(f"{path.name}.creating")
        shutil.copyfile(draft, unpublished)
        with unpublished.open("rb+") as file:
            os.fsync(file.fileno())
        unpublished.replace(path)


def artifact_directory(database: Path) -> Path:
    """Where artifacts go by default: next to the database.

    Args:
        database: The SQLite file.

    Returns:
        The directory, which need not exist.
    """
    return database.absolute().parent / "artifacts"


@contextmanager
def _quiet(logger_name: str) -> Iterator[None]:
    """Keep MLflow's lines about its migrations off the terminal."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
