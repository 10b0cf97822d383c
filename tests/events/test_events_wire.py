"""Events on the wire are CloudEvents in Kafka's binary mode: another implementation reads and writes them alike."""

from __future__ import annotations

import pytest
from cloudevents.core.bindings import kafka as binding
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from events_samples import START, corpus_event
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from aura.events.consumer import dead_letter
from aura.events.errors import EventInvalidError
from aura.events.event import Poison
from aura.events.topics import Topic
from aura.events.wire import decode, encode

VECTORS = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}
"""Of Kafka's own tests of its hash (UtilsTest.testMurmur2)."""


@pytest.mark.parametrize(("key", "murmur2"), VECTORS.items())
def test_a_key_falls_into_the_partition_that_kafkas_java_client_would_choose(key, murmur2):
    for partitions in (1, 6, 7):
        topic = Topic("t", partitions, START - START, ())
        assert topic.partition_of(key) == (murmur2 & 0x7FFFFFFF) % partitions


def test_the_cloudevents_library_reads_what_is_written_here():
    event = corpus_event("schlüssel", 7, subject="some/thing")
    message = encode(event)
    read = binding.from_binary(
        binding.KafkaMessage(headers=dict(message.headers), key=message.key, value=message.value), JSONFormat()
    )
    assert (read.get_id(), read.get_source(), read.get_type()) == (event.id, event.source, event.type)
    assert (read.get_time(), read.get_subject(), read.get_dataschema()) == (event.time, event.subject, event.dataschema)
    assert read.get_data() == event.data


def test_what_the_cloudevents_library_writes_is_read_here():
    attributes = {
        "id": "1",
        "source": "elsewhere",
        "type": "corpus.items.changed",
        "specversion": "1.0",
        "time": START,
        "dataschema": "urn:aura:event:corpus.items.changed:1",
        "partitionkey": "a",
        "datacontenttype": "application/json",
    }
    data = {"source": "a", "changed": ["x"], "removed": []}
    message = binding.to_binary(CloudEvent(attributes, data), JSONFormat())
    event = decode(message.key.encode() if isinstance(message.key, str) else message.key,
                   list(message.headers.items()), message.value)  # fmt: skip
    assert (event.id, event.source, event.key, event.time, event.data) == ("1", "elsewhere", "a", START, data)


def test_the_trace_of_the_producer_goes_along():
    tracer = TracerProvider().get_tracer("tests")
    with tracer.start_as_current_span("publishing") as span:
        event = corpus_event("a", 1)
    context = span.get_span_context()
    assert event.traceparent == f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
    assert ("traceparent", event.traceparent.encode()) in encode(event).headers
    assert not trace.get_current_span().get_span_context().is_valid
    assert corpus_event("a", 2).traceparent is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": ""}, "needs a non-empty id"),
        ({"key": ""}, "needs a non-empty id, source, type and key"),
        ({"time": START.replace(tzinfo=None)}, "has no time zone"),
        ({"traceparent": "00-12"}, "expected W3C's"),
        ({"data": {"score": float("nan")}}, "is not JSON"),
    ],
)
def test_an_event_that_cannot_be_written_is_refused(change, said):
    import dataclasses

    with pytest.raises(EventInvalidError, match=said):
        encode(dataclasses.replace(corpus_event("a", 1), **change))


@pytest.mark.parametrize(
    ("headers", "value", "said"),
    [
        ({"ce_id": None}, b"{}", "'ce_id' is missing"),
        ({"ce_specversion": b"0.3"}, b"{}", "reads 1.0"),
        ({"ce_type": b"other"}, b"{}", "ce_type is b'other'"),
        ({"ce_time": b"yesterday"}, b"{}", "not a CloudEvent"),
        ({"ce_time": b"2026-01-05T10:00:00"}, b"{}", "without a time zone"),
        ({"ce_dataschema": b"https://elsewhere"}, b"{}", "expected urn:aura:event:"),
        ({}, b"[1]", "a JSON list, not an object"),
        ({}, b"\xff", "not a CloudEvent"),
        ({}, b"[" * 100_000, "not a CloudEvent"),
        ({}, None, "not a CloudEvent"),
    ],
)
def test_a_record_that_is_no_event_says_why(headers, value, said):
    message = encode(corpus_event("a", 1))
    merged = {name: data for name, data in {**dict(message.headers), **headers}.items() if data is not None}
    with pytest.raises(EventInvalidError, match=said):
        decode(message.key, list(merged.items()), value)


@pytest.mark.parametrize("timestamp", [1_700_000_000_123, -1, 1_700_000_000_000_000, -(10**18)])
def test_the_dead_letter_of_a_record_whose_time_is_no_date_can_be_written_and_read(timestamp):
    letter = dead_letter(Poison("t", 0, 1, timestamp, None, (), b"", "no event"), "group")
    message = encode(letter)
    assert decode(message.key, message.headers, message.value) == letter
    assert letter.data["timestamp"] == timestamp
    if abs(timestamp) < 10**13:
        assert message.timestamp == timestamp
