"""L2 in a Redis server: a warm pool that several machines may share, at the price of the network.

Belongs here: holding, reading and dropping copies in Redis. Does not: which objects those are.

Redis holds copies only. One that does not answer costs the reader a time-out for the first few times; then the breaker
lets no call through for a while, objects fall back to the disk, and nothing is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from aura.resilience.breaker import CircuitBreaker, CircuitOpenError
from aura.tiers.budgets import RedisAddress
from aura.tiers.codec import Header
from aura.tiers.copies import NO_SLOT, FastTier, Record, verify_copy
from aura.tiers.errors import TierAbsentError
from aura.tiers.records import Tier

logger = logging.getLogger(__name__)

FAILURES = 3
RESET_SECONDS = 10.0
SCANNED_AT_ONCE = 1000


class RedisTier(FastTier):
    """Copies in Redis, each under the store's prefix and the object's key."""

    tier = Tier.L2

    def __init__(
        self, address: RedisAddress, directory: Path, capacity_bytes: int, breaker: CircuitBreaker | None = None
    ) -> None:
        """Connect at the first call, and drop what an owner that was killed has left there.

        Args:
            address: The server.
            directory: The store's directory, which tells its copies from those of other stores.
            capacity_bytes: Payload bytes that it may hold.
            breaker: Decides whether Redis is asked (None: it opens after three failures for ten seconds).

        Raises:
            TierAbsentError: The client library is not installed.
        """
        try:
            import redis
            from redis.exceptions import RedisClusterException
        except ImportError as error:
            raise TierAbsentError(
                "L2 cannot be in Redis", cause=str(error), remedy='Install the extra "servers", or use the arena.'
            ) from error
        self.capacity_bytes = capacity_bytes
        self._used_bytes = 0
        self._where = f"Redis at {address.url}"
        self._errors = (redis.RedisError, RedisClusterException, OSError)
        self._breaker = breaker or CircuitBreaker(
            self._where, failures=FAILURES, reset_seconds=RESET_SECONDS, on=self._errors
        )
        self._prefix = f"aura:{blake2b(str(directory).encode(), digest_size=8).hexdigest()}:"
        self._address = address
        self._connected: Any = None
        self._try(self._drop_left_over)

    @property
    def used_bytes(self) -> int:
        """Payload bytes of the copies."""
        return self._used_bytes

    def reserve(self, length: int) -> int | None:
        """See `FastTier.reserve`."""
        if self._used_bytes + length > self.capacity_bytes:
            return None
        self._used_bytes += length
        self.objects += 1
        return NO_SLOT

    def fill(self, key: str, header: Header, slot: int, payload: bytes | memoryview) -> Record:
        """Copy the payload to the server and read it back.

        Raises:
            TierAbsentError: The server does not take it.
            CorruptObjectError: What came back does not match the header.
        """
        try:
            self._breaker.call(lambda: self._client.set(self._prefix + key, bytes(payload)))
            verify_copy(self.tier, key, header, self._breaker.call(lambda: self._client.get(self._prefix + key)) or b"")
        except (*self._errors, CircuitOpenError) as error:
            raise TierAbsentError(
                f"{self._where} does not take a copy", key=key, cause=str(error), remedy="See `aura status`."
            ) from error
        return Record(key, header.id, header, self.tier, slot)

    def read(self, record: Record) -> bytes | memoryview | None:
        """The payload from the server; None if it has none, or does not answer."""
        payload: bytes | None = self._try(lambda: self._client.get(self._prefix + record.key))
        return payload

    def release(self, key: str, length: int, slot: int) -> None:  # noqa: ARG002 - the interface
        """Drop the copy; one that cannot be dropped is overwritten by the next, or dropped by the next owner."""
        self._used_bytes -= length
        self.objects -= 1
        self._try(lambda: self._client.unlink(self._prefix + key))

    def close(self) -> None:
        """Drop all copies, which nobody will ask for, and hang up."""
        self._try(self._drop_left_over)
        if self._connected is not None:
            self._connected.close()

    @property
    def _client(self) -> Any:  # noqa: ANN401  a client or a cluster's
        # Made by the first call that gets through: the client of a cluster asks the server when it is made.
        if self._connected is None:
            self._connected = _client(self._address)
        return self._connected

    def _drop_left_over(self) -> None:
        keys = self._client.scan_iter(match=self._prefix + "*", count=SCANNED_AT_ONCE)
        while some := list(islice(keys, SCANNED_AT_ONCE)):
            with self._client.pipeline(transaction=False) as pipeline:
                for key in some:
                    pipeline.unlink(key)
                pipeline.execute()

    def _try(self, call: Callable[[], Any]) -> Any:  # noqa: ANN401  what Redis answers
        try:
            return self._breaker.call(call)
        except CircuitOpenError:
            return None
        except self._errors as error:
            logger.warning("%s does not answer, and objects are read from the disk: %s", self._where, error)
            return None


def _client(address: RedisAddress) -> Any:  # noqa: ANN401  a client or a cluster's
    from redis import Redis, RedisCluster
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    chosen = RedisCluster if address.cluster else Redis
    # A cluster is asked once more after it said where a key has moved to; beyond that the breaker decides.
    return chosen.from_url(
        address.url,
        username=address.user,
        password=address.password,
        socket_timeout=address.timeout_seconds,
        socket_connect_timeout=address.timeout_seconds,
        retry=Retry(NoBackoff(), 1 if address.cluster else 0),
    )
