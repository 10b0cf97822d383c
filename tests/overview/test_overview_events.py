"""The event log as people see it, and the load of this machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from aura.events.errors import LogUnavailableError
from aura.events.event import new_event
from aura.events.opening import open_event_log
from aura.overview.event_log import EventView
from aura.overview.machine import GAP_SECONDS, MachineView
from aura.overview.panels import columns
from aura.settings import Settings

GROUP = "sensor corpus_items"


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
    log.commit(GROUP, "corpus.items", {p: end for p, end in log.end_offsets("corpus.items").items() if p % 2})
    (items,) = (topic for topic in view.topics() if topic.name == "corpus.items")
    assert items.lag == {GROUP: sum(log.lag(GROUP, "corpus.items").values())}
    assert 0 < items.lag[GROUP] < 9
    tail = view.tail("corpus.items", 4)
    assert len(tail) == 4
    assert [each.time for each in tail] == sorted((each.time for each in tail), reverse=True)
    assert tail[0].time == items.latest_at
    assert tail[0].data["source"] == tail[0].key
    log.close()


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
