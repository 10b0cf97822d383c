"""How Kafka is reached: the address, and calls that are repeated while the broker's error is one that passes.

Belongs here: what every client of Kafka shares. Does not: what is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aura.events.errors import EventsRefusedError, LogUnavailableError
from aura.resilience.deadline import Deadline, retrying

logger = logging.getLogger(__name__)
ATTEMPTS = 50
"""More than fit into a deadline; the deadline ends the attempts."""
PASSING = (
    "NOT_LEADER_FOR_PARTITION",
    "FENCED_LEADER_EPOCH",
    "UNKNOWN_LEADER_EPOCH",
    "LEADER_NOT_AVAILABLE",
    "UNKNOWN_TOPIC_OR_PART",  # of a topic that was made a moment ago
    "COORDINATOR_LOAD_IN_PROGRESS",
    "COORDINATOR_NOT_AVAILABLE",
    "NOT_COORDINATOR",
    "REQUEST_TIMED_OUT",
    "NETWORK_EXCEPTION",
    "_TRANSPORT",
    "_TIMED_OUT",
    "_WAIT_COORD",
)
"""Errors of a broker that has just made a topic, or come back."""

LASTING = (
    "MSG_SIZE_TOO_LARGE",
    "RECORD_LIST_TOO_LARGE",
    "INVALID_RECORD",
    "INVALID_TIMESTAMP",
    "TOPIC_EXCEPTION",
    "POLICY_VIOLATION",
    "INVALID_CONFIG",
    "UNSUPPORTED_VERSION",
    "TOPIC_AUTHORIZATION_FAILED",
    "CLUSTER_AUTHORIZATION_FAILED",
    "GROUP_AUTHORIZATION_FAILED",
)
"""Errors that are the same however often one asks, until a person changes the event, the topic or the rights."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class KafkaAddress:
    """Where Kafka is and how to log in.

    Attributes:
        bootstrap: host:port[,host:port].
        user: SASL user; None without authentication.
        password: Its password.
        tls: Whether the connection is encrypted.
    """

    bootstrap: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False

    def client_config(self, timeout_seconds: float) -> dict[str, Any]:
        """What every client of librdkafka is configured with."""
        sasl = {"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": self.user, "sasl.password": self.password or ""}
        return {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": ("SASL_" if self.user else "") + ("SSL" if self.tls else "PLAINTEXT"),
            "client.id": "aura",
            "socket.timeout.ms": max(1000, int(timeout_seconds * 1000)),
            "socket.connection.setup.timeout.ms": max(1000, int(timeout_seconds * 1000)),
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            "allow.auto.create.topics": False,
            # What fails is raised with its reason; the library's own lines repeat it once a second.
            "log_level": 2,
            "logger": logger,
            **(sasl if self.user else {}),
        }


class PassingError(Exception):
    """An error of the broker after which asking again can help."""


def check_kafka_error(error: Any) -> None:  # noqa: ANN401  a KafkaError
    """Raise what an error of the broker means: `PassingError`, or KafkaException for one that stays."""
    from confluent_kafka import KafkaError, KafkaException

    if error.code() in {getattr(KafkaError, name) for name in PASSING}:
        raise PassingError(error.str())
    raise KafkaException(error)


def lasting_reason(error: object) -> str | None:
    """What an error says (a KafkaError, or an exception with one) if it is one that lasts, else None."""
    from confluent_kafka import KafkaError, KafkaException

    cause = error.args[0] if isinstance(error, KafkaException) else error
    if isinstance(cause, KafkaError) and cause.code() in {getattr(KafkaError, name) for name in LASTING}:
        return cause.str()
    return None


def call_kafka(operation: Callable[[], Answer], deadline: Deadline, bootstrap: str) -> Answer:
    """Call an idempotent operation until it succeeds or the deadline is over.

    Raises:
        LogUnavailableError: It did not succeed in time, or failed with another error.
        EventsRefusedError: It failed with an error that lasts.
    """
    from confluent_kafka import KafkaException

    def attempt() -> Answer:
        try:
            return operation()
        except KafkaException as error:
            check_kafka_error(error.args[0])
            raise

    try:
        return retrying(attempt, on=PassingError, deadline=deadline, attempts=ATTEMPTS)
    except (KafkaException, TimeoutError, PassingError) as error:
        if lasting := lasting_reason(error):
            raise EventsRefusedError(
                f"Kafka at {bootstrap} refused: {lasting}. Check the rights of events.kafka_user and the topic's "
                "configuration."
            ) from error
        reason = error.args[0].str() if isinstance(error, KafkaException) else str(error) or "no answer in time"
        raise LogUnavailableError(
            f"Kafka at {bootstrap} did not answer: {reason}. Check events.kafka and the broker with `aura status`."
        ) from error
