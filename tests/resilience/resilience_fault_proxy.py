"""A TCP proxy whose network can be made slow, silent or hostile, and healed, while connections go through it."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self

CHUNK_BYTES = 65536


class FaultProxy:
    """Passes bytes on between its own port and a server's, until it is told otherwise.

    A network that is silent holds what it was given and delivers it when it is healed, as TCP would; connections are
    still accepted, as the kernel of a hanging server does.
    """

    def __init__(self, host: str, port: int) -> None:
        """Stand in front of the server on this host and port."""
        self._target = (host, port)
        self._latency_seconds = 0.0
        self._hostile = False
        self._connections: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def delay(self, seconds: float) -> None:
        """Each piece of data takes this much longer, in each direction."""
        self._latency_seconds = seconds

    def silence(self) -> None:
        """Nothing arrives any more, in either direction, and nobody is told: a black hole."""
        self._do(self._close_gate)

    def reset(self) -> None:
        """Every connection is reset, and so is every new one."""
        self._hostile = True
        self._do(self._reset_all)

    def heal(self) -> None:
        """The network is as it should be."""
        self._latency_seconds, self._hostile = 0.0, False
        self._do(self._open_gate)

    def _do(self, action: Callable[[], Awaitable[None]]) -> None:
        async def acted() -> None:
            await action()

        asyncio.run_coroutine_threadsafe(acted(), self._loop).result(30)

    async def _start(self) -> None:
        self._open.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        await self._reset_all()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _close_gate(self) -> None:
        self._open.clear()

    async def _open_gate(self) -> None:
        self._open.set()

    async def _reset_all(self) -> None:
        for writer in list(self._connections):
            abort(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._hostile:
            abort(writer)
            return
        self._connections.add(writer)
        try:
            await self._open.wait()
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            self._connections.add(server_writer)
            try:
                await asyncio.gather(self._pass(reader, server_writer), self._pass(server_reader, writer))
            finally:
                self._connections.discard(server_writer)
                server_writer.close()
        except (OSError, asyncio.CancelledError):
            pass  # one side is gone, and the other learns of it by the end of its connection; or the proxy ends
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if self._latency_seconds:
                await asyncio.sleep(self._latency_seconds)
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()


def abort(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST instead of FIN."""
    with suppress(OSError):
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
