"""A scan finds what matters to each subject, survives as text, and starts over where the log is another one."""

from __future__ import annotations

from contextlib import closing

import pytest

from aura.events.batches import OffsetRange
from aura.events.event import new_event
from aura.events.scan import Scan, look, read_range
from aura.events.sqlite_log import SqliteEventLog

TOPIC = "corpus.items"


@pytest.fixture
def log(tmp_path):
    with closing(SqliteEventLog(tmp_path / "log.db")) as log:
        yield log


def publish(log, *sources):
    events = [
        new_event("corpus.items.changed", {"source": source, "changed": [], "removed": []}, source="test", key=source)
        for source in sources
    ]
    return log.publish(TOPIC, events)


def source_of(record):
    return record.event.data["source"]


def test_each_subject_has_the_range_of_its_events(log):
    first, second, third = publish(log, "a", "b", "a")
    scan, poison = look(log, TOPIC, Scan(), source_of)
    assert poison == []
    pending = dict(scan.pending(TOPIC))
    assert pending["a"] == OffsetRange(TOPIC, first.partition, first.offset, third.offset + 1)
    assert pending["b"] == OffsetRange(TOPIC, second.partition, second.offset, second.offset + 1)
    assert [source_of(record) for record in read_range(log, pending["a"])].count("a") == 2


def test_what_is_dealt_with_is_gone_and_what_came_since_is_left(log):
    (first,) = publish(log, "a")
    scan, _ = look(log, TOPIC, Scan(), source_of)
    (second,) = publish(log, "a")
    scan, _ = look(log, TOPIC, scan, source_of)
    scan = scan.without("a", first.partition, first.offset + 1)
    assert dict(scan.pending(TOPIC)) == {"a": OffsetRange(TOPIC, first.partition, second.offset, second.offset + 1)}
    assert scan.dealt_with()[first.partition] == second.offset
    scan = scan.without("a", first.partition, second.offset + 1)
    assert list(scan.pending(TOPIC)) == []
    assert scan.dealt_with()[first.partition] == second.offset + 1


def test_a_scan_survives_as_text(log):
    publish(log, "a", "b")
    scan, _ = look(log, TOPIC, Scan(), source_of)
    assert Scan.from_json(scan.to_json()) == scan
    for damaged in ("", "{}", "[]", '{"next": 1, "found": {}}'):
        with pytest.raises(ValueError, match=r"scan|Expecting"):
            Scan.from_json(damaged)


def test_a_log_that_is_shorter_than_the_scan_is_read_from_its_beginning(log):
    publish(log, "a")
    far = Scan(dict.fromkeys(log.end_offsets(TOPIC), 99), {"a": {0: (90, 99), 1: (3, 99)}})
    scan, _ = look(log, TOPIC, far, source_of)
    (pending,) = dict(scan.pending(TOPIC)).values()
    assert pending.end == 1
    assert scan.next == log.end_offsets(TOPIC)


def test_one_look_reads_no_more_than_its_limit(log):
    publish(log, *["a"] * 5)
    scan, _ = look(log, TOPIC, Scan(), source_of, limit=2)
    (pending,) = dict(scan.pending(TOPIC)).values()
    assert pending.end == 2
    scan, _ = look(log, TOPIC, scan, source_of, limit=10)
    (pending,) = dict(scan.pending(TOPIC)).values()
    assert (pending.first, pending.end) == (0, 5)


def test_a_range_is_read_back_from_its_text():
    events = OffsetRange("corpus.items", 3, 10, 12)
    assert OffsetRange.parse(str(events)) == events
    with pytest.raises(ValueError, match=r"'corpus\.items' is no range"):
        OffsetRange.parse("corpus.items")
