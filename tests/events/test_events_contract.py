"""What every event log promises, on each adapter."""

from __future__ import annotations

import base64
import subprocess
import sys
import threading
from collections import defaultdict
from datetime import timedelta
from pathlib import Path

import pytest
from events_samples import START, corpus_event, number_of, own_topic, read_all

from aura.events.consumer import Consumer, RecordRejectedError
from aura.events.errors import (
    EventInvalidError,
    FencedError,
    LeaseHeldError,
    LogUnavailableError,
    OffsetExpiredError,
    UnknownTopicError,
)
from aura.events.leases import ConsumerStore
from aura.events.topics import Topic, TopicRegistry

HERE = Path(__file__).parent
EFFECTS = "CREATE TABLE IF NOT EXISTS effect (id INTEGER PRIMARY KEY, key TEXT, number INTEGER);"


def apply_effect(connection, records):
    connection.executemany(
        "INSERT INTO effect (key, number) VALUES (?, ?)", [(record.key, number_of(record)) for record in records]
    )


def consumer_of(log, store, topic, owner="one", apply=apply_effect, **more):
    return Consumer(log, store, apply, group="g", topic=topic.name, owner=owner, **more)


def numbers_by_key(records):
    found = defaultdict(list)
    for record in records:
        found[record.key].append(number_of(record))
    return found


def test_events_of_a_key_keep_their_order_and_all_are_there(adapter):
    topic, registry = own_topic()
    log = adapter.open(registry)
    keys = [f"key-{number}" for number in range(10)]
    for start in range(0, 60, 20):
        log.publish(topic.name, [corpus_event(key, start + more) for more in range(20) for key in keys])
    records, poison = read_all(log, topic.name)
    assert not poison
    assert numbers_by_key(records) == {key: list(range(60)) for key in keys}
    assert {record.partition for record in records} == {0, 1, 2}
    assert sum(log.end_offsets(topic.name).values()) == 600


def test_an_acknowledgement_says_where_the_event_is(adapter):
    topic, registry = own_topic()
    log = adapter.open(registry)
    events = [corpus_event(f"key-{number % 7}", number) for number in range(50)]
    for event, ack in zip(events, log.publish(topic.name, events), strict=True):
        (record,) = log.read(topic.name, ack.partition, ack.offset, ack.offset + 1).records
        assert (record.event, record.key, record.offset) == (event, event.key, ack.offset)
        assert ack.partition == topic.partition_of(event.key)


def test_everything_about_an_event_survives_the_log(adapter):
    topic, registry = own_topic()
    log = adapter.open(registry)
    event = corpus_event(
        "schlüssel", 1, subject="a/b c", traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    )
    (ack,) = log.publish(topic.name, [event])
    (record,) = log.read(topic.name, ack.partition, 0).records
    assert record.event == event
    assert record.timestamp == int(START.timestamp() * 1000)


def test_a_partition_is_read_from_any_offset_up_to_any_other(adapter):
    topic, registry = own_topic(partitions=1)
    log = adapter.open(registry)
    log.publish(topic.name, [corpus_event("a", number) for number in range(100)])

    def read(*arguments, **more):
        batch = log.read(topic.name, 0, *arguments, **more)
        return [record.offset for record in batch.records], batch.next_offset

    assert read(0) == (list(range(100)), 100)
    assert read(40, 45) == (list(range(40, 45)), 45)
    assert read(98, 1000) == ([98, 99], 100)
    assert read(10, limit=3) == ([10, 11, 12], 13)
    assert read(13, limit=3) == ([13, 14, 15], 16)
    assert read(100) == ([], 100)
    assert read(7, 7) == ([], 7)


def test_a_topic_is_replayed_from_a_time(adapter):
    topic, registry = own_topic(partitions=2)
    log = adapter.open(registry)
    log.publish(topic.name, [corpus_event(f"key-{n % 8}", n, seconds=n) for n in range(80)])
    records, _ = read_all(log, topic.name, log.offsets_at(topic.name, START + timedelta(seconds=50)))
    assert sorted(map(number_of, records)) == list(range(50, 80))
    assert log.offsets_at(topic.name, START + timedelta(days=1)) == log.end_offsets(topic.name)
    assert log.offsets_at(topic.name, START - timedelta(days=1)) == log.begin_offsets(topic.name)


def test_lag_is_what_a_group_has_not_committed(adapter):
    topic, registry = own_topic(partitions=2)
    log = adapter.open(registry)
    log.publish(topic.name, [corpus_event(f"key-{n % 8}", n) for n in range(40)])
    ends = log.end_offsets(topic.name)
    assert log.committed("g", topic.name) == {}
    assert log.lag("g", topic.name) == ends
    log.commit("g", topic.name, {0: ends[0] - 3})
    assert log.committed("g", topic.name) == {0: ends[0] - 3}
    assert log.lag("g", topic.name) == {0: 3, 1: ends[1]}
    assert log.lag("other", topic.name) == ends


def test_retention_deletes_what_is_older_and_says_so_to_who_asks_for_it(adapter):
    topic, registry = own_topic(partitions=1, retention=timedelta(days=3650))
    log = adapter.open(registry)
    log.publish(topic.name, [corpus_event("a", n, seconds=n) for n in range(10)])
    assert log.expire(topic.name, START) == {0: 0}
    assert log.expire(topic.name, START + topic.retention + timedelta(seconds=4)) == {0: 4}
    assert log.begin_offsets(topic.name) == {0: 4}
    with pytest.raises(OffsetExpiredError, match="begins at 4") as expired:
        log.read(topic.name, 0, 0)
    assert [record.offset for record in log.read(topic.name, 0, expired.value.begin).records] == [4, 5, 6, 7, 8, 9]
    assert log.lag("g", topic.name) == {0: 6}
    (ack,) = log.publish(topic.name, [corpus_event("a", 10, seconds=10)])
    assert ack.offset == 10


def test_an_invalid_event_is_refused_with_all_that_came_with_it(adapter):
    topic, registry = own_topic()
    log = adapter.open(registry)
    good, bad = corpus_event("a", 1), corpus_event("a", 2)
    bad.data["removed"] = "not a list"
    with pytest.raises(EventInvalidError, match=r"removed does not fit .* 'not a list' is not of type 'array'"):
        log.publish(topic.name, [good, bad])
    with pytest.raises(UnknownTopicError, match=r"no topic 'nowhere'.*The topics are"):
        log.publish("nowhere", [good])
    with pytest.raises(UnknownTopicError, match="partitions 0 to 2, not 3"):
        log.read(topic.name, 3, 0)
    assert set(log.end_offsets(topic.name).values()) == {0}


def test_threads_publish_at_the_same_time(adapter):
    topic, registry = own_topic()
    log = adapter.open(registry)

    def publish(key):
        for start in range(0, 100, 5):
            log.publish(topic.name, [corpus_event(key, start + more) for more in range(5)])

    keys = [f"key-{number}" for number in range(6)]
    threads = [threading.Thread(target=publish, args=[key]) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records, _ = read_all(log, topic.name)
    assert numbers_by_key(records) == {key: list(range(100)) for key in keys}


def test_processes_publish_at_the_same_time(adapter):
    topic, registry = own_topic()
    script = [sys.executable, str(HERE / "events_publish_process.py"), adapter.place, topic.name, "3"]
    processes = [subprocess.Popen([*script, f"a{number},b{number}", "50"]) for number in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    records, _ = read_all(adapter.open(registry), topic.name)
    keys = [f"{letter}{number}" for number in range(3) for letter in "ab"]
    assert numbers_by_key(records) == {key: list(range(50)) for key in keys}


def test_an_event_published_twice_has_one_effect(adapter, tmp_path):
    topic, registry = own_topic()
    log, store = adapter.open(registry), ConsumerStore(tmp_path / "effects.db", tables=EFFECTS)
    events = [corpus_event("a", number) for number in range(5)]
    log.publish(topic.name, events[:3])
    log.publish(topic.name, [*events, events[0]])
    consumer_of(log, store, topic).catch_up()
    log.publish(topic.name, events)
    consumer_of(log, store, topic).catch_up()
    assert store.rows("SELECT number FROM effect ORDER BY id") == [(number,) for number in range(5)]


def test_a_consumer_goes_on_where_its_effects_end_and_the_log_knows_its_lag(adapter, tmp_path):
    topic, registry = own_topic()
    log, store = adapter.open(registry), ConsumerStore(tmp_path / "effects.db", tables=EFFECTS)
    log.publish(topic.name, [corpus_event(f"key-{n % 5}", n) for n in range(50)])
    consumer = consumer_of(log, store, topic, limit=7)
    assert consumer.catch_up().applied == 50
    assert set(log.lag("g", topic.name).values()) == {0}
    log.publish(topic.name, [corpus_event("key-0", n) for n in range(50, 60)])
    consumer.release()
    assert consumer_of(log, store, topic, "two").catch_up().applied == 10
    assert store.rows("SELECT count(*), count(DISTINCT number) FROM effect") == [(60, 60)]


def test_a_consumer_starts_over_with_a_log_that_was_made_anew_and_repeats_no_effect(adapter, tmp_path, caplog):
    topic, registry = own_topic(partitions=1)
    first, store = adapter.open(registry), ConsumerStore(tmp_path / "effects.db", tables=EFFECTS)
    first.publish(topic.name, [corpus_event("a", number) for number in range(5)])
    stale = consumer_of(first, store, topic)
    stale.catch_up()
    adapter.destroy(topic.name)
    log = adapter.open(registry)
    log.publish(topic.name, [corpus_event("a", number) for number in range(3, 9)])
    step = consumer_of(log, store, topic).catch_up()
    assert (step.applied, step.repeated, store.position("g", topic.name, 0)) == (4, 2, 6)
    assert store.rows("SELECT number FROM effect ORDER BY id") == [(number,) for number in range(9)]
    assert "g starts over" in caplog.text
    stale.release()
    with pytest.raises(LogUnavailableError, match="made anew"):
        stale.catch_up()
    assert consumer_of(log, store, topic).catch_up().moved is False


def test_poison_goes_to_the_dead_letters_and_stops_nothing(adapter, tmp_path):
    topic, registry = own_topic(partitions=1)
    log, store = adapter.open(registry), ConsumerStore(tmp_path / "effects.db", tables=EFFECTS)
    log.publish(topic.name, [corpus_event("a", 0)])
    headers = [("ce_id", b"x"), ("ce_source", b"y"), ("ce_specversion", b"1.0"), ("ce_type", b"corpus.items.changed")]
    headers += [("ce_time", b"2026-01-05T10:00:00+00:00"), ("ce_dataschema", b"urn:aura:event:corpus.items.changed:1")]
    adapter.put(topic.name, 0, b"\x00\xff")
    adapter.put(topic.name, 0, b'{"source": "a"}', headers)
    adapter.put(topic.name, 0, b"{}", [*headers[:5], ("ce_dataschema", b"urn:aura:event:corpus.items.changed:99")])
    log.publish(topic.name, [corpus_event("a", 4)])
    batch = log.read(topic.name, 0, 0)
    assert [record.offset for record in batch.records] == [0, 4]
    assert [poison.offset for poison in batch.poison] == [1, 2, 3]

    step = consumer_of(log, store, topic).catch_up()
    assert (step.applied, step.dead) == (2, 3)
    letters, _ = read_all(log, topic.dead.name)
    found = {letter.event.data["offset"]: letter.event.data for letter in letters}
    assert base64.b64decode(found[1]["value_base64"]) == b"\x00\xff"
    assert "'ce_dataschema' is missing" in found[1]["reason"]
    assert "'changed' is a required property" in found[2]["reason"]
    assert "version 99" in found[3]["reason"]
    assert store.position("g", topic.name, 0) == 5


def test_a_record_that_its_effect_rejects_goes_to_the_dead_letters(adapter, tmp_path):
    topic, registry = own_topic(partitions=1)
    log, store = adapter.open(registry), ConsumerStore(tmp_path / "effects.db", tables=EFFECTS)
    log.publish(topic.name, [corpus_event("a", number) for number in range(6)])

    def apply(connection, records):
        for record in records:
            apply_effect(connection, [record])
            if number_of(record) in (2, 4):
                raise RecordRejectedError(record, f"number {number_of(record)} is not wanted")

    assert consumer_of(log, store, topic, apply=apply).catch_up().dead == 2
    assert store.rows("SELECT number FROM effect ORDER BY id") == [(0,), (1,), (3,), (5,)]
    letters, _ = read_all(log, topic.dead.name)
    assert {letter.event.data["reason"] for letter in letters} == {"number 2 is not wanted", "number 4 is not wanted"}


def test_an_effect_that_fails_leaves_neither_itself_nor_an_offset(adapter, tmp_path):
    topic, registry = own_topic(partitions=1)
    log, store = adapter.open(registry), ConsumerStore(tmp_path / "effects.db", tables=EFFECTS)
    log.publish(topic.name, [corpus_event("a", number) for number in range(6)])

    def apply(connection, records):
        apply_effect(connection, records)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        consumer_of(log, store, topic, apply=apply).step()
    assert store.rows("SELECT * FROM effect") == []
    assert consumer_of(log, store, topic).catch_up().applied == 6


def test_a_consumer_whose_lease_ran_out_cannot_commit(adapter, tmp_path):
    topic, registry = own_topic(partitions=1)
    now = [0.0]
    log = adapter.open(registry)
    store = ConsumerStore(tmp_path / "effects.db", tables=EFFECTS, clock=lambda: now[0])
    log.publish(topic.name, [corpus_event("a", number) for number in range(4)])

    def pause_then_apply(connection, records):
        now[0] += 31
        apply_effect(connection, records)

    paused = consumer_of(log, store, topic, "paused", apply=pause_then_apply, lease_seconds=30)
    step = paused.step()
    assert (step.applied, step.fenced) == (0, 1)
    assert store.rows("SELECT * FROM effect") == []
    assert consumer_of(log, store, topic, "other", lease_seconds=30).catch_up().applied == 4
    assert paused.step().partitions == 0
    assert store.rows("SELECT number FROM effect ORDER BY id") == [(0,), (1,), (2,), (3,)]
    assert log.committed("g", topic.name) == {0: 4}


def test_the_lease_of_a_taken_over_partition_is_fenced_even_if_the_clock_says_it_holds(tmp_path):
    now = [0.0]
    store = ConsumerStore(tmp_path / "effects.db", clock=lambda: now[0])
    old = store.acquire("g", "t", 0, owner="old", seconds=10)
    with pytest.raises(LeaseHeldError, match=r"held for g by old, another 10\.0 s"):
        store.acquire("g", "t", 0, owner="new", seconds=10)
    now[0] = 11
    new = store.acquire("g", "t", 0, owner="new", seconds=10)
    assert new.generation > old.generation
    now[0] = 5
    with pytest.raises(FencedError, match=r"lease of old on t-0 for g is over"), store.effect(old) as effect:
        effect.commit(99)
    with store.effect(new) as effect:
        effect.commit(7)
    assert store.position("g", "t", 0) == 7
    store.release(old)
    with pytest.raises(LeaseHeldError):
        store.acquire("g", "t", 0, owner="third", seconds=10)


def test_two_consumers_of_a_group_share_the_partitions_and_no_effect_is_doubled(adapter, tmp_path):
    topic, registry = own_topic(partitions=4)
    log = adapter.open(registry)
    log.publish(topic.name, [corpus_event(f"key-{n % 16}", n) for n in range(400)])
    steps = {}

    def consume(owner):
        store = ConsumerStore(tmp_path / "effects.db", tables=EFFECTS)
        steps[owner] = consumer_of(log, store, topic, owner, limit=10).catch_up()
        store.close()

    threads = [threading.Thread(target=consume, args=[owner]) for owner in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = ConsumerStore(tmp_path / "effects.db", tables=EFFECTS)
    assert store.rows("SELECT count(*), count(DISTINCT number) FROM effect") == [(400, 400)]
    assert steps["one"].applied + steps["two"].applied == 400


def test_a_log_keeps_its_identity_until_it_is_made_anew(adapter):
    topic, registry = own_topic()
    first = adapter.open(registry)
    first.publish(topic.name, [corpus_event("a", 1)])
    identity = first.identity(topic.name)
    assert adapter.open(registry).identity(topic.name) == identity
    with pytest.raises(UnknownTopicError):
        first.identity("nowhere")
    first.close()
    adapter.destroy(topic.name)
    anew = adapter.open(registry)
    assert anew.identity(topic.name) != identity
    assert set(anew.end_offsets(topic.name).values()) == {0}


@pytest.mark.servers
def test_a_kafka_topic_with_other_partitions_is_refused(adapter):
    topic, registry = own_topic(partitions=2)
    adapter.open(registry).publish(topic.name, [corpus_event("a", 1)])
    wider = TopicRegistry([Topic(topic.name, 5, topic.retention, topic.types)])
    if adapter.place.startswith("/"):
        assert adapter.open(wider).end_offsets(topic.name).keys() == set(range(5))
        return
    with pytest.raises(Exception, match=r"has 2 partitions on .* spreads its keys over 5"):
        adapter.open(wider).publish(topic.name, [corpus_event("a", 2)])
