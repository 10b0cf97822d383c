"""A consumer: reads a topic for a group and applies each event once, whatever crashes.

Idempotent consumer: the effect, the offset and the identities of the events commit in one transaction (`leases`), so
neither a repeated read nor an event that a producer published twice has a second effect. What cannot be decoded, or is
rejected, goes to the topic of dead letters and does not stop the rest.
"""

from __future__ import annotations

import base64
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aura.events.errors import EventError, FencedError, LeaseHeldError, LogUnavailableError, OffsetExpiredError
from aura.events.event import Event, Poison, Record, moment_at
from aura.events.leases import ConsumerStore, Lease
from aura.events.log import Batch, EventLog
from aura.events.topics import DEAD, DEAD_LETTER
from aura.events.wire import encode

logger = logging.getLogger(__name__)

Apply = Callable[[sqlite3.Connection, Sequence[Record]], None]
"""Applies records to the effects' database, inside the transaction that it is handed."""


class RecordRejectedError(EventError):
    """Raised by an effect: this record can never be applied; it goes to the dead letters, the others are applied."""

    def __init__(self, record: Record, reason: str) -> None:
        super().__init__(reason)
        self.record = record


@dataclass(frozen=True, slots=True)
class Step:
    """What one pass over the partitions did, in numbers of records.

    Attributes:
        applied: Applied.
        repeated: Left out since their event had been applied before.
        dead: Sent to the dead letters.
        expired: Deleted by retention before the group came to them.
        partitions: Partitions that this consumer had.
        fenced: Partitions whose lease was over, so that nothing of their batch was applied.
    """

    applied: int = 0
    repeated: int = 0
    dead: int = 0
    expired: int = 0
    partitions: int = 0
    fenced: int = 0

    def __add__(self, other: Step) -> Step:
        return Step(
            self.applied + other.applied,
            self.repeated + other.repeated,
            self.dead + other.dead,
            self.expired + other.expired,
            self.partitions + other.partitions,
            self.fenced + other.fenced,
        )

    @property
    def passed(self) -> int:
        """Records that lie behind the group now and did not before."""
        return self.applied + self.repeated + self.dead + self.expired

    @property
    def moved(self) -> bool:
        """Whether there was anything to do; what was fenced is still to be done."""
        return bool(self.passed or self.fenced)


class Consumer:
    """One member of a consumer group; it takes the partitions that no other member holds."""

    def __init__(
        self,
        log: EventLog,
        store: ConsumerStore,
        apply: Apply,
        *,
        group: str,
        topic: str,
        owner: str,
        lease_seconds: float = 30.0,
        limit: int = 1000,
        effects: Sequence[str] = (),
    ) -> None:
        """Prepare to consume.

        Args:
            log: Where the events are.
            store: Where the effects, offsets and leases are.
            apply: The effect.
            group: Name of the group.
            topic: Topic.
            owner: Name of this member, unique among those alive.
            lease_seconds: After this time without a sign of life another member takes over.
            limit: Records per transaction.
            effects: Tables that hold nothing but what the group made of the topic: they are emptied when the log was
                made anew. Without them what was made of the old log stays.
        """
        self._log = log
        self._store = store
        self._apply = apply
        self._group = group
        self._topic = log.registry.get(topic)
        self._owner = owner
        self._lease_seconds = lease_seconds
        self._limit = limit
        self._effects = tuple(effects)
        self._identity: str | None = None
        self._leases: dict[int, Lease] = {}
        self._told: dict[int, int] | None = None

    def step(self) -> Step:
        """Process up to `limit` records of each partition that is free.

        Raises:
            LogUnavailableError: The log did not answer; nothing is lost, call again. Or it was made anew since it was
                opened: open it again.
        """
        done = Step()
        for partition in range(self._topic.partitions):
            try:
                done += self._advance(self._lease(partition))
            except LeaseHeldError:
                continue
            except FencedError as error:
                logger.warning("%s", error)
                del self._leases[partition]
                done += Step(fenced=1)
        return done

    def _lease(self, partition: int) -> Lease:
        """The lease on a partition, extended once half of it is over: each extension is a durable write."""
        lease = self._leases.get(partition)
        if lease is None or self._store.seconds_left(lease) < self._lease_seconds / 2:
            self._leases.pop(partition, None)
            self._check_log()
            lease = self._leases[partition] = self._store.acquire(
                self._group, self._topic.name, partition, owner=self._owner, seconds=self._lease_seconds
            )
        return lease

    def _check_log(self) -> None:
        """Make sure that the group's offsets belong to this log, beginning anew where they belong to an earlier one."""
        group, topic = self._group, self._topic.name
        identity = self._log.identity(topic)
        if self._identity is None:
            if self._store.adopt(group, topic, identity, self._effects):
                logger.warning("%s starts over with %s: its log was made anew (it is %s now).", group, topic, identity)
            self._identity = identity
        elif self._store.log_identity(group, topic) != identity:
            raise LogUnavailableError(
                f"The log of {topic} that {group} reads was made anew since it was opened: open it again."
            )

    def catch_up(self, tell: Callable[[Step], None] = lambda _: None) -> Step:
        """Step until nothing is left to do, telling after each step what all of them have done."""
        done = step = self.step()
        while step.moved:
            tell(done)
            step = self.step()
            done += step
        return done

    def follow(self, stop: threading.Event, *, idle_seconds: float = 0.2) -> None:
        """Step until told to stop, waiting a while whenever there is nothing to do."""
        while not stop.is_set():
            if not self.step().moved:
                stop.wait(idle_seconds)

    def release(self) -> None:
        """Give back all partitions, so that the next member need not wait for the leases to run out."""
        for lease in self._leases.values():
            self._store.release(lease)
        self._leases.clear()

    def _advance(self, lease: Lease) -> Step:
        start = self._store.position(self._group, self._topic.name, lease.partition)
        try:
            batch, expired = self._read(lease, start), 0
        except OffsetExpiredError as error:
            batch, expired = self._read(lease, error.begin), error.begin - start
            # A group that never committed begins where the log begins; only what lay ahead of it was missed.
            if start:
                logger.warning("%s missed %d records of %s-%d: %s", self._group, expired, *_place(lease), error)
            else:
                expired = 0
        if batch.next_offset == start:
            self._tell(lease.partition, start)
            return Step(partitions=1)
        rejected: dict[int, str] = {}
        while True:
            self._bury(batch, rejected)
            try:
                applied, usable = self._commit(lease, batch, rejected)
            except RecordRejectedError as error:
                rejected[error.record.offset] = str(error)
                continue
            break
        self._tell(lease.partition, batch.next_offset)
        return Step(applied, usable - applied, len(batch.poison) + len(rejected), expired, 1)

    def _tell(self, partition: int, offset: int) -> None:
        """Tell the log how far the group is, also what it missed when this was killed after the effect."""
        if self._told is None:
            self._told = self._log.committed(self._group, self._topic.name)
        if self._told.get(partition, 0) != offset:
            self._log.commit(self._group, self._topic.name, {partition: offset})
            self._told[partition] = offset

    def _read(self, lease: Lease, start: int) -> Batch:
        return self._log.read(self._topic.name, lease.partition, start, limit=self._limit)

    def _commit(self, lease: Lease, batch: Batch, rejected: dict[int, str]) -> tuple[int, int]:
        with self._store.effect(lease) as effect:
            usable = [record for record in batch.records if record.offset not in rejected]
            fresh = effect.unseen(usable)
            if fresh:
                self._apply(effect.connection, fresh)
            effect.commit(batch.next_offset)
        return len(fresh), len(usable)

    def _bury(self, batch: Batch, rejected: dict[int, str]) -> None:
        """Publish the dead letters; before the offset, so that a crash repeats one rather than losing it."""
        letters = [dead_letter(poison, self._group) for poison in batch.poison]
        letters += [
            dead_letter(_as_poison(record, rejected[record.offset]), self._group)
            for record in batch.records
            if record.offset in rejected
        ]
        if letters:
            self._log.publish(self._topic.name + DEAD, letters)


def _place(lease: Lease) -> tuple[str, int]:
    return lease.topic, lease.partition


def _as_poison(record: Record, reason: str) -> Poison:
    message = encode(record.event)
    return Poison(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        message.key,
        tuple(message.headers),
        message.value,
        reason,
    )


def dead_letter(poison: Poison, group: str) -> Event:
    """The event that keeps a record that could not be processed; its id follows from the record's place."""
    return Event(
        type=DEAD_LETTER,
        data={
            "topic": poison.topic,
            "partition": poison.partition,
            "offset": poison.offset,
            "timestamp": poison.timestamp,
            "reason": poison.reason,
            "group": group,
            "key_base64": None if poison.key is None else _base64(poison.key),
            "value_base64": _base64(poison.value),
            "headers_base64": [[name, _base64(value)] for name, value in poison.headers],
        },
        source="aura/events",
        key=poison.topic,
        id=f"{group}/{poison.topic}/{poison.partition}/{poison.offset}",
        time=moment_at(poison.timestamp),
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
