"""Readings by key: each thing is read for itself, and only the latest stay."""

from __future__ import annotations

import itertools
import threading
from datetime import UTC, datetime

import pytest

from aura.overview.readings import AGAIN_SECONDS, IN_USE_SECONDS, KeyedReader, Reader

ANSWERS = {"max_age_seconds": 60.0, "patience_seconds": 30.0}


class AwayError(Exception):
    """The source is not there."""


def test_a_source_that_hangs_holds_up_nobody_who_asks_for_another():
    release = threading.Event()

    def read(name):
        if name == "slow":
            assert release.wait(30)
        return name.upper()

    reader = KeyedReader(read, (), 4)
    assert reader.latest("slow", max_age_seconds=60, patience_seconds=0.01).pending
    assert reader.latest("quick", **ANSWERS).value == "QUICK"
    release.set()
    assert reader.latest("slow", **ANSWERS).value == "SLOW"


def test_an_error_is_that_of_its_key():
    def read(name):
        if name == "away":
            raise AwayError("start it")
        return name

    reader = KeyedReader(read, (AwayError,), 4)
    absent = reader.latest("away", **ANSWERS)
    assert (absent.value, absent.error, absent.pending) == (None, "start it", False)
    assert reader.latest("there", **ANSWERS).error is None


def test_what_is_no_longer_looked_at_is_read_anew_the_longest_ago_first():
    now, asked = [0.0], []
    reader = KeyedReader(asked.append, (), 2, lambda: now[0])
    for name in ("a", "b", "a", "c", "a", "b"):
        reader.latest(name, max_age_seconds=1e9, patience_seconds=30)
        now[0] += IN_USE_SECONDS / 1.5
    assert asked == ["a", "b", "c", "b"]


def test_all_that_one_page_shows_stays_however_much_it_is():
    asked = []
    reader = KeyedReader(asked.append, (), 2)
    for _ in range(3):
        for name in "abcde":
            reader.latest(name, **ANSWERS)
    assert asked == list("abcde")


def test_what_is_being_read_stays_until_it_has_been_read():
    now, release, asked = [0.0], threading.Event(), []

    def read(name):
        asked.append(name)
        assert name != "slow" or release.wait(30)
        return name

    reader = KeyedReader(read, (), 1, lambda: now[0])
    reader.latest("slow", max_age_seconds=1e9, patience_seconds=0.01)
    for name in ("a", "b"):
        now[0] += 2 * IN_USE_SECONDS
        reader.latest(name, max_age_seconds=1e9, patience_seconds=30)
    release.set()
    assert reader.latest("slow", max_age_seconds=1e9, patience_seconds=1e9).value == "slow"
    assert asked == ["slow", "a", "b"]


def test_a_result_has_the_time_of_its_reading_and_one_that_nobody_fetched_in_time_is_read_anew():
    now, release, count = [0.0], threading.Event(), itertools.count(1)
    read_twice = threading.Event()

    def read():
        assert release.wait(30)
        number = next(count)
        if number == 2:
            read_twice.set()
        return number

    reader = Reader(read, (), lambda: now[0])
    asked = {"max_age_seconds": 60.0, "patience_seconds": 0.0}
    reader.latest(**asked)
    now[0] += 1
    assert reader.latest(**asked).pending
    release.set()
    while reader.is_reading:
        threading.Event().wait(0.001)
    ended = datetime.now(UTC)
    now[0] += 30
    young = reader.latest(**asked)
    assert young.value == 1
    assert young.taken_at <= ended
    now[0] += 31
    reader.latest(**asked)
    assert read_twice.wait(30)


def test_a_source_is_late_if_it_takes_much_longer_than_before():
    now, release = [0.0], threading.Event()

    def read():
        if now[0] == 0:
            now[0] = 3.0
        else:
            assert release.wait(30)

    reader = Reader(read, (), lambda: now[0])
    asked = {"max_age_seconds": 1.0, "patience_seconds": 0.0}
    first = reader.latest(max_age_seconds=1.0, patience_seconds=30)
    assert (first.took_seconds, first.late) == (3.0, False)
    now[0] = 100.0
    reader.latest(**asked)
    now[0] += 2 * first.took_seconds
    assert not reader.latest(**asked).late
    now[0] += 1
    assert reader.latest(**asked).late
    release.set()


def test_a_defect_is_raised_to_who_asks_next_and_then_the_source_is_asked_again():
    answers = [ZeroDivisionError("a defect"), "here"]

    def read():
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    reader = Reader(read, (AwayError,))
    with pytest.raises(ZeroDivisionError):
        reader.latest(**ANSWERS)
    assert reader.latest(**ANSWERS).value == "here"


def test_a_source_that_was_not_there_is_asked_again_soon():
    now, answers = [0.0], [AwayError("start it"), "here"]

    def read():
        answer = answers.pop(0)
        if isinstance(answer, AwayError):
            raise answer
        return answer

    reader = Reader(read, (AwayError,), lambda: now[0])
    assert reader.latest(**ANSWERS).error == "start it"
    now[0] += AGAIN_SECONDS / 2
    assert reader.latest(**ANSWERS).error == "start it"
    now[0] += AGAIN_SECONDS
    assert reader.latest(**ANSWERS).value == "here"


def test_who_comes_later_does_not_wait_as_long_again():
    now, release = [0.0], threading.Event()
    reader = Reader(lambda: release.wait(30), (), lambda: now[0])
    assert reader.latest(max_age_seconds=60, patience_seconds=0.01).value is None
    now[0] += 3600
    assert reader.latest(max_age_seconds=60, patience_seconds=3600).waited_seconds == 3600
    release.set()
    now[0] -= 3600
    assert reader.latest(**ANSWERS).value
