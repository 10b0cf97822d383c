"""Lines over time: broken where nobody looked, and bounded."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.charts import POINTS, line_chart, load_charts, tier_charts
from aura.overview.machine import GAP_SECONDS, Load
from aura.overview.stored import TierRates

START = datetime(2026, 11, 20, tzinfo=UTC)
LOAD = Load(START, 0.5, 2, 1, 2, 1.0, None, 1.0, 1.0)


def loads(*seconds):
    return [replace(LOAD, taken_at=START + timedelta(seconds=each)) for each in seconds]


def chart(samples):
    return line_chart("busy, %", samples, [("busy", lambda load: load.processor)])


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


def test_leaving_out_samples_makes_no_gaps():
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
