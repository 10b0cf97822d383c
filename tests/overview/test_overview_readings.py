"""Readings by key: each thing is read for itself, and only the latest stay."""

from __future__ import annotations

import threading

from aura.overview.readings import AGAIN_SECONDS, KeyedReader, Reader

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


def test_what_was_asked_for_longest_ago_is_read_anew():
    asked = []
    reader = KeyedReader(asked.append, (), 2)
    for name in ("a", "b", "a", "c", "a", "b"):
        reader.latest(name, **ANSWERS)
    assert asked == ["a", "b", "c", "b"]


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
