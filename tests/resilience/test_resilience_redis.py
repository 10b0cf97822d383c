"""A guarded call to a real Redis through a network that fails."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from resilience_fault_proxy import FaultProxy
from resilience_guarded_redis import GuardedRedis

from aura.resilience.breaker import BreakerState, CircuitBreaker, CircuitOpenError

pytestmark = pytest.mark.servers

FAILURES = 5
RESET_SECONDS = 10.0


@pytest.fixture
def proxy(redis) -> Iterator[FaultProxy]:
    """A network between this process and Redis."""
    place = urlsplit(redis.address)
    with FaultProxy(place.hostname, place.port) as proxy:
        yield proxy


@pytest.fixture
def clock() -> list[float]:
    """The breaker's time."""
    return [0.0]


@pytest.fixture
def breaker(clock) -> CircuitBreaker:
    """In front of Redis."""
    return CircuitBreaker("Redis", FAILURES, RESET_SECONDS, lambda: clock[0])


@pytest.fixture
def guarded(proxy, breaker) -> Iterator[GuardedRedis]:
    """Calls through the proxy, of which the first has succeeded."""
    client = GuardedRedis(proxy.port, breaker)
    assert client.get(KEY) is None
    yield client
    client.close()


KEY = f"aura:test:{uuid.uuid4()}"


def failing_calls(guarded: GuardedRedis, calls: int) -> dict[type[Exception], int]:
    """How often each error came."""
    errors: dict[type[Exception], int] = {}
    for _ in range(calls):
        with pytest.raises(Exception) as caught:  # noqa: PT011  each kind is counted
            guarded.get(KEY)
        errors[caught.type] = errors.get(caught.type, 0) + 1
    return errors


@pytest.mark.parametrize("fault", ["silence", "reset"])
def test_a_broken_network_costs_five_slow_calls_then_none_and_the_first_trial_after_healing_ends_it(
    guarded, proxy, breaker, clock, fault
) -> None:
    before = guarded.asked
    getattr(proxy, fault)()
    errors = failing_calls(guarded, 60)
    assert errors.pop(CircuitOpenError) == 60 - FAILURES
    assert sum(errors.values()) == FAILURES
    assert guarded.asked - before <= 2 * FAILURES
    assert breaker.reading().state is BreakerState.OPEN

    clock[0] += RESET_SECONDS
    assert failing_calls(guarded, 10)[CircuitOpenError] == 9
    proxy.heal()
    with pytest.raises(CircuitOpenError):
        guarded.get(KEY)
    clock[0] += RESET_SECONDS
    assert guarded.get(KEY) is None
    assert breaker.reading().state is BreakerState.CLOSED


def test_a_slow_network_within_the_timeout_is_no_failure(guarded, proxy, breaker) -> None:
    proxy.delay(0.02)
    for _ in range(5):
        assert guarded.get(KEY) is None
    assert breaker.reading().failures == 0


def test_a_network_that_fails_for_a_moment_is_bridged_by_the_retry(guarded, proxy, breaker) -> None:
    proxy.reset()
    proxy.heal()
    assert guarded.get(KEY) is None
    assert breaker.reading().failures == 0
