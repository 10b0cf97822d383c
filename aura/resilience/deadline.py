"""Total deadlines, and retries that keep to them.

Belongs here: how long a piece of work may take in all, and trying it again within that time.
Does not: which operations may be repeated. Only idempotent ones may: a call that timed out may have had its effect.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import TypeVar

import stamina

Result = TypeVar("Result")


class DeadlineError(TimeoutError):
    """The time for a piece of work is over. Also a TimeoutError."""


class Deadline:
    """The moment by which a piece of work, with all its parts and retries, has to be done.

    Hand `remaining()` to each remote call as its time-out: the sum then stays within the deadline however many calls
    there are.

    Attributes:
        seconds: The whole time, from the making of this object.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the time.

        Args:
            seconds: The whole time.
            clock: A clock in seconds that never goes back.

        Raises:
            ValueError: `seconds` is not positive.
        """
        if not seconds > 0:
            raise ValueError(f"a deadline of {seconds} s leaves no time: expected a positive number of seconds")
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    def left(self) -> float:
        """Seconds left; 0.0 when the time is over."""
        return max(0.0, self._end - self._clock())

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        return self.left() == 0.0

    def remaining(self) -> float:
        """Seconds left, more than 0.

        Raises:
            DeadlineError: No time is left.
        """
        left = self.left()
        if left == 0.0:
            raise DeadlineError(f"the work was not done within {self.seconds:g} s, the time it was given")
        return left


def retrying(
    operation: Callable[[], Result],
    *,
    on: type[Exception] | tuple[type[Exception], ...],
    deadline: Deadline,
    attempts: int = 4,
    first_wait_seconds: float = 0.05,
    longest_wait_seconds: float = 1.0,
    uniform: Callable[[float, float], float] = random.uniform,
) -> Result:
    """Call an idempotent operation until it succeeds, fails for good, or its time is over.

    The wait before the n-th retry is drawn evenly between 0 and `first_wait_seconds * 2 ** n`, at most
    `longest_wait_seconds` ("full jitter": many clients of a server that comes back do not come back at one moment).
    A retry whose wait would pass the deadline is not made. Each one that is made is logged.

    Args:
        operation: What to call. It takes its own time-outs from the same deadline, and can be repeated harmlessly.
        on: The errors after which trying again can help; any other is raised at once.
        deadline: When all attempts with their waits have to be done.
        attempts: The largest number of calls.
        first_wait_seconds: Longest wait before the first retry.
        longest_wait_seconds: Longest wait before any retry.
        uniform: Draws a number between two others.

    Raises:
        DeadlineError: No time was left for the first call.
    """
    deadline.remaining()
    _log_retries()
    made = 0

    def wait_before_retry(error: Exception) -> bool | float:
        nonlocal made
        wait = uniform(0.0, min(longest_wait_seconds, first_wait_seconds * 2**made))
        made += 1
        return wait if isinstance(error, on) and wait < deadline.left() else False

    for attempt in stamina.retry_context(on=wait_before_retry, attempts=attempts, timeout=None):
        with attempt:
            return operation()
    raise AssertionError("stamina ends with a result or an error")  # pragma: no cover


@functools.cache
def _log_retries() -> None:
    """Report retries to `logging`: where structlog is installed, stamina's default prints to the standard output."""
    stamina.instrumentation.set_on_retry_hooks([stamina.instrumentation.LoggingOnRetryHook])
