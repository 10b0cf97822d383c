"""What an owner and its clients say to each other: framed messages over a Unix socket.

Belongs here: the frame. Does not: who answers what (`owner`) and who asks (`remote`).

A frame is a fixed prefix (magic, length of the JSON, length of the body, little-endian), a JSON list of the message's
name, its rows of JSON scalars and the sizes of its segments, then the segments' raw bytes. An error travels as a
message with the error's class name.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aura.tiers.codec import HEADER_BYTES, Encoded, Header
from aura.tiers.errors import WIRE_ERRORS, StoreError

_PREFIX = struct.Struct("<4sIQ")
_MAGIC = b"AURA"
_ERROR = "error:"

Row = list[Any]
"""JSON scalars; what they mean is fixed by the message's name."""


@dataclass(frozen=True, slots=True)
class Message:
    """One request or reply."""

    name: str
    rows: list[Row] = field(default_factory=list)
    segments: Sequence[bytes | memoryview] = ()


def send(connection: socket.socket, message: Message) -> None:
    """Write one message; raises OSError when the peer is gone or does not read in time."""
    sizes = [len(segment) for segment in message.segments]
    head = json.dumps([message.name, message.rows, sizes]).encode()
    connection.sendall(_PREFIX.pack(_MAGIC, len(head), sum(sizes)) + head)
    for segment in message.segments:
        connection.sendall(segment)


def receive(connection: socket.socket, first_byte_timeout: float | None, timeout: float) -> Message:
    """Read one message.

    Args:
        connection: A connected socket.
        first_byte_timeout: Longest wait in seconds for the message to begin; None waits for ever.
        timeout: Longest wait for each further piece.

    Raises:
        ConnectionError: The peer closed the connection, or does not speak this protocol.
        TimeoutError: Nothing came in time.
    """
    connection.settimeout(first_byte_timeout)
    first = connection.recv(1)
    if not first:
        raise ConnectionResetError("the connection was closed")
    connection.settimeout(timeout)
    magic, head_length, body_length = _PREFIX.unpack(first + _exactly(connection, _PREFIX.size - 1))
    if magic != _MAGIC:
        raise ConnectionAbortedError(f"a message began with {magic!r}, expected {_MAGIC!r}")
    name, rows, sizes = json.loads(bytes(_exactly(connection, head_length)))
    body = _exactly(connection, body_length).toreadonly()
    segments = []
    start = 0
    for size in sizes:
        segments.append(body[start : start + size])
        start += size
    return Message(name, rows, segments)


def error_message(error: StoreError) -> Message:
    """An error as a reply."""
    kind = type(error).__name__
    name = kind if kind in WIRE_ERRORS else StoreError.__name__
    return Message(_ERROR + name, [[error.what, error.key, error.path, error.cause, error.remedy]])


def raise_error(message: Message) -> None:
    """Raise what `error_message` packed; nothing when the reply is no error."""
    if message.name.startswith(_ERROR):
        what, key, path, cause, remedy = message.rows[0]
        raise WIRE_ERRORS[message.name[len(_ERROR) :]](what, key=key, path=path, cause=cause, remedy=remedy)


def pack_values(values: Sequence[Encoded]) -> list[bytes | memoryview]:
    """Segments of several encoded values: header, payload, header, payload."""
    segments: list[bytes | memoryview] = []
    for value in values:
        segments += (value.header.pack(), value.payload)
    return segments


def unpack_values(keys: Sequence[str], segments: Sequence[bytes | memoryview]) -> dict[str, Encoded]:
    """The inverse of `pack_values`; headers are verified, payloads are not.

    Raises:
        CorruptObjectError: A header did not arrive as it was sent.
    """
    values = {}
    for index, key in enumerate(keys):
        raw, payload = segments[2 * index], segments[2 * index + 1]
        values[key] = Encoded(Header.unpack(bytes(raw[:HEADER_BYTES]), key), payload)
    return values


def _exactly(connection: socket.socket, length: int) -> memoryview:
    view = memoryview(bytearray(length))
    got = 0
    while got < length:
        count = connection.recv_into(view[got:])
        if count == 0:
            raise ConnectionResetError("the connection was closed in the middle of a message")
        got += count
    return view
