"""The rows of the table: freshness, last cost, checks, what is left out; and the summary over them."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.charts import FIGURES, cost_chart, figures_of
from aura.measure.history import MaterializationCost
from aura.overview import asset_markup, markup, units
from aura.overview.assets import BY_HAND, FRESH_FOR, Freshness, asset_rows
from aura.overview.costs import OUTCOMES, CostBook
from aura.overview.stored import StoredValue
from aura.tiers.records import Tier

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
RUN = MaterializationCost(
    asset="embeddings",
    partition="notes",
    group="embeddings",
    run_id="run",
    mlflow_run_id="0",
    started_at=NOW - timedelta(hours=2),
    succeeded=True,
    reused=False,
    wall_seconds=60.0,
    cpu_seconds=30.0,
    peak_memory_mib=100.0,
    energy_source="measured",
    joules=5.0,
    code_version="1",
    figures={"rows": 7.0, "check_norms": 1.0, "check_collapse": 0.0},
    tags={"outcome": "made"},
)


def run(hours_ago, outcome="made", **changes):
    return replace(
        RUN,
        started_at=NOW - timedelta(hours=hours_ago),
        tags={"outcome": outcome},
        succeeded=outcome != "failed",
        reused=outcome == "reused",
        **changes,
    )


def book(*runs):
    return CostBook.of(replace(each, mlflow_run_id=str(number)) for number, each in enumerate(runs))


def the_row(*runs, stored=()):
    (row,) = asset_rows(book(*runs), stored, ["notes"])
    return row


@pytest.mark.parametrize("outcome", ["failed", "refused"])
def test_a_run_that_published_nothing_makes_nothing_fresh(outcome):
    row = the_row(run(30), run(1, outcome))
    assert row.freshness(NOW) is Freshness.LATE
    assert row.setback == outcome
    assert row.computed == run(30)
    assert the_row(run(1, outcome)).freshness(NOW) is Freshness.NEVER


def test_freshness_counts_from_the_end_of_the_run_and_the_limit_still_is_fresh():
    row = the_row(run(0))
    assert row.freshness(NOW + timedelta(seconds=60) + FRESH_FOR) is Freshness.FRESH
    assert row.freshness(NOW + timedelta(seconds=61) + FRESH_FOR) is Freshness.LATE


def test_a_value_whose_source_was_listed_without_a_change_stays_fresh_and_one_that_missed_a_change_is_late():
    def listing(hours_ago, **figures):
        return run(hours_ago, asset="manifest", group="corpus", figures={"added": 0.0, **figures})

    def freshness(*runs):
        rows = asset_rows(book(*runs), [], ["notes"])
        return {row.asset: row.freshness(NOW) for row in rows}["embeddings"]

    assert freshness(listing(51, added=3.0), run(50), listing(1)) is Freshness.FRESH
    assert freshness(run(50), listing(49, added=3.0), listing(1)) is Freshness.LATE
    assert freshness(run(50), listing(30)) is Freshness.LATE


def test_reuse_keeps_an_asset_fresh_and_the_cost_and_the_checks_are_those_of_the_computation():
    computed = run(30)
    row = the_row(computed, run(1, "reused", wall_seconds=0.1, figures={"rows": 99.0}))
    assert row.freshness(NOW) is Freshness.FRESH
    assert row.computed == computed
    assert row.reuse.wall_seconds == 0.1
    assert row.checks == {"norms": True, "collapse": False}
    assert row.rows == 7


def test_every_registered_source_has_every_partitioned_asset_and_forgotten_sources_have_none():
    placement = run(1, asset="placement", partition=None, group="tiers")
    rows = asset_rows(book(run(1), run(1, partition="forgotten"), placement), [], ["notes", "other"])
    assert [(row.asset, row.partition, row.freshness(NOW)) for row in rows] == [
        ("embeddings", "notes", Freshness.FRESH),
        ("embeddings", "other", Freshness.NEVER),
        ("placement", None, Freshness.FRESH),
    ]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_what_was_run_or_is_published_was_tried_and_a_partition_that_only_should_have_it_was_not(outcome):
    rows = asset_rows(book(run(1, outcome)), [], ["notes", "other"])
    assert {row.partition: row.tried for row in rows} == {"notes": True, "other": False}
    (published,) = asset_rows(CostBook({}), [StoredValue("embeddings", None, 5, {Tier.L3: 8}, NOW)], [])
    assert published.tried


def test_a_published_value_has_a_row_without_any_cost():
    stored = StoredValue("embeddings", "notes", 5, {Tier.L1: 1024, Tier.L3: 512}, NOW - timedelta(hours=3))
    (row,) = asset_rows(CostBook({}), [stored], [])
    assert (row.rows, row.stored.bytes, row.freshness(NOW)) == (5, 1536, Freshness.UNKNOWN)
    table = asset_markup.asset_table([row], NOW, "http://dagster", asset_markup.Known(costs=False, store=True))
    assert "published 3 h ago" in table
    assert "2026-11-20 09:00 UTC" in markup.value_tiers([stored])


def test_joules_of_different_sources_are_never_added_up():
    modelled = run(1, asset="b", energy_source="modelled", joules=100.0)
    absent = run(1, asset="c", energy_source="unavailable", joules=None)
    summary = asset_markup.overview(asset_rows(book(run(1), modelled, absent), [], ["notes"]), NOW)
    assert "5.00 J" in summary
    assert "measured, 100 J modelled, unavailable for 1" in summary
    assert "105" not in summary
    titles = [figure.title for figure in figures_of([run(1), modelled])]
    for figure in figures_of([run(1), modelled])[-2:]:
        assert len(cost_chart([run(1), modelled], figure)["data"]["values"]) == 1
    assert titles[-2:] == ["energy measured, J", "energy modelled, J"]


@pytest.mark.parametrize("outcomes", [OUTCOMES, *((each,) for each in OUTCOMES)])
def test_every_outcome_has_a_shape_of_its_own_and_several_have_a_legend(outcomes):
    spec = cost_chart([run(number, each) for number, each in enumerate(outcomes)], FIGURES[0])
    assert {point["outcome"] for point in spec["data"]["values"]} == set(outcomes)
    shape = spec["layer"][1]["encoding"]["shape"]
    assert shape["scale"]["domain"] == list(outcomes)
    assert len(set(shape["scale"]["range"])) == len(outcomes)
    assert (shape["legend"] is not None) == (len(outcomes) > 1)


def tiles(*runs):
    text = re.sub(r"<[^>]+>", "|", asset_markup.overview(asset_rows(book(*runs), [], ["notes"]), NOW))
    return [part for part in text.split("|") if part]


def test_the_summary_names_what_failed_with_its_partition_and_what_had_nothing_to_make_not_at_all():
    empty, drifting = run(1, "skipped", asset="audio_embeddings"), run(1, "failed", asset="embedding_drift")
    shown = tiles(run(2), empty, drifting, run(1, "refused", asset="placement", partition=None))
    assert shown[1:3] == ["1 of 1", "limit 1 d · 3 never · embedding_drift of notes failed · placement refused"]
    assert shown[5] == "embeddings of notes: collapse"
    (row,) = (row for row in asset_rows(book(empty), [], ["notes"]))
    assert "nothing to make" in asset_markup.asset_table([row], NOW, "", asset_markup.Known(costs=True, store=True))


@pytest.mark.parametrize("group", sorted(BY_HAND))
def test_what_is_made_by_hand_only_is_never_late(group):
    made = run(900, asset="report", partition=None, group=group)
    (row,) = asset_rows(book(made), [], [])
    assert row.freshness(NOW) is Freshness.MADE
    assert tiles(made, run(50))[1:3] == ["0 of 1", "limit 1 d · 1 late · 1 made by hand, without a limit"]
    (failed,) = asset_rows(book(replace(made, succeeded=False, tags={"outcome": "failed"})), [], [])
    assert failed.freshness(NOW) is Freshness.NEVER


def test_the_summary_adds_up_what_was_computed_and_not_what_was_taken_over():
    reused = run(1, "reused", asset="b", wall_seconds=900.0, cpu_seconds=900.0, joules=900.0)
    both = tiles(run(2), run(1, "reused", wall_seconds=900.0), reused)
    assert both[6:9] == ["computing it all took", "60.0 s", "30.0 s of CPU time, not known for 1"]
    assert both[9:] == ["energy of that", "5.00 J", "measured"]
    assert tiles(reused)[6:9] == ["computing it all took", "unknown", "not known for 1"]
    assert tiles(run(1, "failed"))[6:9] == ["computing it all took", "unknown", "no computation is known"]


def test_names_from_outside_are_escaped():
    row = the_row(run(1, group="<script>"))
    table = asset_markup.asset_table([row], NOW, "http://dagster", asset_markup.Known(costs=True, store=True))
    assert "<script>" not in table
    assert "<script>" not in markup.heading("<script>")
    assert "<script>" not in markup.remedy("<script>", "`<script>`")


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (units.size(0), "0 B"),
        (units.size(1536), "1.50 KiB"),
        (units.size(4 * 2**20), "4.00 MiB"),
        (units.size(3e12), "2.73 TiB"),
        (units.seconds(0.1234), "0.123 s"),
        (units.joules(1234.5), "1,234 J"),
        (units.age(NOW - timedelta(days=1, hours=4), NOW), "1 d 4 h ago"),
        (units.age(NOW - timedelta(minutes=5, seconds=9), NOW), "5 min ago"),
        (units.age(NOW, NOW), "just now"),
        (units.age(NOW + timedelta(seconds=30), NOW), "just now"),
        (units.age(NOW + timedelta(hours=2), NOW), "2 h ahead of this clock"),
    ],
)
def test_figures_have_their_unit(shown, expected):
    assert shown == expected
