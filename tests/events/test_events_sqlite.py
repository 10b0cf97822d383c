"""What is particular to the embedded log: group commit, durability, and what is said when the file cannot be used."""

from __future__ import annotations

import ctypes
import sqlite3
import threading

import pytest
from events_samples import corpus_event, number_of, own_topic, read_all

from aura.events.consumer import Consumer
from aura.events.errors import LogUnavailableError
from aura.events.leases import SEEN_WINDOW, ConsumerStore
from aura.events.sqlite_log import SqliteEventLog


@pytest.fixture
def opened(tmp_path):
    topic, registry = own_topic()
    log = SqliteEventLog(tmp_path / "log.db", registry=registry, timeout_seconds=30)
    yield log, topic.name
    log.close()


def test_what_threads_publish_while_one_commits_goes_into_one_commit(opened, tmp_path):
    log, topic = opened
    statements = []
    log._writer.set_trace_callback(statements.append)
    other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    threads = [threading.Thread(target=log.publish, args=(topic, [corpus_event("a", n)])) for n in range(12)]
    for thread in threads:
        thread.start()
    while len(log._waiting) < 11:
        threading.Event().wait(0.01)
    other.execute("COMMIT")
    for thread in threads:
        thread.join()
    assert statements.count("COMMIT") == 2
    assert len(read_all(log, topic)[0]) == 12
    other.close()


def test_a_process_that_waits_for_the_file_keeps_asking_for_it(opened, tmp_path):
    log, topic = opened
    statements = []
    log._writer.set_trace_callback(statements.append)
    other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    thread = threading.Thread(target=log.publish, args=(topic, [corpus_event("a", 1)]))
    thread.start()
    while statements.count("BEGIN IMMEDIATE") < 5 and thread.is_alive():
        threading.Event().wait(0.01)
    assert thread.is_alive()
    other.execute("COMMIT")
    thread.join()
    other.close()
    assert len(read_all(log, topic)[0]) == 1


class Interrupt(BaseException):
    """What ends a thread from outside, as KeyboardInterrupt does."""


def test_an_interrupt_in_the_thread_that_commits_for_others_gives_no_acknowledgement_of_what_is_not_there(
    opened, tmp_path
):
    log, topic = opened
    outcomes, writers = {}, []

    def publish(number):
        try:
            outcomes[number] = log.publish(topic, [corpus_event("a", number)])
        except BaseException as error:  # noqa: BLE001  how the thread ended is what is looked at
            outcomes[number] = error

    other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    log._writer.set_trace_callback(lambda _: writers.append(threading.get_ident()))
    threads = [threading.Thread(target=publish, args=[number]) for number in range(6)]
    with log._write_lock:
        for thread in threads:
            thread.start()
        while len(log._waiting) < 6:
            threading.Event().wait(0.01)
    while not writers:
        threading.Event().wait(0.01)
    # One thread writes for all and waits for the file; the interrupt reaches it as soon as it has the file.
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(writers[0]), ctypes.py_object(Interrupt))
    other.execute("COMMIT")
    for thread in threads:
        thread.join()
    other.close()
    interrupted = [number for number, outcome in outcomes.items() if isinstance(outcome, Interrupt)]
    assert len(interrupted) == 1
    found = {number_of(record): record.offset for record in read_all(log, topic)[0]}
    assert found == {number: outcome[0].offset for number, outcome in outcomes.items() if number not in interrupted}
    assert log.publish(topic, [corpus_event("a", interrupted[0])])[0].offset == 5


def test_an_acknowledged_event_is_synced(opened):
    log, _ = opened
    assert log._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert log._writer.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_file_that_another_process_holds_is_an_error_and_nothing_is_kept(tmp_path):
    topic, registry = own_topic()
    log = SqliteEventLog(tmp_path / "log.db", registry=registry, timeout_seconds=0.1)
    other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogUnavailableError, match=r"log\.db failed: database is locked.*Nothing of this call was kept"):
        log.publish(topic.name, [corpus_event("a", 1)])
    other.execute("COMMIT")
    assert log.publish(topic.name, [corpus_event("a", 1)])[0].offset == 0
    other.close()
    log.close()


def test_a_file_that_is_no_log_or_a_newer_one_is_refused(tmp_path):
    (tmp_path / "text.db").write_text("no database, but long enough to be taken for one" * 100)
    with pytest.raises(LogUnavailableError, match=r"text\.db cannot be opened: file is not a database"):
        SqliteEventLog(tmp_path / "text.db")
    newer = sqlite3.connect(tmp_path / "newer.db")
    newer.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(LogUnavailableError, match="has the version 99, made by a newer AURA"):
        SqliteEventLog(tmp_path / "newer.db")


def test_a_log_from_before_logs_had_an_identity_gets_one_and_keeps_its_events(tmp_path):
    topic, registry = own_topic()
    older = SqliteEventLog(tmp_path / "log.db", registry=registry)
    older.publish(topic.name, [corpus_event("a", 1)])
    older._writer.executescript("DROP TABLE log_identity; PRAGMA user_version=1;")
    older.close()
    names = set()
    for _ in range(2):
        log = SqliteEventLog(tmp_path / "log.db", registry=registry)
        names.add(log.identity(topic.name))
        assert len(read_all(log, topic.name)[0]) == 1
        log.close()
    assert len(names) == 1


def test_a_store_from_before_logs_had_an_identity_goes_on_where_it_was(tmp_path):
    topic, registry = own_topic(partitions=1)
    log, store = SqliteEventLog(tmp_path / "log.db", registry=registry), ConsumerStore(tmp_path / "effects.db")
    log.publish(topic.name, [corpus_event("a", number) for number in range(5)])
    Consumer(log, store, lambda *_: None, group="g", topic=topic.name, owner="o").catch_up()
    store._connection.executescript("DROP TABLE consumer_log; PRAGMA user_version=1;")
    store.close()
    store = ConsumerStore(tmp_path / "effects.db")
    assert Consumer(log, store, lambda *_: None, group="g", topic=topic.name, owner="o").catch_up().moved is False
    assert store.position("g", topic.name, 0) == 5
    log.close()
    store.close()


def test_what_a_consumer_has_seen_is_forgotten_behind_the_window(tmp_path):
    store = ConsumerStore(tmp_path / "effects.db")
    lease = store.acquire("g", "t", 0, owner="o", seconds=100)
    topic, registry = own_topic(partitions=1)
    log = SqliteEventLog(tmp_path / "log.db", registry=registry)
    log.publish(topic.name, [corpus_event("a", number) for number in range(5)])
    records = log.read(topic.name, 0, 0).records
    with store.effect(lease) as effect:
        assert len(effect.unseen(records)) == 5
        effect.commit(5)
    with store.effect(lease) as effect:
        assert effect.unseen(records) == []
        effect.commit(SEEN_WINDOW + 3)
    assert store.rows("SELECT count(*) FROM consumer_seen") == [(2,)]
    log.close()
    store.close()
