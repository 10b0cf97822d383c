"""Views of the arena in other processes: a slot that a client looks at is not given to another object.

Belongs here: who looks at what (the owner's side), and saying that one is done (the client's side).
Does not: the arena, or when a slot is free: that is when nobody refers to its record any more, and a lease is such a
reference.

A client has one connection for this that carries nothing but the numbers of leases that ended, eight bytes each. The
kernel closes it when the client dies, however it dies, and all its leases end with it. A forked child lets go of the
connection: the views that it inherited last as long as those of its parent, so it copies what it wants to keep.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import weakref
from collections import deque
from itertools import count

import numpy as np
from numpy.typing import NDArray

from aura.tiers.codec import Kind
from aura.tiers.copies import Record

LEAST_BYTES = 64 << 10
"""Smaller payloads are copied: that costs less than giving a lease back."""
NO_LEASE = 0
NO_CLIENT = 0
_NUMBER = struct.Struct("<Q")
_READ_BYTES = 1 << 16


class Leases:
    """The owner's side. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[int, dict[int, Record]] = {}
        self._numbers = count(1)

    def admit(self) -> int:
        """A number for a new client."""
        with self._lock:
            client = next(self._numbers)
            self._clients[client] = {}
            return client

    def give(self, client: int, record: Record) -> int:
        """Keep a record for a client until it says that it is done; `NO_LEASE` for what is better copied.

        Bytes have to be copied in any case, since Python's own are no view.
        """
        if record.header.length < LEAST_BYTES or record.header.kind is Kind.BYTES:
            return NO_LEASE
        with self._lock:
            held = self._clients.get(client)
            if held is None:
                return NO_LEASE
            lease = next(self._numbers)
            held[lease] = record
            return lease

    def listen(self, client: int, connection: socket.socket) -> None:
        """Take leases back until the client hangs up; then all of them."""
        left = b""
        try:
            connection.settimeout(None)
            while received := connection.recv(_READ_BYTES):
                left += received
                whole = len(left) - len(left) % _NUMBER.size
                with self._lock:
                    for (lease,) in _NUMBER.iter_unpack(left[:whole]):
                        self._clients[client].pop(lease, None)
                left = left[whole:]
        finally:
            with self._lock:
                del self._clients[client]


class LeaseLine:
    """The client's side: its connection, which stays open as long as somebody looks at the arena."""

    def __init__(self, connection: socket.socket, client: int) -> None:
        self._client = client
        self._connection = connection
        self._connection.settimeout(0)
        self._pid = os.getpid()
        self._open = 0
        self._unsent: deque[int] = deque()
        self._closing = False
        self._lock = threading.RLock()  # a view may end inside of any of these methods, by garbage collection
        _LINES.add(self)

    @property
    def client(self) -> int:
        """The number that leases are asked for with; none in a forked child, where nobody would give them back."""
        return self._client if os.getpid() == self._pid else NO_CLIENT

    def bind(self, view: NDArray[np.uint8], lease: int) -> None:
        """End a lease when an array is gone."""
        with self._lock:
            self._open += 1
        weakref.finalize(view, self._ended, lease).atexit = False

    def _ended(self, lease: int) -> None:
        """Called wherever the last reference was dropped, so it never waits for the owner."""
        if os.getpid() != self._pid:
            return  # a forked child has the parent's views and must not end them
        with self._lock:
            self._open -= 1
            self._unsent.append(lease)
            try:
                while self._unsent:
                    self._connection.send(_NUMBER.pack(self._unsent[0]))
                    self._unsent.popleft()
            except BlockingIOError:
                pass  # the owner is busy; the next view that ends tries again, or hanging up ends all leases
            except OSError:
                self._unsent.clear()  # the owner is gone, and its arena belongs to those who still look at it
            self._hang_up_if_done()

    def close(self) -> None:
        """No more views; hangs up as soon as the last one is gone."""
        with self._lock:
            self._closing = True
            self._hang_up_if_done()

    def forget(self) -> None:
        """In a forked child: close the child's copy of the connection, so that the parent's death ends its leases."""
        self._connection.close()

    def _hang_up_if_done(self) -> None:
        if self._closing and self._open == 0:
            self._connection.close()


_LINES: weakref.WeakSet[LeaseLine] = weakref.WeakSet()
"""The open lines of this process."""


def _leave_to_parent() -> None:
    for line in list(_LINES):
        line.forget()


os.register_at_fork(after_in_child=_leave_to_parent)
