"""What happens while Kafka is down: events go to an outbox on this machine's disk, up to a bound, in order.

Once the broker is back they are sent before anything newer; until then the log is asked no more often than the circuit
breaker lets through. When the outbox is full, events are refused, loudly. Does not belong here: the log itself.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from typing import Any

from aura.events.errors import (
    EventError,
    EventsRefusedError,
    LogUnavailableError,
    OutboxFailedError,
    OutboxOverflowError,
    PublishError,
    UnknownTopicError,
)
from aura.events.event import Event
from aura.events.kafka_log import KafkaEventLog
from aura.events.log import Ack, Batch, encode_checked
from aura.events.schemas import SchemaSet, packaged_schemas
from aura.events.topics import Topic, TopicRegistry
from aura.events.wire import Message
from aura.resilience.breaker import BreakerReading, CircuitBreaker, CircuitOpenError
from aura.resilience.deadline import Deadline
from aura.resilience.outbox import ItemRefusedError, Outbox, OutboxError, OutboxFullError

logger = logging.getLogger(__name__)


class BufferedEventLog:
    """The log on Kafka, with an outbox before it.

    Reads go straight to Kafka; a failed read is an error. They do not touch the outbox, which is opened by the first
    call that publishes, drains, or asks what waits.
    """

    def __init__(
        self,
        log: KafkaEventLog,
        open_outbox: Callable[[], Outbox],
        breaker: CircuitBreaker,
        *,
        schemas: SchemaSet | None = None,
        retry_seconds: float = 5.0,
    ) -> None:
        """Put an outbox before a log.

        Args:
            log: The log on Kafka.
            open_outbox: Opens the place where events wait.
            breaker: Decides whether Kafka is asked at all.
            schemas: The events' schemas (None: those that AURA ships).
            retry_seconds: While events wait, a thread tries to send them this often.
        """
        self._log = log
        self._open_outbox = open_outbox
        self._opened: Outbox | None = None
        self._breaker = breaker
        self._schemas = schemas or packaged_schemas()
        self._retry_seconds = retry_seconds
        self._opening = threading.Lock()
        self._starting = threading.Lock()
        self._closing = threading.Event()
        self._drainer: threading.Thread | None = None

    @property
    def registry(self) -> TopicRegistry:
        """The topics."""
        return self._log.registry

    def identity(self, topic: str) -> str:
        """Name of the topic's log on Kafka; see `EventLog.identity`."""
        return self._log.identity(topic)

    @property
    def waiting(self) -> int:
        """Events in the outbox; Kafka is not asked.

        Raises:
            OutboxFailedError: The outbox cannot be read.
        """
        with self._outbox() as outbox:
            return len(outbox)

    @contextmanager
    def _outbox(self) -> Iterator[Outbox]:
        """The outbox; what goes wrong with it is an EventError."""
        try:
            with self._opening:
                outbox = self._opened = self._opened or self._open_outbox()
            yield outbox
        except CircuitOpenError:
            raise
        except (OutboxError, OSError) as error:
            raise OutboxFailedError(f"{error} It keeps events in their order while Kafka is down.") from error

    def breaker_reading(self) -> BreakerReading:
        """Whether Kafka is asked at present."""
        return self._breaker.reading()

    def publish(self, topic: str, events: Sequence[Event]) -> list[Ack]:
        """Append events; see `EventLog.publish`. While Kafka is down the acknowledgements have no offset.

        Raises:
            OutboxOverflowError: Kafka is down and the outbox is full. Events of the call that Kafka acknowledged before
                it went down are in the log, the others are nowhere.
            OutboxFailedError: Likewise where the outbox cannot be used. Nothing is sent past what may wait in it.
            EventsRefusedError: Kafka will never take some of the events; they are not kept either.
        """
        chosen = self.registry.get(topic)
        messages = encode_checked(chosen, events, self._schemas)
        if not self.waiting:
            try:
                return self._breaker.call(lambda: self._log.send(chosen, messages, len(messages)))
            except (LogUnavailableError, CircuitOpenError) as error:
                acks = error.acks if isinstance(error, PublishError) else (None,) * len(messages)
                return self._keep(chosen, messages, acks, error)
        # Nothing may overtake what waits: it is sent first, and where that fails this waits behind it.
        try:
            self.drain(Deadline(self._retry_seconds))
        except LogUnavailableError as error:
            return self._keep(chosen, messages, (None,) * len(messages), error)
        if self.waiting:
            return self._keep(chosen, messages, (None,) * len(messages), None)
        return self.publish(topic, events)

    def drain(self, deadline: Deadline | None = None) -> int:
        """Send what waits, in order; returns how many events were sent.

        What waits outlives the process that published it, and is sent by the next one that publishes. Where none does
        for long, a sensor or another regular job opens the log, drains it with a deadline, and closes it. What Kafka
        refuses for good is set aside with the reason, logged, and holds up nothing.

        Args:
            deadline: No batch of 500 begins after it; the one under way may take the log's time-out longer. None:
                until nothing waits.

        Raises:
            LogUnavailableError: Kafka is still down, or was not asked since it was a moment ago; what was not sent
                waits on.
            OutboxFailedError: The outbox cannot be used.
        """
        try:
            with self._outbox() as outbox:
                return outbox.drain(lambda items: self._breaker.call(lambda: self._send(items)), deadline=deadline)
        except CircuitOpenError as error:
            raise LogUnavailableError(str(error)) from error

    def _send(self, items: Sequence[bytes]) -> None:
        sent = 0
        for name, group in groupby(map(_unpack, items), key=lambda pair: pair[0]):
            messages = [message for _, message in group]
            try:
                topic = self.registry.get(name)
                self._send_or_find_refused(topic, messages, sent)
            except UnknownTopicError as error:
                raise _refused(sent, error) from error
            sent += len(messages)

    def _send_or_find_refused(self, topic: Topic, messages: Sequence[Message], place: int) -> None:
        """Send messages; where some are refused for good, find the first by sending one at a time.

        The broker refuses a whole batch for one message in it. One that is sent twice by this is recognised by the
        consumers.
        """
        try:
            self._log.send(topic, messages, len(messages))
        except EventsRefusedError:
            for index, message in enumerate(messages):
                try:
                    self._log.send(topic, [message], 1)
                except EventsRefusedError as error:
                    raise _refused(place + index, error) from error

    def _keep(
        self, topic: Topic, messages: Sequence[Message], acks: Sequence[Ack | None], error: Exception | None
    ) -> list[Ack]:
        missing = [message for message, ack in zip(messages, acks, strict=True) if ack is None]
        try:
            with self._outbox() as outbox:
                outbox.append([_pack(topic.name, message) for message in missing])
        except OutboxFailedError as failed:
            full = isinstance(failed.__cause__, OutboxFullError)
            raise (OutboxOverflowError if full else OutboxFailedError)(
                f"{len(missing)} events for {topic.name} were refused: {failed.__cause__} "
                f"{error or 'Kafka is being caught up.'}"
            ) from failed
        self._start_draining()
        return [
            ack or Ack(topic.name, topic.partition_of(message.key.decode()), None)
            for message, ack in zip(messages, acks, strict=True)
        ]

    def _start_draining(self) -> None:
        with self._starting:
            if self._drainer is None:
                self._drainer = threading.Thread(target=self._drain_until_empty, name="aura-outbox", daemon=True)
                self._drainer.start()

    def _drain_until_empty(self) -> None:
        said = ""
        while not self._closing.wait(self._retry_seconds):
            try:
                self.drain()
                with self._starting:
                    # Under the lock, so that whoever appends from here on starts another thread.
                    if not self.waiting:
                        self._drainer = None
                        return
            except LogUnavailableError as error:
                logger.debug("Events wait: %s", error)
            except EventError as error:
                if str(error) != said:
                    said = str(error)
                    logger.warning("Events that wait cannot be sent: %s", error)

    def read(self, topic: str, partition: int, start: int, stop: int | None = None, *, limit: int = 1000) -> Batch:
        """Read offsets of a partition; see `EventLog.read`."""
        return self._log.read(topic, partition, start, stop, limit=limit)

    def begin_offsets(self, topic: str) -> dict[int, int]:
        """First offset that is kept, by partition."""
        return self._log.begin_offsets(topic)

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Offset of the next record, by partition; what waits in the outbox has none yet."""
        return self._log.end_offsets(topic)

    def offsets_at(self, topic: str, time: datetime) -> dict[int, int]:
        """First offset at a time or later, by partition."""
        return self._log.offsets_at(topic, time)

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Note how far a group has come."""
        self._log.commit(group, topic, offsets)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """What `commit` was told last."""
        return self._log.committed(group, topic)

    def lag(self, group: str, topic: str) -> dict[int, int]:
        """Records that the group has not committed, by partition."""
        return self._log.lag(group, topic)

    def expire(self, topic: str, now: datetime) -> dict[int, int]:
        """Delete what is older than the topic's retention."""
        return self._log.expire(topic, now)

    def close(self) -> None:
        """Stop the thread and close; what waits stays on disk for the next process."""
        self._closing.set()
        drainer = self._drainer
        if drainer is not None:
            drainer.join()
        self._log.close()
        if self._opened is not None:
            self._opened.close()


def _refused(index: int, error: EventError) -> ItemRefusedError:
    logger.warning("An event that waited was set aside: %s", error)
    return ItemRefusedError(index, str(error))


def _pack(topic: str, message: Message) -> bytes:
    packed: dict[str, Any] = {
        "topic": topic,
        "key": message.key.decode(),
        "headers": [(name, value.decode()) for name, value in message.headers],
        "value": message.value.decode(),
        "timestamp": message.timestamp,
        "identity": message.identity,
    }
    return json.dumps(packed).encode()


def _unpack(item: bytes) -> tuple[str, Message]:
    packed = json.loads(item)
    headers = [(name, value.encode()) for name, value in packed["headers"]]
    message = Message(
        packed["key"].encode(), headers, packed["value"].encode(), packed["timestamp"], packed["identity"]
    )
    return packed["topic"], message
