"""A circuit breaker: a server that is down costs its callers nothing after the first failures.

Belongs here: the breaker alone (Nygard, "Release It!", 2nd ed., 5.2). Does not: retries, time-outs (see
`aura.resilience.deadline`): a breaker helps only where each call is bounded in time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

Result = TypeVar("Result")


class BreakerState(StrEnum):
    """What a breaker does with a call."""

    CLOSED = "closed"  # it is made
    OPEN = "open"  # it is refused
    HALF_OPEN = "half-open"  # one trial call is under way, every other is refused


class CircuitOpenError(ConnectionError):
    """The call was not made, since the last ones failed.

    Attributes:
        retry_seconds: When the next call will be let through, from the moment of the error.
    """

    def __init__(self, name: str, *, failures: int, reason: str, retry_seconds: float) -> None:
        super().__init__(
            f"{name} is not asked at present: {failures} calls in a row failed, the last with {reason.rstrip('.')}. "
            f"The next call is let through in {retry_seconds:.1f} s."
        )
        self.retry_seconds = retry_seconds


@dataclass(frozen=True)
class BreakerReading:
    """A breaker as a status shows it.

    Attributes:
        name: The server it guards.
        state: What it does with a call.
        failures: Failures in a row.
        reason: The last failure, or "" when the last call succeeded.
        retry_seconds: When a call will be let through; 0.0 when one would be now.
    """

    name: str
    state: BreakerState
    failures: int
    reason: str
    retry_seconds: float


class CircuitBreaker:
    """Lets calls through until several in a row have failed, then one trial call at a time.

    A trial call is let through `reset_seconds` after the breaker opened or after the last trial began; it closes the
    breaker when it succeeds. The outcome of a call that began before the breaker opened changes nothing any more.
    Safe to share between threads; each process has its own.
    """

    def __init__(
        self,
        name: str,
        failures: int = 5,
        reset_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        *,
        on: tuple[type[Exception], ...] = (Exception,),
    ) -> None:
        """Begin closed.

        Args:
            name: The server, in the words of an error message.
            failures: This many failures in a row open the breaker.
            reset_seconds: Time from opening, or from a trial call, to the next trial call.
            clock: A clock in seconds that never goes back.
            on: The errors that count as failures; after any other the server is known to answer.

        Raises:
            ValueError: `failures` or `reset_seconds` is not positive.
        """
        if failures < 1 or not reset_seconds > 0:
            raise ValueError(f"a breaker needs failures >= 1 and reset_seconds > 0, got {failures} and {reset_seconds}")
        self.name = name
        self.failures = failures
        self.reset_seconds = reset_seconds
        self._clock = clock
        self._on = on
        self._lock = threading.Lock()
        self._state = BreakerState.CLOSED
        self._failed = 0
        self._reason = ""
        self._next_trial = 0.0
        self._epoch = 0  # counts changes that make the outcome of calls already under way meaningless

    def call(self, operation: Callable[[], Result]) -> Result:
        """Make a call, or refuse it at once.

        Raises:
            CircuitOpenError: The call was not made.
        """
        epoch = self._admit()
        try:
            result = operation()
        except self._on as error:
            self._record_failure(epoch, error)
            raise
        except Exception:
            self._record_success(epoch)
            raise
        self._record_success(epoch)
        return result

    def reading(self) -> BreakerReading:
        """The state at this moment."""
        with self._lock:
            return BreakerReading(self.name, self._state, self._failed, self._reason, self._until_trial())

    def _until_trial(self) -> float:
        return 0.0 if self._state is BreakerState.CLOSED else max(0.0, self._next_trial - self._clock())

    def _admit(self) -> int:
        with self._lock:
            if self._state is not BreakerState.CLOSED:
                # A trial that never ends (a thread that died) holds up the next one for reset_seconds only.
                if (wait := self._until_trial()) > 0:
                    raise CircuitOpenError(self.name, failures=self._failed, reason=self._reason, retry_seconds=wait)
                self._state = BreakerState.HALF_OPEN
                self._next_trial = self._clock() + self.reset_seconds
                self._epoch += 1
            return self._epoch

    def _record_success(self, epoch: int) -> None:
        with self._lock:
            if epoch != self._epoch:
                return
            self._failed = 0
            self._reason = ""
            if self._state is not BreakerState.CLOSED:
                self._state = BreakerState.CLOSED
                self._epoch += 1

    def _record_failure(self, epoch: int, error: Exception) -> None:
        with self._lock:
            if epoch != self._epoch:
                return
            self._failed += 1
            self._reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if self._state is BreakerState.HALF_OPEN or self._failed >= self.failures:
                self._state = BreakerState.OPEN
                self._next_trial = self._clock() + self.reset_seconds
                self._epoch += 1
