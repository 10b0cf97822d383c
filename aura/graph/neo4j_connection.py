"""A connection to Neo4j on which every call ends in time.

Belongs here: the driver, deadlines, and what its errors mean for a reader. Does not: Cypher.

The driver's blocking flavour waits for a reply as long as the server's process exists, even one that is stopped. Its
asynchronous flavour can be cancelled at any moment, so the calls run on an event loop of this connection's own thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal, TypeVar

from aura.graph.errors import GraphError, GraphUnavailableError
from aura.resilience.deadline import Deadline, retrying

Result = TypeVar("Result")
Row = list[Any]
Query = Callable[..., Awaitable[list[Row]]]
"""Runs a query with parameters inside a transaction and returns its rows: `await query("RETURN $x", x=1)`."""

CLEAN_UP_SECONDS = 1.0
"""How long a call that is over time may take to drop its connection before the caller goes on without it."""


class Neo4jConnection:
    """Runs transactions within a time-out; shared by threads, not across a fork."""

    def __init__(self, address: str, *, user: str | None, password: str | None, timeout_seconds: float) -> None:
        """Prepare the connection; the server is asked at the first call.

        Args:
            address: bolt:// or neo4j:// with host and port.
            user: Name to log in with; None: no authentication.
            password: Its password.
            timeout_seconds: The longest that one call may take, connecting and retries included.

        Raises:
            GraphUnavailableError: The extra `servers` is not installed.
        """
        try:
            import neo4j
        except ImportError as error:
            raise GraphUnavailableError(
                "Neo4j is configured, and its driver is not installed. Install the extra: pip install 'aura[servers]'."
            ) from error
        self.address = address
        self.timeout_seconds = timeout_seconds
        self._neo4j = neo4j
        self._driver = neo4j.AsyncGraphDatabase.driver(
            address,
            auth=(user, password or "") if user else None,
            connection_timeout=timeout_seconds,
            connection_write_timeout=timeout_seconds,
            connection_acquisition_timeout=timeout_seconds,
            max_transaction_retry_time=0,  # its own retries begin a second after the failure; see run
            max_connection_pool_size=8,
            notifications_min_severity="OFF",
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="neo4j", daemon=True)
        self._thread.start()

    def run(self, mode: Literal["read", "write"], work: Callable[[Query], Awaitable[Result]]) -> Result:
        """Do work in one transaction; it is repeated after a passing failure, so it has to be idempotent.

        Raises:
            GraphUnavailableError: No answer, or not in time. A write may have taken effect all the same.
            GraphError: The server refused the work itself.
        """
        errors, deadline = self._neo4j.exceptions, Deadline(self.timeout_seconds)
        passing = (errors.TransientError, errors.ServiceUnavailable, errors.SessionExpired)
        try:
            return retrying(
                lambda: self._wait(self._transaction(mode, work, deadline), deadline), on=passing, deadline=deadline
            )
        except (TimeoutError, asyncio.CancelledError, concurrent.futures.CancelledError) as error:
            raise GraphUnavailableError(
                f"Neo4j at {self.address} did not answer within {self.timeout_seconds:g} s. `aura status` says more."
            ) from error
        except (errors.AuthError, errors.ConfigurationError) as error:
            raise GraphUnavailableError(
                f"Neo4j at {self.address} does not let us in: {_sentence(error)} Check graph.neo4j_user and "
                "AURA_GRAPH__NEO4J_PASSWORD."
            ) from error
        except errors.ClientError as error:
            if "TransactionTimedOut" in str(error.code):
                raise GraphUnavailableError(
                    f"Neo4j at {self.address} stopped the work after {self.timeout_seconds:g} s. Ask for less, or "
                    "raise graph.timeout_seconds."
                ) from error
            raise GraphError(f"Neo4j at {self.address} refused: {_sentence(error)}") from error
        except (errors.Neo4jError, errors.DriverError, OSError) as error:
            raise GraphUnavailableError(
                f"Neo4j at {self.address} cannot be used: {_sentence(error)} Start it, or see `aura status`."
            ) from error

    async def _transaction(
        self, mode: Literal["read", "write"], work: Callable[[Query], Awaitable[Result]], deadline: Deadline
    ) -> Result:
        bounded = self._neo4j.unit_of_work(timeout=deadline.remaining())(_with_query(work))
        async with self._driver.session() as session:
            execute = session.execute_read if mode == "read" else session.execute_write
            result: Result = await execute(bounded)
            return result

    def close(self) -> None:
        """Close the connections and end the thread."""
        if self._loop.is_closed():
            return
        # A server that does not answer is not told good-bye.
        with contextlib.suppress(TimeoutError, OSError, self._neo4j.exceptions.DriverError):
            self._wait(self._driver.close(), Deadline(CLEAN_UP_SECONDS))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(self.timeout_seconds)
        if not self._thread.is_alive():
            self._loop.close()

    def _wait(self, coroutine: Coroutine[Any, Any, Result], deadline: Deadline) -> Result:
        seconds = deadline.left()
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, seconds), self._loop)
        try:
            return future.result(seconds + CLEAN_UP_SECONDS)
        finally:
            future.cancel()


def _with_query(work: Callable[[Query], Awaitable[Result]]) -> Callable[[Any], Awaitable[Result]]:
    async def in_managed_transaction(transaction: Any) -> Result:  # noqa: ANN401  the driver is an optional import
        async def query(text: str, **parameters: Any) -> list[Row]:  # noqa: ANN401  what Bolt can carry
            result = await transaction.run(text, parameters)
            return [record.values() async for record in result]

        return await work(query)

    return in_managed_transaction


def _sentence(error: BaseException) -> str:
    text = " ".join(str(getattr(error, "message", None) or error or type(error).__name__).split())
    return text if text.endswith(".") else f"{text}."
