"""A circuit breaker against a model of it, with a clock that the test moves."""

from __future__ import annotations

import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aura.resilience.breaker import BreakerState, CircuitBreaker, CircuitOpenError

FAILURES = 3
RESET = 10.0


class ServerError(Exception):
    """What a server that is down makes of a call."""


def fail() -> None:
    raise ServerError("no answer")


class BreakerMachine(RuleBasedStateMachine):
    """The model: failures in a row, and the moment from which a trial call is let through."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = CircuitBreaker("the server", FAILURES, RESET, lambda: self.now, on=(ServerError,))
        self.in_a_row = 0
        self.trial_from: float | None = None

    @rule(seconds=st.sampled_from([0.5, 3.0, RESET, 4 * RESET]))
    def time_passes(self, seconds: float) -> None:
        """The clock moves."""
        self.now += seconds

    @precondition(lambda self: self.trial_from is None or self.now >= self.trial_from)
    @rule()
    def a_call_that_is_let_through_fails(self) -> None:
        """The server does not answer."""
        with pytest.raises(ServerError):
            self.breaker.call(fail)
        self.in_a_row += 1
        if self.trial_from is not None or self.in_a_row >= FAILURES:
            self.trial_from = self.now + RESET

    @precondition(lambda self: self.trial_from is None or self.now >= self.trial_from)
    @rule(refused=st.booleans())
    def a_call_that_is_let_through_is_answered(self, refused: bool) -> None:
        """The server answers, be it with a refusal."""

        def answer() -> str:
            if refused:
                raise ValueError("the server says no, so it is there")
            return "yes"

        if refused:
            with pytest.raises(ValueError, match="says no"):
                self.breaker.call(answer)
        else:
            assert self.breaker.call(answer) == "yes"
        self.in_a_row, self.trial_from = 0, None

    @precondition(lambda self: self.trial_from is not None and self.now < self.trial_from)
    @rule()
    def a_call_is_refused_without_being_made(self) -> None:
        """The breaker says when it will try again, and why not now."""
        calls: list[int] = []
        with pytest.raises(CircuitOpenError) as refused:
            self.breaker.call(lambda: calls.append(1))
        assert not calls
        assert refused.value.retry_seconds == self.trial_from - self.now
        assert "the server" in str(refused.value)
        assert "no answer" in str(refused.value)

    @invariant()
    def the_reading_tells_the_state(self) -> None:
        """At any moment."""
        reading = self.breaker.reading()
        assert reading.failures == self.in_a_row
        assert reading.state is (BreakerState.CLOSED if self.trial_from is None else BreakerState.OPEN)
        assert reading.retry_seconds == max(0.0, (self.trial_from or 0.0) - self.now)
        assert bool(reading.reason) == bool(self.in_a_row)


BreakerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBreakerFollowsItsModel = BreakerMachine.TestCase


def opened(clock: list[float]) -> CircuitBreaker:
    breaker = CircuitBreaker("the server", FAILURES, RESET, lambda: clock[0])
    for _ in range(FAILURES):
        with pytest.raises(ServerError):
            breaker.call(fail)
    return breaker


def test_one_trial_call_at_a_time_and_every_other_is_refused() -> None:
    clock = [0.0]
    breaker = opened(clock)
    clock[0] = RESET

    def trial() -> str:
        assert breaker.reading().state is BreakerState.HALF_OPEN
        with pytest.raises(CircuitOpenError):
            breaker.call(lambda: "a second caller")
        return "answered"

    assert breaker.call(trial) == "answered"
    assert breaker.reading().state is BreakerState.CLOSED


def test_a_trial_that_never_ends_does_not_keep_the_breaker_open_for_ever() -> None:
    clock = [0.0]
    breaker = opened(clock)
    clock[0] = RESET

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        breaker.call(interrupted)
    assert breaker.reading().state is BreakerState.HALF_OPEN
    clock[0] = 2 * RESET
    assert breaker.call(lambda: "answered") == "answered"
    assert breaker.reading().state is BreakerState.CLOSED


def test_a_late_answer_to_a_call_from_before_the_opening_closes_nothing() -> None:
    clock = [0.0]
    breaker = CircuitBreaker("the server", FAILURES, RESET, lambda: clock[0])

    def slow() -> str:
        for _ in range(FAILURES):
            with pytest.raises(ServerError):
                breaker.call(fail)
        return "a late answer"

    assert breaker.call(slow) == "a late answer"
    assert breaker.reading().state is BreakerState.OPEN


def test_threads_that_fail_together_make_at_most_one_trial_call_after_the_reset() -> None:
    clock = [0.0]
    breaker = opened(clock)
    clock[0] = RESET
    release, made = threading.Event(), []

    def trial() -> None:
        made.append(1)
        release.wait(30)
        raise ServerError("still down")

    def ask() -> None:
        try:
            breaker.call(trial)
        except CircuitOpenError:
            refused.release()
        except ServerError:
            pass

    refused = threading.Semaphore(0)
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(7):
        assert refused.acquire(timeout=30)
    release.set()
    for thread in threads:
        thread.join(30)
    assert len(made) == 1
    assert breaker.reading().state is BreakerState.OPEN


@pytest.mark.parametrize(("failures", "reset"), [(0, 1.0), (1, 0.0)])
def test_a_breaker_that_could_not_work_is_refused(failures: int, reset: float) -> None:
    with pytest.raises(ValueError, match="a breaker needs"):
        CircuitBreaker("the server", failures, reset)
