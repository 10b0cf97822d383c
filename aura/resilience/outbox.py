"""An outbox: what cannot be sent now is kept on disk, in order, and sent later.

Belongs here: the bounded, durable queue and its draining. Does not: what an item means, or where it is sent.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from aura.resilience.deadline import Deadline

SCHEMA = """
CREATE TABLE IF NOT EXISTS waiting (
    position INTEGER PRIMARY KEY AUTOINCREMENT, kept_at REAL NOT NULL, item BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS identity (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS refused (
    position INTEGER PRIMARY KEY, refused_at REAL NOT NULL, item BLOB NOT NULL, reason TEXT NOT NULL
);
"""

WRITER_WAIT_SECONDS = 30.0
"""How long a write waits for another process that writes to the same outbox; each such write is one short commit."""


class OutboxError(Exception):
    """The outbox cannot be read or written; nothing of the call took place."""


class OutboxFullError(OutboxError):
    """The outbox has no room for the items; none of them was kept."""


class ItemRefusedError(Exception):
    """Raised by a sender: the receiver will never take this item, however often it is sent.

    Attributes:
        index: Place of the item in the batch, from 0. The items before it were sent.
        reason: Why, in a sentence.
    """

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        self.reason = reason


@dataclass(frozen=True)
class WaitingItem:
    """An item that waits.

    Attributes:
        position: Its number in the outbox, increasing in the order of the appends and never given twice.
        item: What is to be sent.
    """

    position: int
    item: bytes


@dataclass(frozen=True)
class RefusedItem:
    """An item that its receiver refused for good.

    Attributes:
        position: Its number in the outbox.
        item: What was to be sent.
        reason: Why it was refused.
    """

    position: int
    item: bytes
    reason: str


class Outbox:
    """A bounded queue in one SQLite file, shared by threads and processes (not across a fork).

    An item that `append` has taken survives the death of the process and of the machine (`synchronous=FULL`). It is
    sent at least once, in the order of the appends: after a crash in mid-drain the batch that was under way is sent
    again, so the receiver's effect has to be idempotent, or be kept together with the number of the last item.

    Attributes:
        path: The file.
        limit: The largest number of items kept, refused ones included.
        identity: Name of this queue, another for every new file: the numbers of its items mean something only with it.
    """

    def __init__(self, path: Path, limit: int, clock: Callable[[], float] = time.time) -> None:
        """Open the outbox, making the file and its directory if need be.

        Args:
            path: The file.
            limit: The largest number of items kept, refused ones included.
            clock: Wall clock, seconds since 1970.

        Raises:
            ValueError: `limit` is not positive.
            OutboxError: The file cannot be made, or is no outbox.
        """
        if limit < 1:
            raise ValueError(f"an outbox with a limit of {limit} keeps nothing: expected at least 1")
        self.path = path
        self.limit = limit
        self._clock = clock
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=WRITER_WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            # SQLite does not wait for another process that turns a new file to WAL at the same moment.
            with FileLock(f"{path}.opening", timeout=WRITER_WAIT_SECONDS):
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=FULL")
                self._connection.executescript(SCHEMA)
                if self._connection.execute("SELECT 1 FROM identity").fetchone() is None:
                    self._connection.execute("INSERT INTO identity VALUES (?)", (uuid.uuid4().hex,))
                (self.identity,) = self._connection.execute("SELECT name FROM identity").fetchone()
        except (sqlite3.Error, OSError) as error:
            raise OutboxError(f"The outbox {path} cannot be opened: {error}. Check the disk and the path.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        with self._lock:
            self._connection.close()

    def append(self, items: Sequence[bytes]) -> None:
        """Keep the items behind all that wait: all of them, on disk when this returns, or none.

        Raises:
            OutboxFullError: They would pass the limit.
            OutboxError: The disk refused.
        """
        if not items:
            return
        with self._transaction():
            # Positions are given in order and leave from the front alone, so the difference is the count.
            kept = self._waiting() + self._count_refused()
            if kept + len(items) > self.limit:
                raise OutboxFullError(
                    f"The outbox {self.path} holds {kept} items and takes at most {self.limit}: {len(items)} more were "
                    "refused. Bring the receiving server back, or raise the outbox_limit."
                )
            now = self._clock()
            self._connection.executemany(
                "INSERT INTO waiting (kept_at, item) VALUES (?, ?)", ((now, item) for item in items)
            )

    def drain(
        self, send: Callable[[Sequence[bytes]], None], *, batch: int = 500, deadline: Deadline | None = None
    ) -> int:
        """Send what waits, oldest first, and forget it once it is sent.

        One drainer works at a time, in whichever process; when another does already, this returns 0 at once, and the
        other takes along what was appended before this call.

        Args:
            send: Sends a batch in order. When it raises, the batch stays, and the error goes to the caller; on
                ItemRefusedError only that item is set aside (see `refused`) and draining goes on behind it.
            batch: Items in one call of `send`.
            deadline: No batch begins after it; None: until nothing waits.

        Returns:
            How many items were sent, not counting refused ones.

        Raises:
            OutboxError: The file cannot be read or written.
        """
        return self.drain_numbered(lambda items: send([each.item for each in items]), batch=batch, deadline=deadline)

    def drain_numbered(
        self, send: Callable[[Sequence[WaitingItem]], None], *, batch: int = 500, deadline: Deadline | None = None
    ) -> int:
        """The same for a receiver that keeps the number of the last item with its effect, as `drain` otherwise."""
        sent = 0
        # An item appended while the lock was still held is seen by the second look, after it is free.
        while len(self) and not (deadline and deadline.is_over):
            try:
                with FileLock(f"{self.path}.draining", timeout=0):
                    sent += self._drain(send, batch, deadline)
            except Timeout:
                break
        return sent

    def _drain(self, send: Callable[[Sequence[WaitingItem]], None], batch: int, deadline: Deadline | None) -> int:
        sent = 0
        while not (deadline and deadline.is_over):
            rows = self._rows("SELECT position, item FROM waiting ORDER BY position LIMIT ?", batch)
            if not rows:
                break
            items = [WaitingItem(*row) for row in rows]
            try:
                send(items)
            except ItemRefusedError as error:
                self._forget(items[error.index].position, refused=items[error.index], reason=error.reason)
                sent += error.index
            else:
                self._forget(items[-1].position)
                sent += len(items)
        return sent

    def _forget(self, up_to: int, *, refused: WaitingItem | None = None, reason: str = "") -> None:
        with self._transaction():
            if refused is not None:
                self._connection.execute(
                    "INSERT INTO refused VALUES (?, ?, ?, ?)", (refused.position, self._clock(), refused.item, reason)
                )
            self._connection.execute("DELETE FROM waiting WHERE position <= ?", (up_to,))

    def __len__(self) -> int:
        """Items that wait; refused ones are not among them."""
        with self._reading():
            return self._waiting()

    def oldest_age(self) -> float | None:
        """Seconds since the oldest waiting item was appended; None when nothing waits."""
        rows = self._rows("SELECT kept_at FROM waiting ORDER BY position LIMIT 1")
        return max(0.0, self._clock() - rows[0][0]) if rows else None

    def refused(self) -> list[RefusedItem]:
        """The items that the receiver refused for good, oldest first; they count towards the limit."""
        return [RefusedItem(*row) for row in self._rows("SELECT position, item, reason FROM refused ORDER BY position")]

    def forget_refused(self) -> int:
        """Drop the refused items; returns how many there were."""
        with self._transaction():
            return self._connection.execute("DELETE FROM refused").rowcount

    def _waiting(self) -> int:
        # Two look-ups at the ends of the index; with both in one SELECT, SQLite reads every row.
        (count,) = self._connection.execute(
            "SELECT ifnull((SELECT max(position) FROM waiting) - (SELECT min(position) FROM waiting) + 1, 0)"
        ).fetchone()
        return int(count)

    def _count_refused(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM refused").fetchone()[0])

    def _rows(self, query: str, *values: int) -> list[tuple]:  # type: ignore[type-arg]  # columns differ by query
        with self._reading():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise OutboxError(
                    f"The outbox {self.path} cannot be read: {error}. Check the disk, and that nobody removed the file."
                ) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise OutboxError(
                    f"The outbox {self.path} cannot be written: {error}. Nothing of this call was kept; "
                    "make room on the disk and check its permissions."
                ) from error
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
