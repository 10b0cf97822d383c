"""What to do next about the events that nobody has acted on: a pure decision, taken anew at every look.

Belongs here: offset ranges, the attempts made on them, and the rule. Does not: reading the log, launching anything (see
the `sensors` package).

Level-triggered: the decision follows from what was last done for good and from what the log holds, never from what was
said before. Whoever dies between two looks changes nothing. A range that has failed too often is given up until further
events arrive, and is then part of the next range, so nothing is lost.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

RANGE = re.compile(r"(?P<topic>.+)-(?P<partition>\d+):(?P<first>\d+)-(?P<end>\d+)")


@dataclass(frozen=True, order=True)
class OffsetRange:
    """A piece of one partition of a topic.

    Attributes:
        topic: The topic.
        partition: The partition of the topic.
        first: First offset.
        end: The offset after the last.
    """

    topic: str
    partition: int
    first: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.end:
            raise ValueError(f"offsets [{self.first}, {self.end}) of {self.topic}-{self.partition} are no range")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote; ValueError if it is something else."""
        found = RANGE.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no range of offsets: expected <topic>-<partition>:<first>-<end>")
        return cls(found["topic"], int(found["partition"]), int(found["first"]), int(found["end"]))

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}:{self.first}-{self.end}"


class Outcome(StrEnum):
    """How an attempt stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class Attempt:
    """One try at a range.

    Attributes:
        events: What it was made for.
        number: From 1 on.
        outcome: How it stands.
        ended_at: When it ended, seconds since 1970; 0.0 while it goes on.
    """

    events: OffsetRange
    number: int
    outcome: Outcome
    ended_at: float = 0.0


@dataclass(frozen=True)
class RetryPolicy:
    """How often a range is tried.

    Attributes:
        attempts: Tries in all.
        first_wait_seconds: Wait after the first failure; it doubles with each further one.
        longest_wait_seconds: Longest wait.
    """

    attempts: int = 4
    first_wait_seconds: float = 60.0
    longest_wait_seconds: float = 3600.0

    def wait_seconds(self, failures: int) -> float:
        """Wait after this many failures, at least one."""
        return min(self.first_wait_seconds * float(2 ** (failures - 1)), self.longest_wait_seconds)


@dataclass(frozen=True)
class Launch:
    """Try this range now."""

    events: OffsetRange
    number: int


@dataclass(frozen=True)
class Done:
    """This range has succeeded: put it on record."""

    events: OffsetRange


@dataclass(frozen=True)
class Wait:
    """Do nothing at this look.

    Attributes:
        reason: Why, for people.
        given_up: The last range failed too often; only further events bring another try.
    """

    reason: str
    given_up: bool = False


Decision = Launch | Done | Wait


def decide(
    pending: OffsetRange | None, attempts: Sequence[Attempt], *, now: float, policy: RetryPolicy = RetryPolicy()
) -> Decision:
    """Say what to do about the events from the last recorded success on.

    Args:
        pending: From what was last done for good to the last event that matters; None if there is none.
        attempts: Tries at ranges that begin where `pending` does, or later; in any order.
        now: Seconds since 1970.
        policy: How often to try.

    Returns:
        The decision. A range that succeeded is put on record before anything else; one try goes on at a time.
    """
    if pending is None:
        return Wait("no new events")
    relevant = [
        attempt
        for attempt in attempts
        if (attempt.events.topic, attempt.events.partition) == (pending.topic, pending.partition)
        and attempt.events.end > pending.first
    ]
    succeeded = [attempt.events for attempt in relevant if attempt.outcome is Outcome.SUCCEEDED]
    if succeeded:
        return Done(max(succeeded, key=lambda events: events.end))
    running = [attempt for attempt in relevant if attempt.outcome is Outcome.RUNNING]
    if running:
        return Wait(f"attempt {running[0].number} at {running[0].events} is going on")
    if not relevant:
        return Launch(pending, 1)
    return _after_failures(pending, relevant, now, policy)


def _after_failures(pending: OffsetRange, failures: Sequence[Attempt], now: float, policy: RetryPolicy) -> Decision:
    last = max(attempt.events for attempt in failures)
    failed = [attempt for attempt in failures if attempt.events == last]
    given_up = len(failed) >= policy.attempts
    if given_up and pending.end == last.end:
        return Wait(f"{last} failed {len(failed)} times and is given up until further events arrive", given_up=True)
    # Counted over all ranges since the last success: a lasting fault under steady traffic is tried ever more rarely.
    due = max(attempt.ended_at for attempt in failures) + policy.wait_seconds(len(failures))
    if now < due:
        return Wait(f"{last} failed {len(failed)} times; the next attempt is due in {due - now:.0f} s")
    return Launch(pending, 1) if given_up else Launch(last, max(attempt.number for attempt in failed) + 1)
