"""A deadline holds for the whole work, its retries included."""

from __future__ import annotations

import pytest

from aura.resilience.deadline import Deadline, DeadlineError, retrying


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def no_wait(low: float, high: float) -> float:
    return low


def test_time_runs_out_for_all_parts_together() -> None:
    clock = HandClock()
    deadline = Deadline(2.0, clock)
    assert deadline.remaining() == 2.0
    clock.now += 1.5
    assert deadline.remaining() == 0.5
    clock.now += 0.5
    assert deadline.is_over
    with pytest.raises(DeadlineError, match="within 2 s"):
        deadline.remaining()


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_deadline_without_time_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="positive number of seconds"):
        Deadline(seconds)


def test_an_operation_is_tried_again_until_it_succeeds() -> None:
    calls = []

    def third_time_lucky() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionError("not yet")
        return "done"

    assert retrying(third_time_lucky, on=ConnectionError, deadline=Deadline(60), uniform=no_wait) == "done"
    assert len(calls) == 3


def test_an_error_that_trying_again_cannot_mend_is_raised_at_once() -> None:
    calls = []

    def wrong() -> None:
        calls.append(1)
        raise KeyError("no such thing")

    with pytest.raises(KeyError):
        retrying(wrong, on=ConnectionError, deadline=Deadline(60), uniform=no_wait)
    assert len(calls) == 1


def test_attempts_are_bounded_and_the_last_error_is_the_one_raised() -> None:
    calls = []

    def never() -> None:
        calls.append(1)
        raise ConnectionError(f"attempt {len(calls)}")

    with pytest.raises(ConnectionError, match="attempt 4"):
        retrying(never, on=ConnectionError, deadline=Deadline(60), attempts=4, uniform=no_wait)
    assert len(calls) == 4


def test_slow_attempts_end_with_the_deadline_not_with_their_number() -> None:
    clock = HandClock()
    calls = []

    def times_out() -> None:
        calls.append(1)
        clock.now += 0.5
        raise ConnectionError("timed out")

    with pytest.raises(ConnectionError):
        retrying(times_out, on=ConnectionError, deadline=Deadline(1.0, clock), attempts=100, uniform=no_wait)
    assert len(calls) == 2


def test_a_wait_that_would_pass_the_deadline_is_not_begun() -> None:
    drawn = []

    def longest(low: float, high: float) -> float:
        drawn.append(high)
        return high

    def never() -> None:
        raise ConnectionError("down")

    deadline = Deadline(0.5, HandClock())
    with pytest.raises(ConnectionError):
        retrying(never, on=ConnectionError, deadline=deadline, attempts=9, first_wait_seconds=0.7, uniform=longest)
    assert drawn == [0.7]


def test_waits_are_drawn_from_a_range_that_doubles_up_to_its_bound() -> None:
    ranges = []

    def remember(low: float, high: float) -> float:
        ranges.append((low, high))
        return low

    def never() -> None:
        raise ConnectionError("down")

    with pytest.raises(ConnectionError):
        retrying(
            never,
            on=ConnectionError,
            deadline=Deadline(60),
            attempts=5,
            first_wait_seconds=0.1,
            longest_wait_seconds=0.5,
            uniform=remember,
        )
    assert ranges[:4] == [(0.0, 0.1), (0.0, 0.2), (0.0, 0.4), (0.0, 0.5)]


def test_nothing_is_called_when_the_time_is_already_over() -> None:
    clock = HandClock()
    deadline = Deadline(1.0, clock)
    clock.now += 2
    calls = []
    with pytest.raises(DeadlineError):
        retrying(lambda: calls.append(1), on=ConnectionError, deadline=deadline)
    assert not calls


def test_retries_are_logged_and_the_standard_output_stays_free(caplog, capsys) -> None:
    with pytest.raises(ConnectionError):
        retrying(refused, on=ConnectionError, deadline=Deadline(60), attempts=2, uniform=no_wait)
    assert [record.name for record in caplog.records] == ["stamina"]
    assert capsys.readouterr().out == ""


def refused() -> None:
    raise ConnectionError("refused")
