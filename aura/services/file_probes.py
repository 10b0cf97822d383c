"""What is asked of the stores that are files of the home: the tiered store on RocksDB, and the SQLite databases."""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from aura.services.probe import Probe, ProbeError, not_configured
from aura.settings import Settings
from aura.tiers.budgets import TierBudgets
from aura.tiers.errors import StoreUnavailableError
from aura.tiers.store import TieredStore, join_store, open_store

_SMALL = TierBudgets(device_bytes=0, process_bytes=2**20, arena_bytes=2**20)


def owner_probe(settings: Settings) -> Probe:
    """What the store's owner says of its tiers: for those who only look on, and neither own the store nor write."""
    directory = settings.store_directory
    if not directory.is_dir():
        return not_configured("store", "nothing has been stored yet")

    def run(call_seconds: float) -> str | None:
        with join_store(directory, timeout_seconds=call_seconds) as store:
            store.tiers()
        return f"rocksdict {version('rocksdict')}"

    remedy = "Start its owner: `make up`, or `aura tiers serve` alone."
    return Probe("store", "its owner asked for its tiers", str(directory), remedy, run)


def store_probe(settings: Settings) -> Probe:
    """An object written, read and compared: through the store's owner, else by owning the store for a moment."""
    directory = settings.store_directory
    if not directory.is_dir():
        return not_configured("store", "nothing has been stored yet")

    def run(call_seconds: float) -> str | None:
        try:
            with join_store(directory, timeout_seconds=call_seconds) as store:
                _write_and_read(store)
        except StoreUnavailableError:
            # Raises again if there is an owner that does not answer.
            with open_store(directory, budgets=_SMALL, timeout_seconds=call_seconds) as store:
                _write_and_read(store)
        return f"rocksdict {version('rocksdict')}"

    remedy = "Restart its owner (`aura tiers serve`, which `make up` runs); check the disk and the directory's owner."
    return Probe("store", "one object written, read and deleted", str(directory), remedy, run)


def _write_and_read(store: TieredStore) -> None:
    key, value = f"status/{secrets.token_hex(8)}", secrets.token_bytes(1024)
    store.put(key, value)
    try:
        if store.get(key) != value:
            raise ProbeError("what was read is not what was written")
    finally:
        store.delete(key)


def event_log_probe(settings: Settings) -> Probe:
    """The embedded event log."""
    if settings.events.kafka is not None:
        return not_configured("event_log", "events.kafka is set: events go to Kafka")
    return _database_probe("event_log", settings.event_log_file, "no event has been published yet")


def graph_probe(settings: Settings) -> Probe:
    """The embedded graph."""
    if settings.graph.neo4j is not None:
        return not_configured("graph", "graph.neo4j is set: the graph is in Neo4j")
    return _database_probe("graph", settings.graph_file, "nothing has been written to the graph yet")


def mlflow_database_probe(file: Path) -> Probe:
    """MLflow's SQLite file."""
    return _database_probe("mlflow", file, "nothing has been recorded yet")


def _database_probe(service: str, file: Path, absent: str) -> Probe:
    if not file.is_file():
        return not_configured(service, absent)

    def run(call_seconds: float) -> str | None:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=call_seconds)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (table,) in tables:
                quoted = table.replace('"', '""')
                connection.execute(f'SELECT * FROM "{quoted}" LIMIT 1').fetchone()  # noqa: S608  names from the file
        return f"SQLite {sqlite3.sqlite_version}"

    remedy = f"Check {file} and its disk; restore it from a backup if it is damaged."
    return Probe(service, "a row of each table read", str(file), remedy, run)
