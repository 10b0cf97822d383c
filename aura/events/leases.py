"""Leases of consumer groups with fencing, and the transaction in which an effect and its offset commit together.

The leases, the offsets and the identities of the events that were applied lie in the database of the effects, whichever
adapter the events come from: so a fenced consumer cannot leave an effect behind, and no crash can part an effect from
its offset. Does not belong here: reading the log (`consumer`).

The fencing token is a generation that grows with each new owner, after Kleppmann, "Designing Data-Intensive
Applications", ch. 8.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aura.events.errors import FencedError, LeaseHeldError, LogUnavailableError
from aura.events.event import Record
from aura.events.sqlite_file import connect, transaction

TABLES_VERSION = 2
TABLES = """
CREATE TABLE IF NOT EXISTS consumer_lease (
    name TEXT, topic TEXT, partition INTEGER, owner TEXT NOT NULL, generation INTEGER NOT NULL, expires REAL NOT NULL,
    PRIMARY KEY (name, topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS consumer_offset (
    name TEXT, topic TEXT, partition INTEGER, offset INTEGER NOT NULL,
    PRIMARY KEY (name, topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS consumer_seen (
    name TEXT, topic TEXT, partition INTEGER, identity TEXT, offset INTEGER NOT NULL,
    PRIMARY KEY (name, topic, partition, identity)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS consumer_log (
    name TEXT, topic TEXT, identity TEXT NOT NULL, PRIMARY KEY (name, topic)) WITHOUT ROWID;
"""
SEEN_WINDOW = 100_000
"""A repeated event is recognised up to this many offsets behind the first; a producer repeats one within seconds."""
LOOKUP = 500


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one consumer to a partition for a while.

    Attributes:
        group: Consumer group.
        topic: Topic.
        partition: Partition.
        owner: The consumer.
        generation: Fencing token; grows with each new owner.
        expires: End of the lease, on the store's clock.
    """

    group: str
    topic: str
    partition: int
    owner: str
    generation: int
    expires: float


class EffectTransaction:
    """An open transaction on the effects' database under a lease."""

    def __init__(self, connection: sqlite3.Connection, lease: Lease) -> None:
        self.connection = connection
        self._lease = lease

    def unseen(self, records: Sequence[Record]) -> list[Record]:
        """Those records whose events were not applied yet, in order; they count as applied from here on."""
        lease = self._lease
        place = (lease.group, lease.topic, lease.partition)
        seen: dict[str, int] = {}
        for start in range(0, len(records), LOOKUP):
            some = [record.event.identity for record in records[start : start + LOOKUP]]
            marks = ", ".join("?" * len(some))
            seen.update(
                self.connection.execute(
                    "SELECT identity, offset FROM consumer_seen "  # noqa: S608  the marks are question marks
                    f"WHERE name = ? AND topic = ? AND partition = ? AND identity IN ({marks})",
                    (*place, *some),
                )
            )
        fresh = []
        for record in records:
            first = seen.get(record.event.identity)
            # The distance decides, not what happens to be kept, so that a rebuilt projection decides the same.
            if first is None or record.offset - first > SEEN_WINDOW:
                seen[record.event.identity] = record.offset
                fresh.append(record)
        self.connection.executemany(
            "INSERT OR REPLACE INTO consumer_seen VALUES (?, ?, ?, ?, ?)",
            [(*place, record.event.identity, record.offset) for record in fresh],
        )
        return fresh

    def commit(self, next_offset: int) -> None:
        """Note where the group goes on; it becomes durable together with the effect."""
        lease = self._lease
        place = (lease.group, lease.topic, lease.partition)
        before = _position(self.connection, *place)
        self.connection.execute("INSERT OR REPLACE INTO consumer_offset VALUES (?, ?, ?, ?)", (*place, next_offset))
        if before // SEEN_WINDOW != next_offset // SEEN_WINDOW:
            self.connection.execute(
                "DELETE FROM consumer_seen WHERE name = ? AND topic = ? AND partition = ? AND offset < ?",
                (*place, next_offset - SEEN_WINDOW),
            )


class ConsumerStore:
    """The database of effects with the leases and offsets of the groups that make them; safe between threads."""

    def __init__(
        self,
        path: Path,
        *,
        tables: str = "",
        clock: Callable[[], float] = time.time,
        timeout_seconds: float = 10.0,
    ) -> None:
        """Open the database, making the file and its directory if need be.

        Args:
            path: The file.
            tables: Statements `CREATE TABLE IF NOT EXISTS ...;` for the effects.
            clock: Wall clock in seconds, the same for all processes that share the file.
            timeout_seconds: How long a transaction waits for other processes.

        Raises:
            LogUnavailableError: The file cannot be opened.
        """
        self.path = path
        self._clock = clock
        self._timeout = timeout_seconds
        self._lock = threading.RLock()
        self._connection = connect(path, TABLES, version=TABLES_VERSION, timeout_seconds=timeout_seconds)
        if tables:
            with self._transaction():
                for statement in filter(str.strip, tables.split(";")):
                    self._connection.execute(statement)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            try:
                with transaction(self._connection, self._timeout):
                    yield
            except sqlite3.OperationalError as error:
                raise LogUnavailableError(
                    f"{self.path} cannot be written: {error}. Nothing of this call was kept; check the disk, and "
                    "whether another process holds the file for long."
                ) from error

    def acquire(self, group: str, topic: str, partition: int, *, owner: str, seconds: float) -> Lease:
        """Take a partition for a group, or extend the lease that the owner has.

        Raises:
            LeaseHeldError: Another owner's lease has not run out.
        """
        with self._transaction():
            now = self._clock()
            found = self._connection.execute(
                "SELECT owner, generation, expires FROM consumer_lease WHERE name = ? AND topic = ? AND partition = ?",
                (group, topic, partition),
            ).fetchone()
            holder, generation, expires = found or ("", 0, 0.0)
            if holder != owner and expires > now:
                raise LeaseHeldError(
                    f"{topic}-{partition} is held for {group} by {holder}, another {expires - now:.1f} s at most."
                )
            # A lease that ran out gets a new generation even for the same owner: what was begun under it is fenced.
            if holder != owner or expires <= now:
                generation += 1
            lease = Lease(group, topic, partition, owner, generation, now + seconds)
            self._connection.execute(
                "INSERT OR REPLACE INTO consumer_lease VALUES (?, ?, ?, ?, ?, ?)",
                (group, topic, partition, owner, generation, lease.expires),
            )
            return lease

    def seconds_left(self, lease: Lease) -> float:
        """What is left of a lease, unless it is taken over."""
        return lease.expires - self._clock()

    def release(self, lease: Lease) -> None:
        """Give a partition back before the lease ends; does nothing if it is somebody else's by now."""
        with self._transaction():
            self._connection.execute(
                "UPDATE consumer_lease SET expires = 0 "
                "WHERE name = ? AND topic = ? AND partition = ? AND generation = ? AND owner = ?",
                (lease.group, lease.topic, lease.partition, lease.generation, lease.owner),
            )

    def position(self, group: str, topic: str, partition: int) -> int:
        """Offset at which the group goes on; 0 where it never committed."""
        with self._lock:
            return _position(self._connection, group, topic, partition)

    @contextmanager
    def effect(self, lease: Lease) -> Iterator[EffectTransaction]:
        """A transaction for an effect and its offset: both become durable, or neither.

        Raises:
            FencedError: The lease ran out or was taken over, at the beginning or by the end; nothing was kept.
        """
        with self._transaction():
            self._check(lease)
            yield EffectTransaction(self._connection, lease)
            self._check(lease)

    def _check(self, lease: Lease) -> None:
        generation, expires = self._connection.execute(
            "SELECT generation, expires FROM consumer_lease WHERE name = ? AND topic = ? AND partition = ?",
            (lease.group, lease.topic, lease.partition),
        ).fetchone() or (0, 0.0)
        if generation != lease.generation or expires <= self._clock():
            raise FencedError(
                f"The lease of {lease.owner} on {lease.topic}-{lease.partition} for {lease.group} is over "
                f"(generation {lease.generation}, now {generation}): nothing was "
                "committed. Acquire it again and read on from there."
            )

    def forget(self, group: str, topic: str, effects: Sequence[str] = ()) -> None:
        """Take a group back to the beginning: its offsets, what it has seen, the tables of its effects.

        Its leases end: who held one has to acquire it again.
        """
        with self._transaction():
            self._restart(group, topic, effects)
            self._connection.execute("DELETE FROM consumer_seen WHERE name = ? AND topic = ?", (group, topic))

    def _restart(self, group: str, topic: str, effects: Sequence[str]) -> None:
        for table in effects:
            self._connection.execute(f"DELETE FROM {table}")  # noqa: S608  the caller's constant
        self._connection.execute("DELETE FROM consumer_offset WHERE name = ? AND topic = ?", (group, topic))
        self._connection.execute(
            "UPDATE consumer_lease SET expires = 0, generation = generation + 1 WHERE name = ? AND topic = ?",
            (group, topic),
        )

    def log_identity(self, group: str, topic: str) -> str | None:
        """Identity of the log that the group's offsets belong to; None where it is not known."""
        found = self.rows("SELECT identity FROM consumer_log WHERE name = ? AND topic = ?", (group, topic))
        return str(found[0][0]) if found else None

    def adopt(self, group: str, topic: str, identity: str, effects: Sequence[str] = ()) -> bool:
        """Note which log the group reads; take the group back to the beginning if it is another one than before.

        Then its leases end, and the tables of its effects are emptied. Where none are named, what was applied from the
        old log stays applied: an event that is in the new one as well has no second effect.

        Returns:
            Whether the group begins anew.
        """
        with self._transaction():
            before = self.log_identity(group, topic)
            if before == identity:
                return False
            self._connection.execute("INSERT OR REPLACE INTO consumer_log VALUES (?, ?, ?)", (group, topic, identity))
            if before is None:
                return False
            self._restart(group, topic, effects)
            # The old log's offsets say nothing about distances in the new one: all of it counts as its beginning.
            seen = "DELETE FROM consumer_seen" if effects else "UPDATE consumer_seen SET offset = 0"
            self._connection.execute(f"{seen} WHERE name = ? AND topic = ?", (group, topic))
            return True

    def rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """Read from the effects."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()


def _position(connection: sqlite3.Connection, group: str, topic: str, partition: int) -> int:
    row = connection.execute(
        "SELECT offset FROM consumer_offset WHERE name = ? AND topic = ? AND partition = ?", (group, topic, partition)
    ).fetchone()
    return int(row[0]) if row else 0
