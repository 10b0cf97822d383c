"""How a SQLite file of the event log is opened, and what a transaction on it is.

Belongs here: pragmas and the making of tables, safe against other processes that do the same at the same moment.
Does not: any table.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aura.events.errors import LogUnavailableError

PAUSES_MS = 18
"""SQLite pauses 1, 2, 5 and 10 ms before it gives up after this time."""


def connect(path: Path, tables: str, *, version: int, timeout_seconds: float) -> sqlite3.Connection:
    """Open a file for durable transactions, making it and its directory if need be.

    Args:
        path: The file.
        tables: Statements that make the tables where they are missing.
        version: Version of the tables; it is kept in the file.
        timeout_seconds: How long a transaction waits for other processes.

    Raises:
        LogUnavailableError: The file cannot be opened, or a newer AURA made it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=timeout_seconds, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous=FULL")
        found = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if found > version:
            raise LogUnavailableError(
                f"{path} has the version {found}, made by a newer AURA; this one knows {version}."
            )
        if found < version:
            _make(connection, path, tables, version, timeout_seconds)
    except (sqlite3.Error, OSError) as error:
        raise LogUnavailableError(
            f"{path} cannot be opened: {error}. Check the path, its rights and the disk."
        ) from error
    return connection


def _make(connection: sqlite3.Connection, path: Path, tables: str, version: int, timeout_seconds: float) -> None:
    # Imported here: it takes 30 ms, and most processes find the file made.
    from filelock import FileLock

    # SQLite does not wait for another process that turns a new file to WAL at the same moment.
    with FileLock(f"{path}.opening", timeout=timeout_seconds):
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(f"BEGIN IMMEDIATE; {tables} PRAGMA user_version={version}; COMMIT;")


def _begin(connection: sqlite3.Connection, timeout_seconds: float) -> None:
    """Begin to write, waiting for other processes.

    SQLite itself looks more and more seldom, in the end every 100 ms, so that a process that writes again and again
    keeps another one out for long. Asked anew it begins with short pauses again, the longest being 10 ms.
    """
    deadline = time.monotonic() + timeout_seconds
    patience = int(timeout_seconds * 1000)
    connection.execute(f"PRAGMA busy_timeout={min(patience, PAUSES_MS)}")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
            else:
                return
    finally:
        connection.execute(f"PRAGMA busy_timeout={patience}")


@contextmanager
def transaction(connection: sqlite3.Connection, timeout_seconds: float) -> Iterator[None]:
    """A transaction that may write; it is durable when this returns, and nothing of it is left after an error.

    Args:
        connection: To the file.
        timeout_seconds: How long it waits for other processes that write.
    """
    try:
        # Within, since an interrupt can come between this and what follows.
        _begin(connection, timeout_seconds)
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
