"""Lines over time: broken where nobody looked, and bounded."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.charts import POINTS, line_chart, load_charts, tier_charts
from aura.overview.machine import GAP_SECONDS, Load
from aura.overview.stored import TierRates

START = datetime(2026, 11, 20, tzinfo=UTC)
LOAD = Load(START, 0.5, 2, 1, 2, 1.0, None, 1.0, 1.0)


def loads(*seconds):
    return [replace(LOAD, taken_at=START + timedelta(seconds=each)) for each in seconds]


def chart(samples):
    return line_chart("busy, %", samples, [("busy", lambda merged: merged[-1].processor)])


def stretches(spec):
    return [point["stretch"] for point in spec["data"]["values"]]


def test_a_line_is_broken_where_nobody_looked_and_nowhere_else():
    spec = chart(loads(0, 2, 2 + GAP_SECONDS, 4 + 2 * GAP_SECONDS, 6 + 2 * GAP_SECONDS))
    assert stretches(spec) == [0, 0, 0, 1, 1]
    assert spec["encoding"]["detail"]["field"] == "stretch"
    assert not spec["mark"]["point"]


def test_a_moment_alone_is_a_point():
    assert chart(loads(0))["mark"]["point"]
    assert chart(loads(0, 2, 999))["mark"]["point"]
    assert not chart(loads(0, 2))["mark"]["point"]


def test_merging_samples_makes_no_gaps():
    samples = loads(*range(0, 7200, 2))
    spec = chart(samples)
    assert set(stretches(spec)) == {0}
    assert POINTS / 2 <= len(stretches(spec)) <= POINTS
    assert set(stretches(chart(loads(*range(0, 36_000, 60))))) == {0}


def test_figures_that_the_system_does_not_say_are_no_points():
    disk = load_charts(loads(0, 2))[2]
    assert {point["what"] for point in disk["data"]["values"]} == {"read"}
    idle = TierRates(START, 0, None, 0, 0, 0, 2.0)
    assert tier_charts([idle])[1]["data"]["values"] == []
    assert [each["data"]["values"] for each in load_charts([])] == [[], [], [], []]


@pytest.mark.parametrize("place", [0, 1, 1234, 3598, 3599])
def test_one_spike_among_many_samples_is_seen(place):
    samples = loads(*range(0, 7200, 2))
    samples[place] = replace(samples[place], processor=1.0, network_in_rate=float(2**30))
    spec = load_charts(samples)[0]
    assert sorted(point["value"] for point in spec["data"]["values"])[-2:] == [50, 100]
    assert spec["encoding"]["y"]["title"] == "processor, % (peaks)"
    assert max(point["value"] for point in load_charts(samples)[3]["data"]["values"]) == 1024
    assert load_charts(samples[:POINTS])[0]["encoding"]["y"]["title"] == "processor, %"


def test_nothing_is_merged_over_a_gap_and_the_last_sample_is_always_drawn():
    samples = loads(*range(0, 2002, 2), *range(4000, 6000, 2))
    points = chart(samples)["data"]["values"]
    times = [datetime.fromisoformat(point["at"]) for point in points]
    assert {START + timedelta(seconds=2000), START + timedelta(seconds=5998)} <= set(times)
    assert sorted(set(stretches(chart(samples)))) == [0, 1]
    assert len(points) <= POINTS + 1


def test_merged_rates_are_those_of_all_their_time():
    quiet, busy = TierRates(START, 0, None, 1, 0, 5 << 20, 2.0), TierRates(START, 30, 1.0, 5, 0, 0, 6.0)
    rates = [
        replace(rate, taken_at=START + timedelta(seconds=2 * number))
        for number, rate in enumerate([quiet, busy, TierRates(START, 10, 0.2, 0, 4, 0, 2.0)] * POINTS)
    ]
    gets, hits, moves, moved = (spec["data"]["values"] for spec in tier_charts(rates))
    assert {point["value"] for point in gets} == {4.0}
    assert [point["value"] for point in hits] == pytest.approx([80.0] * POINTS)
    assert {(point["what"], point["value"]) for point in moves} == {("promotions", 0.6), ("demotions", 0.4)}
    assert {point["value"] for point in moved} == {0.5}
