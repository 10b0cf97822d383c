"""The event log on each adapter, as the contract sees it; and the way to the crash harness of the benchmarks."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from aura.events.kafka_calls import KafkaAddress
from aura.events.kafka_log import KafkaEventLog
from aura.events.log import EventLog
from aura.events.sqlite_log import SqliteEventLog

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    """Settings of the person who runs the tests do not reach them."""
    for name in [name for name in os.environ if name.startswith("AURA_")]:
        monkeypatch.delenv(name)


@dataclass
class Adapter:
    """One adapter: `open` opens a log, `put` puts bytes into a partition behind its back, `place` is where it is.

    `destroy` takes a topic away, as if it had never been there; on SQLite the whole log.
    """

    open: Callable[..., EventLog]
    put: Callable[..., None]
    destroy: Callable[[str], None]
    place: str


def _put_into_sqlite(path):
    def put(topic, partition, value, headers=(), key=b"k"):
        connection = sqlite3.connect(path, isolation_level=None)
        row = connection.execute(
            "SELECT end_offset FROM log_partition WHERE topic = ? AND partition = ?", (topic, partition)
        ).fetchone()
        end = row[0] if row else 0
        text = "[" + ", ".join(f'["{name}", "{data.decode()}"]' for name, data in headers) + "]"
        connection.execute(
            "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (topic, partition, end, 0, key, f"by hand {partition} {end}", text, value),
        )
        connection.execute("INSERT OR REPLACE INTO log_partition VALUES (?, ?, 0, ?)", (topic, partition, end + 1))
        connection.close()

    return put


def _put_into_kafka(address):
    def put(topic, partition, value, headers=(), key=b"k"):
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": address, "acks": "all"})
        producer.produce(topic, value, key, partition, headers=list(headers))
        assert producer.flush(20) == 0

    return put


def _destroy_on_kafka(address):
    def destroy(topic):
        from confluent_kafka.admin import AdminClient

        client = AdminClient({"bootstrap.servers": address})
        client.delete_topics([topic], operation_timeout=20)[topic].result(20)
        while topic in client.list_topics(timeout=20).topics:
            time.sleep(0.05)

    return destroy


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.servers)])
def adapter(request, tmp_path):
    """Each adapter in turn."""
    opened = []

    def kept(log):
        opened.append(log)
        return log

    if request.param == "sqlite":
        path = tmp_path / "log.db"
        yield Adapter(
            lambda registry, **more: kept(SqliteEventLog(path, registry=registry, **more)),
            _put_into_sqlite(path),
            lambda topic: [each.unlink() for each in tmp_path.glob("log.db*")],
            str(path),
        )
    else:
        address = request.getfixturevalue("kafka").address
        yield Adapter(
            lambda registry, **more: kept(
                KafkaEventLog(KafkaAddress(address), registry=registry, timeout_seconds=30, **more)
            ),
            _put_into_kafka(address),
            _destroy_on_kafka(address),
            address,
        )
    for log in opened:
        log.close()
