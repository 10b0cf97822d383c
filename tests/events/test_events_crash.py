"""Nothing acknowledged is lost, repeated or out of order, whatever is killed when; and the checker would notice."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest
from events_crash import bugs, power
from events_crash.environment import ALL
from events_crash_run import Environment, checker, run, settings, until_caught, verdict


@pytest.fixture
def power_can_be_cut():
    """Where it cannot the test is skipped with the reason, and fails in CI."""
    if reason := power.available():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.mark.slow
def test_the_embedded_log_survives_the_death_of_producers_and_consumers(tmp_path):
    found, report = run(settings(tmp_path), seed=1, kills=20, events=20_000)
    assert found.clean, found
    assert found.acknowledged >= 20_000
    assert sum(report.kills.values()) == 20
    assert set(report.kills) == {"producer", "consumer", ALL}


@pytest.mark.slow
@pytest.mark.servers
def test_the_log_on_kafka_survives_the_death_of_the_broker_producers_and_consumers(servers, tmp_path):
    kafka = servers("kafka")
    found, report = run(settings(tmp_path, kafka.address), seed=2, kills=4, broker=kafka, broker_kills=2, events=20_000)
    assert found.clean, found
    assert found.acknowledged >= 20_000
    assert report.kills["broker"] == 2


def is_damaged(path):
    """Whether SQLite finds the file wrong."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        try:
            return connection.execute("PRAGMA integrity_check").fetchone() != ("ok",)
        except sqlite3.DatabaseError:
            return True


def cut_power_often(chosen, *, seed=3, cuts=3, events=300):
    """Cut the power some times, go on each time, and return the verdict."""
    with Environment(chosen, seed) as environment:
        for number in range(1, cuts + 1):
            environment.wait_for(number * events)
            environment.kill_all()
            for path in (Path(chosen.place), chosen.folder / "effects.db"):
                power.cut_power(path, chosen.shadow)
            environment.restart_all()
        environment.finish()
    return verdict(chosen)


@pytest.mark.slow
@pytest.mark.usefixtures("power_can_be_cut")
def test_the_embedded_log_survives_a_power_cut(tmp_path):
    found = cut_power_often(settings(tmp_path, batch=20, shadow=tmp_path / "shadow"))
    assert found.clean, found
    assert found.acknowledged >= 900


@pytest.mark.slow
@pytest.mark.usefixtures("power_can_be_cut")
@pytest.mark.parametrize("bug", [bugs.NO_FSYNC, bugs.RARE_FSYNC])
def test_a_log_that_does_not_sync_what_it_acknowledges_is_caught(tmp_path, bug):
    def caught(folder, seed):
        chosen = settings(folder, batch=20, shadow=folder / "shadow", producer_bug=bug)
        try:
            return cut_power_often(chosen, seed=seed).lost > 0
        except RuntimeError:
            # A process ended by itself: the power cut may have left a file that SQLite cannot use at all.
            return is_damaged(Path(chosen.place))

    assert until_caught(caught, tmp_path)


@pytest.mark.slow
def test_an_offset_committed_before_its_effect_is_caught(tmp_path):
    def caught(folder, seed):
        chosen = settings(folder, producers=1, batch=20, consumer_bug=bugs.OFFSET_FIRST)
        found, _ = run(chosen, seed=seed, kills=6, kind="consumer")
        assert not found.lost
        return found.without_effect > 0

    assert until_caught(caught, tmp_path)


@pytest.mark.slow
def test_a_missing_dedupe_is_caught(tmp_path):
    # Small batches: most of the time is the commit. All are killed, since SQLite only then takes up, in its recovery, a
    # commit that was written and not yet acknowledged.
    def caught(folder, seed):
        chosen = settings(folder, producers=1, batch=3, producer_bug=bugs.NO_DEDUPE, consumer_bug=bugs.NO_DEDUPE)
        found, _ = run(chosen, seed=seed, kills=6, kind=ALL)
        assert not found.lost
        return found.duplicates > 0

    assert until_caught(caught, tmp_path)


KEY_0, KEY_1 = "p/0", "p/1"
RIGHT = [("p", KEY_0, 0), ("p", KEY_1, 1), ("p", KEY_0, 8)]


@pytest.mark.parametrize(
    ("logged", "effects", "wrong"),
    [
        (RIGHT, RIGHT, {}),
        (RIGHT[:2], RIGHT, {"lost": 1}),
        (RIGHT, RIGHT[1:], {"without_effect": 1}),
        (RIGHT, [*RIGHT, RIGHT[2]], {"duplicates": 1}),
        (RIGHT, [RIGHT[2], RIGHT[1], RIGHT[0]], {"disordered": 1}),
        (RIGHT, [RIGHT[1], RIGHT[0], RIGHT[2]], {}),
        ([*RIGHT, RIGHT[0]], RIGHT, {}),
        (RIGHT, [*RIGHT, ("q", "q/0", 0)], {"unplanned": 1}),
    ],
)
def test_the_checker_counts_each_kind_of_wrong(logged, effects, wrong):
    numbers = {"p": 9}
    spare = [("p", f"p/{n % 8}", n) for n in range(2, 8)]
    found = checker.check(numbers, [*logged, *spare], [*effects, *spare])
    assert found.clean == (not wrong)
    for name in ("lost", "without_effect", "duplicates", "disordered", "unplanned"):
        assert getattr(found, name) == wrong.get(name, 0)
