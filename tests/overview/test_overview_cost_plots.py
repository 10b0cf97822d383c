"""The pictures of costs: what is drawn, and in which time zone."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

from matplotlib.dates import num2date
from matplotlib.figure import Figure
from PIL import Image

from aura.measure.history import MaterializationCost
from aura.overview.assets import asset_rows
from aura.overview.cost_plots import MOST_BARS, _dearest, _draw_series, plot_latest, plot_over_time
from aura.overview.costs import CostBook

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
PNG = b"\x89PNG"


def run(moment, *, reused=False):
    return MaterializationCost(
        asset="a",
        partition=None,
        group="g",
        run_id="r",
        mlflow_run_id=str(moment),
        started_at=moment,
        succeeded=True,
        reused=reused,
        wall_seconds=1.0,
        cpu_seconds=1.0,
        peak_memory_mib=1.0,
        energy_source="unavailable",
        joules=None,
        code_version=None,
        figures={},
        tags={"outcome": "reused" if reused else "made"},
    )


def test_moments_are_drawn_and_named_in_utc_whatever_zone_they_came_in():
    axes = Figure().subplots()
    elsewhere = timezone(timedelta(hours=5))
    _draw_series(axes, "a", [run(NOON), run((NOON + timedelta(days=1)).astimezone(elsewhere))])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2026-11-20\n12:00 UTC", "2026-11-21\n12:00 UTC"]
    drawn = [num2date(axes.convert_xunits(moment)) for moment in axes.lines[0].get_xdata()]
    assert drawn == [NOON, NOON + timedelta(days=1)]


def test_what_was_taken_over_is_no_computation():
    def pictures(*runs):
        book = CostBook.of(runs)
        return plot_latest(asset_rows(book, [], [])), plot_over_time(book)

    assert pictures(run(NOON, reused=True)) == (None, None)
    assert pictures() == (None, None)
    assert all(png.startswith(PNG) for png in pictures(run(NOON), run(NOON + timedelta(1), reused=True)))


def test_of_many_partitions_the_dearest_are_drawn_in_their_order():
    runs = [replace(run(NOON), partition=f"{each:04}", cpu_seconds=float(each % 1500)) for each in range(3000)]
    expected = [each for each in runs if each.cpu_seconds >= 1500 - MOST_BARS / 2]
    assert _dearest(runs) == expected
    assert _dearest(expected) == expected
    picture = Image.open(io.BytesIO(plot_latest(asset_rows(CostBook.of(runs), [], [each.partition for each in runs]))))
    assert picture.height < 5000
