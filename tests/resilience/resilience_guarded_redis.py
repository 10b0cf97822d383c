"""A call to Redis as AURA makes calls to servers: time-outs, a total deadline, a few retries, a breaker in front."""

from __future__ import annotations

from typing import Any

from aura.resilience.breaker import CircuitBreaker
from aura.resilience.deadline import Deadline, retrying

DEADLINE_SECONDS = 0.5
ATTEMPT_SECONDS = 0.2


class GuardedRedis:
    """Reads one key, and counts how often the server was asked."""

    def __init__(self, port: int, breaker: CircuitBreaker) -> None:
        """Connect, at the first read, to a server on this port of this machine."""
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.exceptions import ConnectionError as RedisConnectionError
        from redis.exceptions import TimeoutError as RedisTimeoutError
        from redis.retry import Retry

        self._client = Redis(
            port=port,
            socket_timeout=ATTEMPT_SECONDS,
            socket_connect_timeout=ATTEMPT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._passing = (RedisConnectionError, RedisTimeoutError)
        self._breaker = breaker
        self.asked = 0

    def get(self, key: str) -> Any:
        """The value. Reading is idempotent, so it may be tried again."""
        deadline = Deadline(DEADLINE_SECONDS)

        def ask() -> Any:
            self.asked += 1
            return self._client.get(key)

        return self._breaker.call(lambda: retrying(ask, on=self._passing, deadline=deadline, attempts=2))

    def close(self) -> None:
        """Drop the connections."""
        self._client.close()
