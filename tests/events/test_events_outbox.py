"""While Kafka is down events wait in the outbox; they are sent in order when it is back, or refused when it is full."""

from __future__ import annotations

import contextlib
import random
import socket
import sqlite3
import threading

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from events_samples import corpus_event, number_of, own_topic, read_all

from aura.events.buffered import BufferedEventLog
from aura.events.errors import (
    EventInvalidError,
    EventsRefusedError,
    LogUnavailableError,
    OutboxFailedError,
    OutboxOverflowError,
)
from aura.events.kafka_calls import KafkaAddress
from aura.events.kafka_log import KafkaEventLog
from aura.events.opening import open_event_log
from aura.events.sqlite_log import SqliteEventLog
from aura.events.topics import TOPICS, TopicRegistry
from aura.resilience.breaker import BreakerState, CircuitBreaker
from aura.resilience.deadline import Deadline
from aura.resilience.outbox import Outbox
from aura.settings import Settings
from aura.settings_sections import EventSettings


def nobody():
    """An address on loopback where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def buffered(address, registry, folder, *, limit=100, timeout=1.0, retry_seconds=3600.0):
    return BufferedEventLog(
        KafkaEventLog(KafkaAddress(address), registry=registry, timeout_seconds=timeout),
        lambda: Outbox(folder / "outbox.db", limit),
        CircuitBreaker("Kafka", 1, 0.2, on=(LogUnavailableError,)),
        retry_seconds=retry_seconds,
    )


@pytest.fixture
def no_kafka(tmp_path):
    topic, registry = own_topic(partitions=1)
    log = buffered(nobody(), registry, tmp_path, limit=10)
    yield log, topic.name
    log.close()


def test_events_wait_on_disk_without_an_offset_and_survive_the_process(no_kafka, tmp_path):
    log, topic = no_kafka
    acks = log.publish(topic, [corpus_event("a", number) for number in range(3)])
    assert [ack.offset for ack in acks] == [None] * 3
    with Outbox(tmp_path / "outbox.db", 10) as again:
        assert len(again) == 3


def test_events_beyond_the_bound_are_refused_with_the_remedy(no_kafka):
    log, topic = no_kafka
    log.publish(topic, [corpus_event("a", number) for number in range(8)])
    with pytest.raises(OutboxOverflowError, match=r"3 events for .* were refused: .*at most 10: .*outbox_limit"):
        log.publish(topic, [corpus_event("a", number) for number in range(8, 11)])
    assert log.waiting == 8


def test_an_outbox_that_cannot_be_used_is_an_error_of_the_log_and_stops_no_reader(tmp_path):
    (tmp_path / "outbox.db").write_text("no database, but long enough to be taken for one" * 100)
    topic, registry = own_topic(partitions=1)
    log = buffered(nobody(), registry, tmp_path)
    with pytest.raises(LogUnavailableError, match="did not answer"):
        log.end_offsets(topic.name)
    for call in (lambda: log.publish(topic.name, [corpus_event("a", 1)]), lambda: log.waiting, log.drain):
        with pytest.raises(OutboxFailedError, match=r"outbox\.db cannot be opened"):
            call()
    log.close()


def test_readers_do_not_open_the_outbox(no_kafka, tmp_path):
    log, topic = no_kafka
    with pytest.raises(LogUnavailableError):
        log.read(topic, 0, 0)
    assert not list(tmp_path.glob("outbox.db*"))


def test_an_outbox_that_fails_for_a_while_does_not_end_the_sending(tmp_path, caplog):
    topic, registry = own_topic(partitions=1)
    log = buffered(nobody(), registry, tmp_path, timeout=0.2, retry_seconds=0.05)
    log.publish(topic.name, [corpus_event("a", 1)])
    other = sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)
    other.execute("ALTER TABLE waiting RENAME TO elsewhere")
    for _ in range(600):
        if "cannot be sent" in caplog.text:
            break
        threading.Event().wait(0.1)
    assert "cannot be sent" in caplog.text
    assert "aura-outbox" in {thread.name for thread in threading.enumerate()}
    with pytest.raises(OutboxFailedError, match="no such table: waiting"):
        log.publish(topic.name, [corpus_event("a", 2)])
    other.execute("ALTER TABLE elsewhere RENAME TO waiting")
    other.close()
    assert log.waiting == 1
    log.close()


def test_an_invalid_event_never_waits(no_kafka):
    log, topic = no_kafka
    with pytest.raises(EventInvalidError):
        log.publish(topic, [corpus_event("", 1)])
    assert log.waiting == 0


def test_a_read_while_kafka_is_down_is_an_error_and_not_an_empty_read(no_kafka):
    log, topic = no_kafka
    for call in (log.end_offsets, log.identity, lambda topic: log.read(topic, 0, 0), lambda topic: log.lag("g", topic)):
        with pytest.raises(LogUnavailableError, match=r"Kafka at 127\.0\.0\.1:\d+ did not answer.*`aura status`"):
            call(topic)


def test_the_breaker_spares_the_callers_of_a_dead_broker(no_kafka):
    log, topic = no_kafka
    log.publish(topic, [corpus_event("a", 0)])
    assert log.breaker_reading().state is BreakerState.OPEN
    assert "did not answer" in log.breaker_reading().reason


def large_event(number):
    event = corpus_event("a", number)
    event.data["changed"] = [f"{number}-{random.Random(item).getrandbits(256):x}" for item in range(200)]
    return event


@pytest.mark.servers
def test_what_kafka_refuses_for_good_is_set_aside_and_holds_up_nothing(kafka, tmp_path, caplog):
    small, registry = own_topic(partitions=1)
    wrong, _ = own_topic(partitions=2)
    registry = TopicRegistry([small, wrong])
    client = AdminClient({"bootstrap.servers": kafka.address})
    new = [NewTopic(small.name, 1, 1, config={"max.message.bytes": "4000"}), NewTopic(wrong.name, 5, 1)]
    for made in client.create_topics(new, operation_timeout=20).values():
        made.result(20)

    away = buffered(nobody(), registry, tmp_path)
    events = [large_event(n) if n in (1, 3) else corpus_event("a", n) for n in range(5)]
    away.publish(wrong.name, [corpus_event("b", 0)])
    away.publish(small.name, events)
    away.close()

    log = buffered(kafka.address, registry, tmp_path, timeout=20.0)
    assert log.waiting == 6
    log.drain(Deadline(60.0))
    assert log.waiting == 0
    assert dict.fromkeys(map(number_of, read_all(log, small.name)[0])) == dict.fromkeys((0, 2, 4))
    assert caplog.text.count("was set aside") == 3
    with Outbox(tmp_path / "outbox.db", 100) as outbox:
        first, second, third = (item.reason for item in outbox.refused())
    assert f"{wrong.name} has 5 partitions" in first
    assert "refused 1 of 1 events" in second
    assert "too large" in third.lower()

    with pytest.raises(EventsRefusedError, match=r"refused 1 of 1 events .*max\.message\.bytes|too large"):
        log.publish(small.name, [large_event(6)])
    with pytest.raises(EventsRefusedError, match="has 5 partitions"):
        log.publish(wrong.name, [corpus_event("b", 1)])
    assert log.waiting == 0
    assert log.publish(small.name, [corpus_event("a", 7)])[0].offset is not None
    log.close()


@pytest.mark.servers
def test_a_topic_that_was_deleted_is_made_again_when_it_is_published_to(kafka, tmp_path):
    topic, registry = own_topic(partitions=1)
    log = buffered(kafka.address, registry, tmp_path, timeout=5.0)
    log.publish(topic.name, [corpus_event("a", 0)])
    client = AdminClient({"bootstrap.servers": kafka.address})
    client.delete_topics([topic.name], operation_timeout=20)[topic.name].result(20)
    while topic.name in client.list_topics(timeout=20).topics:
        threading.Event().wait(0.05)
    log.publish(topic.name, [corpus_event("a", 1)])
    for _ in range(100):
        if not log.waiting:
            break
        # The breaker lets the next call through after a while.
        threading.Event().wait(0.3)
        with contextlib.suppress(LogUnavailableError):
            log.drain(Deadline(10.0))
    assert [number_of(record) for record in read_all(log, topic.name)[0]] == [1]
    log.close()


@pytest.mark.servers
@pytest.mark.slow
def test_what_waited_is_sent_in_order_before_anything_newer(servers, tmp_path):
    kafka = servers("kafka")
    topic, registry = own_topic(partitions=2)
    log = buffered(kafka.address, registry, tmp_path, limit=1000, timeout=3.0)
    log.publish(topic.name, [corpus_event(f"key-{n % 4}", n) for n in range(20)])
    kafka.kill()
    for number in (20, 40):
        acks = log.publish(topic.name, [corpus_event(f"key-{n % 4}", n) for n in range(number, number + 20)])
        assert [ack.offset for ack in acks] == [None] * 20
    kafka.start()
    closing = threading.Event()
    number = 60
    while log.waiting and number < 2000:
        log.publish(topic.name, [corpus_event(f"key-{n % 4}", n) for n in range(number, number + 4)])
        number += 4
        closing.wait(0.1)
    acks = log.publish(topic.name, [corpus_event(f"key-{n % 4}", n) for n in range(number, number + 4)])
    assert all(ack.offset is not None for ack in acks)
    records, _ = read_all(log, topic.name)
    for key in range(4):
        found = [number_of(record) for record in records if record.key == f"key-{key}"]
        # The log may hold an event twice, which consumers recognise; what counts is the first of each.
        assert list(dict.fromkeys(found)) == list(range(key, number + 4, 4))
    log.close()


@pytest.mark.servers
@pytest.mark.slow
def test_what_waited_is_sent_by_itself_when_nothing_more_is_published(servers, tmp_path):
    kafka = servers("kafka")
    topic, registry = own_topic(partitions=1)
    first = buffered(nobody(), registry, tmp_path)
    first.publish(topic.name, [corpus_event("a", number) for number in range(5)])
    first.close()
    log = buffered(kafka.address, registry, tmp_path, timeout=3.0, retry_seconds=0.2)
    kafka.pause()
    assert log.publish(topic.name, [corpus_event("a", 5)])[0].offset is None
    kafka.resume()
    for _ in range(600):
        if not log.waiting:
            break
        threading.Event().wait(0.1)
    records, _ = read_all(log, topic.name)
    assert list(dict.fromkeys(map(number_of, records))) == list(range(6))
    log.close()


def test_the_settings_choose_the_log(tmp_path):
    embedded = open_event_log(Settings(home=tmp_path))
    assert isinstance(embedded, SqliteEventLog)
    assert embedded.registry is TOPICS
    embedded.close()
    on_kafka = open_event_log(Settings(home=tmp_path, events=EventSettings(kafka=nobody(), timeout_seconds=0.5)))
    assert isinstance(on_kafka, BufferedEventLog)
    on_kafka.close()


def test_credentials_and_encryption_reach_the_client():
    config = KafkaAddress("host:9093", "aura", "secret", tls=True).client_config(5.0)
    assert config["security.protocol"] == "SASL_SSL"
    assert (config["sasl.mechanism"], config["sasl.username"]) == ("SCRAM-SHA-512", "aura")
    assert KafkaAddress("host:9092").client_config(5.0)["security.protocol"] == "PLAINTEXT"
    assert "secret" not in repr(KafkaAddress("host:9093", "aura", "secret", tls=True))
