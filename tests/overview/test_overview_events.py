"""The event log as people see it, and the load of this machine."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from aura.events.errors import LogUnavailableError
from aura.events.event import EARLIEST, LATEST, new_event
from aura.events.groups import CORPUS_SENSOR
from aura.events.opening import open_event_log
from aura.overview import event_log
from aura.overview.event_log import EventView
from aura.overview.machine import GAP_SECONDS, MachineView
from aura.overview.panels import columns
from aura.settings import Settings


def changed(source):
    return new_event(
        "corpus.items.changed", {"source": source, "changed": [], "removed": []}, source="test", key=source
    )


def test_without_a_log_none_is_made(tmp_path):
    settings = Settings(home=tmp_path)
    with pytest.raises(LogUnavailableError, match="make up"):
        EventView(settings).topics()
    assert list(tmp_path.iterdir()) == []


def test_topics_have_their_records_their_lag_and_their_latest_event(tmp_path):
    settings = Settings(home=tmp_path)
    log = open_event_log(settings)
    log.publish("corpus.items", [changed(f"s{number}") for number in range(9)])
    view = EventView(settings)
    (items,) = (topic for topic in view.topics() if topic.name == "corpus.items")
    assert (items.records, items.published, items.dead, dict(items.lag)) == (9, 9, 0, {})
    log.commit(CORPUS_SENSOR, "corpus.items", {p: end for p, end in log.end_offsets("corpus.items").items() if p % 2})
    (items,) = (topic for topic in view.topics() if topic.name == "corpus.items")
    assert items.lag == {CORPUS_SENSOR: sum(log.lag(CORPUS_SENSOR, "corpus.items").values())}
    assert 0 < items.lag[CORPUS_SENSOR] < 9
    tail = view.tail("corpus.items", 4)
    assert len(tail) == 4
    assert [each.time for each in tail] == sorted((each.time for each in tail), reverse=True)
    assert tail[0].time == items.latest_at
    assert tail[0].data["source"] == tail[0].key
    log.close()


def publish(settings, count):
    log = open_event_log(settings)
    log.publish("corpus.items", [changed(f"s{number}") for number in range(count)])
    log.close()


def records(view):
    (items,) = (topic for topic in view.topics() if topic.name == "corpus.items")
    return items.records


def test_a_log_that_was_made_anew_is_opened_again_and_one_that_was_not_is_opened_once(tmp_path, monkeypatch):
    settings = Settings(home=tmp_path)
    opened = []
    monkeypatch.setattr(event_log, "open_event_log", lambda of: opened.append(open_event_log(of)) or opened[-1])
    view = EventView(settings)
    publish(settings, 9)
    assert (records(view), len(view.tail("corpus.items", 20)), len(opened)) == (9, 9, 1)
    for file in settings.event_log_file.parent.iterdir():
        file.unlink()
    with pytest.raises(LogUnavailableError, match="make up"):
        view.tail("corpus.items", 1)
    assert list(settings.event_log_file.parent.iterdir()) == []
    publish(settings, 2)
    assert (records(view), len(view.tail("corpus.items", 20)), len(opened)) == (2, 2, 2)
    moved = settings.event_log_file.with_name("moved")
    settings.event_log_file.rename(moved)
    publish(settings, 3)
    assert (records(view), len(opened)) == (3, 3)
    view.close()
    assert (records(view), len(opened)) == (3, 4)
    view.close()


def test_many_threads_look_at_once_while_the_log_is_made_anew(tmp_path):
    settings = Settings(home=tmp_path)
    publish(settings, 5)
    view = EventView(settings)

    def look(number):
        if number % 10 == 5:
            other = Settings(home=tmp_path / str(number))
            publish(other, 5)
            other.event_log_file.replace(settings.event_log_file)
        return records(view), len(view.tail("corpus.items", 9))

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(look, range(40))) == {(5, 5)}
    view.close()


def test_a_line_of_columns_holds_the_whole_window():
    start = datetime(2026, 11, 20, tzinfo=UTC)
    samples = [(start + timedelta(seconds=number), float(number >= 300)) for number in range(600)]
    assert columns(samples, 10) == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert columns(samples[:3], 10) == [0, 0, 0]
    gap = [*samples[:10], (start + timedelta(seconds=100), 1.0)]
    assert columns(gap, 5) == [0, 0, 0, 0, 1]


def test_a_mean_over_a_long_time_is_no_load_now():
    clock = iter([0.0, 2.0, 2.0 + 2 * GAP_SECONDS, 4.0 + 2 * GAP_SECONDS])
    view = MachineView(lambda: next(clock))
    assert view.sample(1.0) is not None
    assert view.sample(1.0) is None
    assert view.sample(1.0) is not None


def test_the_load_is_a_mean_between_two_looks():
    clock = iter([0.0, 0.5, 2.0, 2.5])
    view = MachineView(lambda: next(clock))
    assert view.sample(1.0) is None
    load = view.sample(1.0)
    assert 0 <= load.processor <= 1
    assert 0 < load.memory_used_bytes < load.memory_bytes
    assert load.network_in_rate >= 0
    assert view.sample(1.0) is load
    assert view.samples(timedelta(hours=1)) == [load]


@pytest.mark.parametrize("timestamp", [1_700_000_000_000_000, 1_700_000_000_000_000_000, -1, -(10**15), -(10**18)])
def test_a_record_whose_time_is_no_date_hides_nothing(tmp_path, timestamp):
    settings = Settings(home=tmp_path)
    publish(settings, 5)
    with sqlite3.connect(settings.event_log_file) as connection:
        connection.execute("UPDATE record SET value = x'00', time_ms = ? WHERE topic = 'corpus.items'", [timestamp])
    connection.close()
    view = EventView(settings)
    (items,) = (topic for topic in view.topics() if topic.name == "corpus.items")
    tail = view.tail("corpus.items", 5)
    assert EARLIEST <= items.latest_at <= LATEST
    assert [each.kind for each in tail] == ["(undecodable)"] * 5
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        assert tail[0].time.astimezone(ZoneInfo(zone)) == items.latest_at
    view.close()


@pytest.mark.parametrize(("year", "hours"), [(1, 14), (9999, -12)])
def test_an_event_at_the_ends_of_the_calendar_is_shown(tmp_path, year, hours):
    settings = Settings(home=tmp_path)
    zone = timezone(timedelta(hours=hours))
    moment = datetime(1, 1, 1, tzinfo=zone) if year == 1 else datetime(9999, 12, 31, 23, tzinfo=zone)
    log = open_event_log(settings)
    log.publish("corpus.items", [replace(changed("s"), time=moment)])
    log.close()
    view = EventView(settings)
    (record,) = view.tail("corpus.items", 5)
    assert record.time == (EARLIEST if year == 1 else LATEST)
    view.close()
