"""Which log, and which read models, the settings mean.

Belongs here: choosing and configuring an adapter. Does not: the adapters.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from aura.events.errors import LogUnavailableError
from aura.events.log import EventLog
from aura.events.sqlite_log import SqliteEventLog
from aura.events.topics import TOPICS, TopicRegistry

if TYPE_CHECKING:
    from aura.events.projections import ReadModels
    from aura.settings import Settings

BREAKER_FAILURES = 3
BREAKER_SECONDS = 5.0


def open_event_log(settings: Settings, *, registry: TopicRegistry = TOPICS) -> EventLog:
    """Open the log: Kafka with an outbox before it if `events.kafka` is set, else the embedded one under the home.

    Raises:
        EventError: The client library of Kafka is missing, or a file cannot be opened. A broker that is down is none.
    """
    events = settings.events
    if events.kafka is None:
        return SqliteEventLog(settings.event_log_file, registry=registry, timeout_seconds=events.timeout_seconds)
    from aura.events.buffered import BufferedEventLog
    from aura.events.kafka_calls import KafkaAddress
    from aura.events.kafka_log import KafkaEventLog
    from aura.resilience.breaker import CircuitBreaker
    from aura.resilience.outbox import Outbox

    password = events.kafka_password.get_secret_value() if events.kafka_password else None
    address = KafkaAddress(events.kafka, events.kafka_user, password, events.kafka_tls)
    return BufferedEventLog(
        KafkaEventLog(address, registry=registry, timeout_seconds=events.timeout_seconds),
        lambda: Outbox(settings.event_outbox_file, events.outbox_limit),
        CircuitBreaker("Kafka", BREAKER_FAILURES, BREAKER_SECONDS, on=(LogUnavailableError,)),
    )


def open_read_models(settings: Settings, log: EventLog) -> ReadModels:
    """Open the read models that are kept beside the embedded log, whichever log they are built from.

    Raises:
        LogUnavailableError: The file cannot be opened.
    """
    from aura.events.projections import ReadModels

    owner = f"{socket.gethostname()}-{os.getpid()}"
    return ReadModels(log, settings.event_log_file.with_name("models.db"), owner=owner)
