"""The embedded event log: one SQLite file, shared by the threads and processes of a machine.

WAL with `synchronous=FULL`: an acknowledged event survives the death of the process and of the machine. A commit costs
one fsync, so whatever other threads have published meanwhile goes into the same commit (group commit); processes take
turns. Does not belong here: leases and effects of consumers (`consumer`).
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from aura.events.errors import LogUnavailableError, OffsetExpiredError
from aura.events.event import Event
from aura.events.log import Ack, Batch, RawRecord, check_partition, decode_checked, encode_checked, lag_of
from aura.events.schemas import SchemaSet, packaged_schemas
from aura.events.sqlite_file import connect, transaction
from aura.events.topics import TOPICS, Topic, TopicRegistry
from aura.events.wire import Headers, Message, milliseconds

SCHEMA_VERSION = 2
TABLES = """
CREATE TABLE IF NOT EXISTS log_partition (
    topic TEXT, partition INTEGER, begin_offset INTEGER NOT NULL, end_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS record (
    topic TEXT, partition INTEGER, offset INTEGER, time_ms INTEGER NOT NULL, key BLOB, identity TEXT,
    headers TEXT NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (topic, partition, offset)) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS record_identity ON record (topic, identity);
CREATE TABLE IF NOT EXISTS group_offset (
    name TEXT, topic TEXT, partition INTEGER, offset INTEGER NOT NULL,
    PRIMARY KEY (name, topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log_identity (name TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT INTO log_identity SELECT lower(hex(randomblob(16))) WHERE NOT EXISTS (SELECT 1 FROM log_identity);
"""
LOOKUP = 500
"""Identities per look-up; SQLite takes a limited number of parameters."""


@dataclass(slots=True, eq=False)
class _Request:
    """What one thread wants appended; `acks` (once it is durable) or `error` is the answer."""

    topic: Topic
    messages: Sequence[Message]
    acks: list[Ack] = field(default_factory=list)
    error: Exception | None = None


class SqliteEventLog:
    """The `EventLog` in a SQLite file.

    An event published twice is in the log once, as long as retention has not deleted it.
    """

    def __init__(
        self,
        path: Path,
        *,
        registry: TopicRegistry = TOPICS,
        schemas: SchemaSet | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        """Open the log, making the file and its directory if need be.

        Args:
            path: The file.
            registry: The topics.
            schemas: The events' schemas (None: those that AURA ships).
            timeout_seconds: How long a call waits for other processes.

        Raises:
            LogUnavailableError: The file cannot be opened.
        """
        self.path = path
        self._registry = registry
        self._schemas = schemas or packaged_schemas()
        self._timeout = timeout_seconds
        self._waiting: list[_Request] = []
        self._waiting_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._writer = self._connect()
        self._reader = self._connect()
        self._identity = str(self._rows("SELECT name FROM log_identity")[0][0])

    def _connect(self) -> sqlite3.Connection:
        return connect(self.path, TABLES, version=SCHEMA_VERSION, timeout_seconds=self._timeout)

    @property
    def registry(self) -> TopicRegistry:
        """The topics."""
        return self._registry

    def identity(self, topic: str) -> str:
        """Random name that the file was given when it was made; see `EventLog.identity`."""
        self._registry.get(topic)
        return self._identity

    def close(self) -> None:
        """Close the file."""
        with self._write_lock, self._read_lock:
            self._writer.close()
            self._reader.close()

    def publish(self, topic: str, events: Sequence[Event]) -> list[Ack]:
        """Append events; see `EventLog.publish`."""
        chosen = self._registry.get(topic)
        request = _Request(chosen, encode_checked(chosen, events, self._schemas))
        if not request.messages:
            return []
        with self._waiting_lock:
            self._waiting.append(request)
        with self._write_lock:
            # Whoever had the lock before may have written this request together with its own.
            if not request.acks and request.error is None:
                self._write(request)
        if request.error is not None:
            raise request.error
        return request.acks

    def _write(self, own: _Request) -> None:
        """Write a request and all that wait, and answer each.

        An interrupt (KeyboardInterrupt, or another BaseException) ends this thread's call alone: the other requests
        stay unanswered, and each is written again by its own thread; what was durable already is recognised.
        """
        requests = [own]
        try:
            with self._waiting_lock:
                waiting, self._waiting = self._waiting, []
            # It does not wait any more where the thread that had taken it was interrupted.
            requests = waiting if own in waiting else [*waiting, own]
            with self._writing() as connection:
                found = [list(_append(connection, request.topic, request.messages)) for request in requests]
            for request, acks in zip(requests, found, strict=True):
                request.acks = acks
        except Exception as error:  # noqa: BLE001  each thread that waits is told
            for request in requests:
                request.error = error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._explained(), transaction(self._writer, self._timeout):
            yield self._writer

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LogUnavailableError(
                f"The event log {self.path} failed: {error}. Nothing of this call was kept; check the disk, and "
                "whether another process holds the file for long."
            ) from error

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._read_lock, self._explained():
            return self._reader.execute(query, values).fetchall()

    def read(self, topic: str, partition: int, start: int, stop: int | None = None, *, limit: int = 1000) -> Batch:
        """Read offsets of a partition; see `EventLog.read`."""
        chosen = self._registry.get(topic)
        check_partition(chosen, partition)
        with self._read_lock, self._explained():
            # One transaction, so that retention cannot come between the two looks.
            self._reader.execute("BEGIN")
            try:
                bounds = self._reader.execute(
                    "SELECT begin_offset, end_offset FROM log_partition WHERE topic = ? AND partition = ?",
                    (topic, partition),
                ).fetchone()
                begin, end = bounds or (0, 0)
                upper = min(end if stop is None else min(stop, end), start + limit)
                rows = self._reader.execute(
                    "SELECT offset, time_ms, key, headers, value FROM record "
                    "WHERE topic = ? AND partition = ? AND offset >= ? AND offset < ? ORDER BY offset",
                    (topic, partition, start, upper),
                ).fetchall()
            finally:
                self._reader.execute("COMMIT")
        if start < begin:
            raise OffsetExpiredError(
                f"Offset {start} of {topic}-{partition} was deleted by retention; the log begins at {begin}.", begin
            )
        records, poison = decode_checked(chosen, partition, _raw(rows), self._schemas)
        return Batch(tuple(records), tuple(poison), max(start, upper))

    def begin_offsets(self, topic: str) -> dict[int, int]:
        """First offset that is kept, by partition."""
        return self._bounds(topic, "begin_offset")

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Offset of the next record, by partition."""
        return self._bounds(topic, "end_offset")

    def _bounds(self, topic: str, column: str) -> dict[int, int]:
        chosen = self._registry.get(topic)
        rows = dict(self._rows(f"SELECT partition, {column} FROM log_partition WHERE topic = ?", topic))  # noqa: S608
        return {partition: rows.get(partition, 0) for partition in range(chosen.partitions)}

    def offsets_at(self, topic: str, time: datetime) -> dict[int, int]:
        """First offset at a time or later, by partition; see `EventLog.offsets_at`."""
        ends = self.end_offsets(topic)
        return {partition: self._offset_at(topic, partition, time, end) for partition, end in ends.items()}

    def _offset_at(self, topic: str, partition: int, time: datetime, end: int) -> int:
        rows = self._rows(
            "SELECT offset FROM record WHERE topic = ? AND partition = ? AND time_ms >= ? ORDER BY offset LIMIT 1",
            topic,
            partition,
            milliseconds(time),
        )
        return int(rows[0][0]) if rows else end

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Note how far a group has come; see `EventLog.commit`."""
        chosen = self._registry.get(topic)
        for partition in offsets:
            check_partition(chosen, partition)
        with self._write_lock, self._writing() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO group_offset VALUES (?, ?, ?, ?)",
                [(group, topic, partition, offset) for partition, offset in offsets.items()],
            )

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """What `commit` was told last."""
        self._registry.get(topic)
        return dict(self._rows("SELECT partition, offset FROM group_offset WHERE name = ? AND topic = ?", group, topic))

    def lag(self, group: str, topic: str) -> dict[int, int]:
        """Records that the group has not committed, by partition."""
        return lag_of(self.begin_offsets(topic), self.end_offsets(topic), self.committed(group, topic))

    def expire(self, topic: str, now: datetime) -> dict[int, int]:
        """Delete what is older than the topic's retention; see `EventLog.expire`."""
        first = self.offsets_at(topic, now - self._registry.get(topic).retention)
        with self._write_lock, self._writing() as connection:
            for partition, offset in first.items():
                connection.execute(
                    "DELETE FROM record WHERE topic = ? AND partition = ? AND offset < ?", (topic, partition, offset)
                )
                connection.execute(
                    "UPDATE log_partition SET begin_offset = max(begin_offset, ?) WHERE topic = ? AND partition = ?",
                    (offset, topic, partition),
                )
        return self.begin_offsets(topic)


def _append(connection: sqlite3.Connection, topic: Topic, messages: Sequence[Message]) -> Iterator[Ack]:
    """Insert the messages that are not there yet; yields where each is."""
    places = _known(connection, topic, messages)
    ends: dict[int, int] = {}
    rows = []
    for message in messages:
        if message.identity in places:
            continue
        partition = topic.partition_of(message.key.decode())
        if partition not in ends:
            ends[partition] = _end(connection, topic.name, partition)
        offset = ends[partition]
        ends[partition] += 1
        places[message.identity] = partition, offset
        rows.append((topic.name, partition, offset, message.timestamp, message.key, message.identity,
                     _headers_as_text(message.headers), message.value))  # fmt: skip
    connection.executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    connection.executemany(
        "INSERT INTO log_partition VALUES (?, ?, 0, ?) ON CONFLICT DO UPDATE SET end_offset = excluded.end_offset",
        [(topic.name, partition, end) for partition, end in ends.items()],
    )
    return (Ack(topic.name, *places[message.identity]) for message in messages)


def _known(connection: sqlite3.Connection, topic: Topic, messages: Sequence[Message]) -> dict[str, tuple[int, int]]:
    known: dict[str, tuple[int, int]] = {}
    for start in range(0, len(messages), LOOKUP):
        some = [message.identity for message in messages[start : start + LOOKUP]]
        marks = ", ".join("?" * len(some))
        rows = connection.execute(
            f"SELECT identity, partition, offset FROM record WHERE topic = ? AND identity IN ({marks})",  # noqa: S608
            (topic.name, *some),
        )
        known.update({identity: (partition, offset) for identity, partition, offset in rows})
    return known


def _end(connection: sqlite3.Connection, topic: str, partition: int) -> int:
    row = connection.execute(
        "SELECT end_offset FROM log_partition WHERE topic = ? AND partition = ?", (topic, partition)
    ).fetchone()
    return int(row[0]) if row else 0


def _headers_as_text(headers: Headers) -> str:
    return json.dumps([(name, value.decode()) for name, value in headers])


def _raw(rows: Iterable[tuple[int, int, bytes | None, str, bytes]]) -> Iterator[RawRecord]:
    for offset, time_ms, key, headers, value in rows:
        yield offset, time_ms, key, [(name, text.encode()) for name, text in json.loads(headers)], value
