"""Mistakes that a log or a consumer could make: the proof that the checker finds them. Nothing else uses them."""

from __future__ import annotations

import dataclasses
import sqlite3
import uuid
from collections.abc import Sequence
from pathlib import Path

from aura.events.consumer import Consumer
from aura.events.event import Event, Record
from aura.events.leases import EffectTransaction, Lease
from aura.events.log import Ack, Batch, EventLog
from aura.events.sqlite_log import SqliteEventLog
from aura.events.topics import TopicRegistry

OFFSET_FIRST = "offset-first"
NO_DEDUPE = "no-dedupe"
NO_FSYNC = "no-fsync"
RARE_FSYNC = "rare-fsync"
BUGS = (OFFSET_FIRST, NO_DEDUPE, NO_FSYNC, RARE_FSYNC)


class ForgetfulSqliteLog(SqliteEventLog):
    """Does not recognise an event that is published again."""

    def publish(self, topic: str, events: Sequence[Event]) -> list[Ack]:
        """Give each event another identity."""
        return super().publish(topic, [dataclasses.replace(event, id=f"{event.id} {uuid.uuid4()}") for event in events])


class UnsyncedSqliteLog(SqliteEventLog):
    """Acknowledges before the disk has it."""

    SYNCHRONOUS = "OFF"

    def _connect(self) -> sqlite3.Connection:
        connection = super()._connect()
        connection.execute(f"PRAGMA synchronous={self.SYNCHRONOUS}")
        return connection


class RarelySyncedSqliteLog(UnsyncedSqliteLog):
    """Syncs at checkpoints only, which is what SQLite calls NORMAL."""

    SYNCHRONOUS = "NORMAL"


class OffsetFirstConsumer(Consumer):
    """Commits the offset before the effect."""

    def _commit(self, lease: Lease, batch: Batch, rejected: dict[int, str]) -> tuple[int, int]:  # noqa: ARG002  the signature of the right one
        with self._store.effect(lease) as effect:
            fresh = effect.unseen(batch.records)
            effect.commit(batch.next_offset)
        with self._store.effect(lease) as effect:
            self._apply(effect.connection, fresh)
        return len(fresh), len(batch.records)


class ForgetfulConsumer(Consumer):
    """Does not recognise an event that it applied before."""

    def _commit(self, lease: Lease, batch: Batch, rejected: dict[int, str]) -> tuple[int, int]:  # noqa: ARG002  the signature of the right one
        with self._store.effect(lease) as effect:
            self._apply(effect.connection, batch.records)
            EffectTransaction.commit(effect, batch.next_offset)
        return len(batch.records), len(batch.records)


def open_log(place: str, registry: TopicRegistry, bug: str = "") -> EventLog:
    """The log at a file or at host:port, right or with a bug."""
    if not place.startswith("/"):
        # Imported here: a producer of the embedded log should not pay for it at each start.
        from aura.events.kafka_calls import KafkaAddress
        from aura.events.kafka_log import KafkaEventLog

        return KafkaEventLog(KafkaAddress(place), registry=registry, timeout_seconds=20)
    kind = {NO_DEDUPE: ForgetfulSqliteLog, NO_FSYNC: UnsyncedSqliteLog, RARE_FSYNC: RarelySyncedSqliteLog}
    return kind.get(bug, SqliteEventLog)(Path(place), registry=registry, timeout_seconds=30)


def consumer_class(bug: str = "") -> type[Consumer]:
    """The consumer, right or with a bug."""
    return {OFFSET_FIRST: OffsetFirstConsumer, NO_DEDUPE: ForgetfulConsumer}.get(bug, Consumer)


def number_of(record: Record) -> int:
    """The number that the event has in the plan."""
    return int(record.event.data["changed"][0])
