"""What a Kafka broker says of its version: the finalized feature level `metadata.version`.

The protocol does not carry the release, and the client library asks for the features without handing them out. So this
sends the one request that every listener answers before authentication, ApiVersions, version 3: see the protocol guide
of Apache Kafka, and KIP-511 and KIP-584 for the layout.
"""

from __future__ import annotations

import socket
import ssl
import struct

from aura.services.probe import ProbeError, connect

_API_VERSIONS, _VERSION, _CORRELATION = 18, 3, 1
_FINALIZED_FEATURES = 2  # tag of the field in the answer
_LARGEST_ANSWER = 2**20


def metadata_version(host: str, port: int, *, tls: bool, call_seconds: float) -> str | None:
    """Ask one broker for its feature level.

    Args:
        host: The broker.
        port: Its listener.
        tls: Whether that listener wants TLS.
        call_seconds: Time-out of connecting and of each read.

    Returns:
        Such as "metadata.version 27"; None if the broker has no such feature (before KRaft).

    Raises:
        OSError: The broker cannot be reached or does not answer.
        ProbeError: The answer is not Kafka's.
    """
    with connect(host, port, call_seconds) as plain:
        if not tls:
            return _ask(plain)
        with ssl.create_default_context().wrap_socket(plain, server_hostname=host) as encrypted:
            return _ask(encrypted)


def _ask(connection: socket.socket) -> str | None:
    name = b"aura"
    header = struct.pack(">hhih", _API_VERSIONS, _VERSION, _CORRELATION, len(name)) + name + b"\0"
    body = bytes([len(name) + 1]) + name + bytes([2]) + b"1" + b"\0"
    connection.sendall(struct.pack(">i", len(header + body)) + header + body)
    (size,) = struct.unpack(">i", _read(connection, 4))
    if not 0 < size < _LARGEST_ANSWER:
        raise ProbeError("the answer is not Kafka's: is it another server?")
    try:
        level = _levels(_read(connection, size)).get("metadata.version")
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ProbeError("the answer is not Kafka's: is it another server?") from error
    return None if level is None else f"metadata.version {level}"


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


class _Cursor:
    """Reads the protocol's types from the start to the end of an answer."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def skip(self, size: int) -> None:
        self._at += size

    def int16(self) -> int:
        (value,) = struct.unpack_from(">h", self._data, self._at)
        self._at += 2
        return int(value)

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def text(self) -> str:
        size = self.varint() - 1
        self._at += size
        return self._data[self._at - size : self._at].decode()

    def skip_tags(self) -> None:
        for _ in range(self.varint()):
            self.varint()
            self.skip(self.varint())


def _levels(answer: bytes) -> dict[str, int]:
    """The finalized features in an answer, by name."""
    cursor = _Cursor(answer)
    cursor.skip(4)  # correlation
    if cursor.int16() != 0:
        raise ProbeError("the broker refused to name its version")
    for _ in range(cursor.varint() - 1):
        cursor.skip(6)  # number, oldest and newest version of one request
        cursor.skip_tags()
    cursor.skip(4)  # throttle time
    levels: dict[str, int] = {}
    for _ in range(cursor.varint()):
        tag, size = cursor.varint(), cursor.varint()
        if tag != _FINALIZED_FEATURES:
            cursor.skip(size)
            continue
        for _ in range(cursor.varint() - 1):
            name, level = cursor.text(), cursor.int16()
            cursor.skip(2)  # lowest level
            cursor.skip_tags()
            levels[name] = level
    return levels
