"""What every page has, without a page: the visitor's clock, and lines that are not longer than a chart is wide."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.charts import POINTS, line_chart
from app.frame import visitors_zone

START = datetime(2026, 11, 20, tzinfo=UTC)


@dataclass(frozen=True)
class Sample:
    """A value at a moment."""

    taken_at: datetime
    value: float


@pytest.mark.parametrize("name", [None, "", "Etc/Unknown", "../x", "a\0b"])
def test_a_zone_that_is_not_known_is_utc(name):
    assert visitors_zone(name) is UTC


def test_the_zone_of_the_visitor_is_taken():
    assert visitors_zone("Europe/Berlin") == ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize("count", [1, POINTS, POINTS + 1, 10 * POINTS])
def test_a_line_has_about_as_many_points_as_a_chart_has_room_for(count):
    samples = [Sample(START + timedelta(seconds=number), number) for number in range(count)]
    points = line_chart("value", samples, [("value", lambda merged: merged[-1].value)])["data"]["values"]
    assert min(count, POINTS // 2) <= len(points) <= POINTS
    assert points[-1] == {**points[-1], "at": samples[-1].taken_at.isoformat(), "value": count - 1}
