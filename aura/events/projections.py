"""Read models built from the log: the state of the corpus, operations per tier, open alerts.

Belongs here: the tables, how a record changes them, catching up, rebuilding, the digest. Does not: who shows them.
A model depends on nothing but the log, so that dropping it and reading from the first offset gives the same digest; as
long, that is, as retention has not deleted records that it was built from.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from aura.events.consumer import Consumer, Step
from aura.events.event import Record
from aura.events.leases import ConsumerStore
from aura.events.log import EventLog


@dataclass(frozen=True, slots=True)
class Projection:
    """A read model.

    Attributes:
        name: Its name; the consumer group is `projection.<name>`.
        topic: Where it comes from.
        tables: Its tables with their columns; the first `keys` columns are the primary key.
        keys: Number of key columns of each table.
        apply: Applies records.
    """

    name: str
    topic: str
    tables: Mapping[str, tuple[str, ...]]
    keys: Mapping[str, int]
    apply: Callable[[sqlite3.Connection, Sequence[Record]], None]

    @property
    def group(self) -> str:
        """Its consumer group."""
        return f"projection.{self.name}"

    def statements(self) -> str:
        """SQL that makes the tables."""
        return "".join(
            f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(columns)}, "
            f"PRIMARY KEY ({', '.join(columns[: self.keys[table]])})) WITHOUT ROWID;\n"
            for table, columns in self.tables.items()
        )


def _apply_corpus(connection: sqlite3.Connection, records: Sequence[Record]) -> None:
    for record in records:
        data, time = record.event.data, record.event.time.isoformat()
        states = [(data["source"], item, "present", time) for item in data["changed"]]
        states += [(data["source"], item, "removed", time) for item in data["removed"]]
        connection.executemany("INSERT OR REPLACE INTO corpus_item VALUES (?, ?, ?, ?)", states)
        connection.execute(
            "INSERT INTO corpus_source VALUES (?, 1, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET events = events + 1, "
            "changed = changed + excluded.changed, removed = removed + excluded.removed, "
            "manifest = excluded.manifest, at = excluded.at",
            (data["source"], len(data["changed"]), len(data["removed"]), data.get("manifest"), time),
        )


def _apply_tiers(connection: sqlite3.Connection, records: Sequence[Record]) -> None:
    totals: dict[str, list[int]] = {}
    for record in records:
        for row in record.event.data["counts"]:
            total = totals.setdefault(row["tier"], [0, 0, 0, 0])
            for place, name in enumerate(("gets", "puts", "promotions", "demotions")):
                total[place] += row.get(name, 0)
    connection.executemany(
        "INSERT INTO tier_operations VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET gets = gets + excluded.gets, "
        "puts = puts + excluded.puts, promotions = promotions + excluded.promotions, "
        "demotions = demotions + excluded.demotions",
        [(tier, *total) for tier, total in totals.items()],
    )


def _apply_alerts(connection: sqlite3.Connection, records: Sequence[Record]) -> None:
    for record in records:
        data, time = record.event.data, record.event.time.isoformat()
        if record.event.type == "alerts.resolved":
            connection.execute("DELETE FROM open_alert WHERE alert = ?", (data["alert"],))
        else:
            optional = [data.get(name) for name in ("run_id", "asset", "partition", "error")]
            connection.execute(
                "INSERT INTO open_alert VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET "
                "severity = excluded.severity, failed = excluded.failed, run_id = excluded.run_id, "
                "asset = excluded.asset, partition_key = excluded.partition_key, error = excluded.error, "
                "remedy = excluded.remedy, last_at = excluded.last_at, times = times + 1",
                (data["alert"], data["severity"], data["failed"], *optional, data["remedy"], time, time),
            )


PROJECTIONS: Mapping[str, Projection] = MappingProxyType(
    {
        projection.name: projection
        for projection in (
            Projection(
                "corpus_state",
                "corpus.items",
                {
                    "corpus_item": ("source", "item", "state", "at"),
                    "corpus_source": ("source", "events", "changed", "removed", "manifest", "at"),
                },
                {"corpus_item": 2, "corpus_source": 1},
                _apply_corpus,
            ),
            Projection(
                "tier_operations",
                "memory.operations",
                {"tier_operations": ("tier", "gets", "puts", "promotions", "demotions")},
                {"tier_operations": 1},
                _apply_tiers,
            ),
            Projection(
                "open_alerts",
                "alerts",
                {
                    "open_alert": (
                        "alert", "severity", "failed", "run_id", "asset", "partition_key", "error", "remedy",
                        "first_at", "last_at", "times",
                    )
                },
                {"open_alert": 1},
                _apply_alerts,
            ),
        )
    }
)  # fmt: skip


class ReadModels:
    """The read models in one SQLite file, kept up to date from a log."""

    def __init__(
        self, log: EventLog, path: Path, *, owner: str, projections: Mapping[str, Projection] = PROJECTIONS
    ) -> None:
        """Open the file.

        Args:
            log: Where the events come from.
            path: The file of the models.
            owner: Name of this process among those that keep the models up to date.
            projections: The models.
        """
        self._projections = projections
        tables = "".join(projection.statements() for projection in projections.values())
        self._store = ConsumerStore(path, tables=tables)
        self._consumers = {
            name: Consumer(
                log,
                self._store,
                each.apply,
                group=each.group,
                topic=each.topic,
                owner=owner,
                effects=tuple(each.tables),
            )
            for name, each in projections.items()
        }

    def close(self) -> None:
        """Give the leases back and close the file."""
        for consumer in self._consumers.values():
            consumer.release()
        self._store.close()

    def catch_up(self, name: str, tell: Callable[[Step], None] = lambda _: None) -> Step:
        """Apply what is new in the log; `tell` is told of all that has been done, step by step."""
        return self._consumers[name].catch_up(tell)

    def rebuild(self, name: str, tell: Callable[[Step], None] = lambda _: None) -> Step:
        """Empty a model and read the log from its beginning; `tell` as of `catch_up`."""
        projection = self._projections[name]
        self._store.forget(projection.group, projection.topic, tuple(projection.tables))
        return self.catch_up(name, tell)

    def rows(self, table: str) -> list[dict[str, object]]:
        """The rows of a table of a model, by key."""
        for projection in self._projections.values():
            if table in projection.tables:
                columns = projection.tables[table]
                order = ", ".join(columns[: projection.keys[table]])
                found = self._store.rows(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order}")  # noqa: S608
                return [dict(zip(columns, row, strict=True)) for row in found]
        known = [table for projection in self._projections.values() for table in projection.tables]
        raise KeyError(f"There is no table {table!r}; the models have: {', '.join(known)}.")

    def digest(self, name: str) -> str:
        """SHA-256 over the content of a model."""
        content = {table: self.rows(table) for table in self._projections[name].tables}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
