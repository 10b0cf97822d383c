"""Reading slow or absent sources without blocking a page.

Belongs here: one reading at a time in a thread of its own, the latest result for everybody who asks. Does not: what is
read (`stored`, `costs`) and how it looks (`markup`).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Generic, TypeVar

Value = TypeVar("Value")
Value_co = TypeVar("Value_co", covariant=True)
Key = TypeVar("Key", bound=Hashable)

IN_USE_SECONDS = 60.0
"""What was asked for within this time is being looked at: a page asks for all that it shows more often than that."""

LATE = 2.0
"""A source is late after so many times what its last answer took."""

AGAIN_SECONDS = 2.5
"""A source that was not there is asked again after this time, however long a result would be given."""


@dataclass(frozen=True)
class Reading(Generic[Value_co]):
    """What is known of a source now.

    Attributes:
        value: What was read last; None if the last attempt failed or none has ended yet.
        taken_at: When that was, in UTC.
        error: What the last attempt said, with the remedy; None if it worked.
        waited_seconds: How long an attempt has been without an answer; 0 if none is under way.
        took_seconds: How long the last attempt took that ended.
    """

    value: Value_co | None
    taken_at: datetime
    error: str | None
    waited_seconds: float
    took_seconds: float = 0.0

    @property
    def pending(self) -> bool:
        """Whether nothing is known yet because the first attempt is under way."""
        return self.value is None and self.error is None and self.waited_seconds > 0

    @property
    def late(self) -> bool:
        """Whether an attempt is under way that has taken more than `LATE` times as long as the one before."""
        return self.waited_seconds > LATE * self.took_seconds


class Reader(Generic[Value]):
    """Reads a source when somebody asks and the latest result is too old. Any number of threads may ask."""

    def __init__(
        self,
        read: Callable[[], Value],
        errors: tuple[type[Exception], ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is read yet.

        Args:
            read: Reads the source; called in a thread, never twice at a time.
            errors: What it raises when the source is not there; the message names the remedy. Anything else is a
                defect and is raised to whoever asks.
            clock: Seconds.
        """
        self._read = read
        self._errors = errors
        self._clock = clock
        self._lock = threading.Lock()
        self._attempt: Future[None] | None = None
        self._started = 0.0
        self._ended = float("-inf")
        self._latest: Reading[Value] = Reading(None, datetime.now(UTC), None, 0.0)

    def latest(self, *, max_age_seconds: float, patience_seconds: float) -> Reading[Value]:
        """The latest result, read anew if it is too old and the source answers in time.

        Args:
            max_age_seconds: A younger result is given as it is; an error for AGAIN_SECONDS at most.
            patience_seconds: Longest wait for the source since it was asked; after it the older result is given.
        """
        with self._lock:
            oldest = max_age_seconds if self._latest.error is None else min(max_age_seconds, AGAIN_SECONDS)
            if self._attempt is None and self._clock() - self._ended >= oldest:
                self._attempt, self._started = Future(), self._clock()
                threading.Thread(target=self._run, args=(self._attempt,), name="aura-reading", daemon=True).start()
            attempt, left = self._attempt, self._started + patience_seconds - self._clock()
        if attempt is not None:
            wait_for([attempt], max(0.0, left))
        with self._lock:
            if self._attempt is not None and self._attempt.done():
                defect, self._attempt = self._attempt, None
                defect.result()
            waited = 0.0 if self._attempt is None else self._clock() - self._started
            return replace(self._latest, waited_seconds=waited)

    @property
    def is_reading(self) -> bool:
        """Whether an attempt is under way."""
        return self._attempt is not None

    def _run(self, attempt: Future[None]) -> None:
        """Read, and keep the result with the time of its end, whoever asks for it and when."""
        value, said = None, None
        try:
            value = self._read()
        except self._errors as error:
            said = str(error)
        except BaseException as error:  # noqa: BLE001 - a defect: it waits for whoever asks next
            attempt.set_exception(error)
            return
        with self._lock:
            self._attempt, self._ended = None, self._clock()
            self._latest = Reading(value, datetime.now(UTC), said, 0.0, self._ended - self._started)
        attempt.set_result(None)


class KeyedReader(Generic[Key, Value]):
    """Reads one thing of many, with a `Reader` for each; those that were asked for last stay in memory."""

    def __init__(
        self,
        read: Callable[[Key], Value],
        errors: tuple[type[Exception], ...],
        kept: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is read yet.

        Args:
            read: Reads one of them; called in a thread, for several keys at a time.
            errors: As of a `Reader`.
            kept: How many stay in memory, beside those that were asked for within `IN_USE_SECONDS` or are being read.
            clock: Seconds.
        """
        self._read = read
        self._errors = errors
        self._kept = kept
        self._clock = clock
        self._lock = threading.Lock()
        self._readers: OrderedDict[Key, Reader[Value]] = OrderedDict()
        self._asked_at: dict[Key, float] = {}

    def latest(self, key: Key, *, max_age_seconds: float, patience_seconds: float) -> Reading[Value]:
        """The latest result for a key; see `Reader.latest`."""
        with self._lock:
            reader = self._readers.setdefault(key, Reader(lambda: self._read(key), self._errors, self._clock))
            self._readers.move_to_end(key)
            self._asked_at[key] = self._clock()
            self._make_room()
        return reader.latest(max_age_seconds=max_age_seconds, patience_seconds=patience_seconds)

    def _make_room(self) -> None:
        before = self._clock() - IN_USE_SECONDS
        for key in [
            key for key, reader in self._readers.items() if self._asked_at[key] < before and not reader.is_reading
        ]:
            if len(self._readers) <= self._kept:
                break
            del self._readers[key], self._asked_at[key]
