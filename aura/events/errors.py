"""What can go wrong with the event log; each message names the value and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aura.events.log import Ack


class EventError(Exception):
    """Base of the errors of the event log."""


class UnknownTopicError(EventError):
    """A topic, or a partition of it, that the registry does not name."""


class EventInvalidError(EventError):
    """An event that does not fit its schema, its topic, or the format."""


class OffsetExpiredError(EventError):
    """Records that were asked for were deleted by retention.

    Attributes:
        begin: The first offset that is still there.
    """

    def __init__(self, message: str, begin: int) -> None:
        super().__init__(message)
        self.begin = begin


class LogUnavailableError(EventError):
    """The log cannot be reached, or did not answer within its deadline."""


class PublishError(LogUnavailableError):
    """Not every event of a call became durable.

    Attributes:
        acks: One entry per event of the call, in order; None where nothing was acknowledged. Such an event may be in
            the log all the same: publish it again with the same id.
    """

    def __init__(self, message: str, acks: Sequence[Ack | None]) -> None:
        super().__init__(message)
        self.acks = tuple(acks)


class EventsRefusedError(EventError):
    """The log will not take the events however often they are published: they are too large, say, or not allowed.

    Attributes:
        acks: One entry per event of the call, in order; None where nothing was acknowledged. Empty when none was sent.
    """

    def __init__(self, message: str, acks: Sequence[Ack | None] = ()) -> None:
        super().__init__(message)
        self.acks = tuple(acks)


class OutboxOverflowError(EventError):
    """Kafka is down and the outbox is full: the events were refused."""


class OutboxFailedError(EventError):
    """The outbox cannot be opened, read or written: nothing was kept in it, and nothing that waits in it was sent."""


class LeaseHeldError(EventError):
    """Another consumer of the group holds the partition."""


class FencedError(EventError):
    """A lease ran out or was taken over, so nothing may be committed under it any more."""
