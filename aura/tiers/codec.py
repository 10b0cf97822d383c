"""Objects as bytes: a fixed header and a payload, with a checksum that is verified on every decode.

Belongs here: the header, and the payload formats: bytes as they are, named arrays as safetensors, tables as an Arrow
IPC stream. Does not: where the bytes are kept.

The header travels beside the payload, not in front of it, so that reading bytes costs no copy and the index of a store
is read without touching a payload. It is 32 bytes, little-endian:

    magic "AUR1" | version u8 | kind u8 | zero u16 | id u32 | payload length u64 | payload checksum u64 | check u32

The payload checksum is XXH3-64 seeded with kind and length; the last field is the low half of XXH3-64 of the 28 bytes
before it. Arrays follow the safetensors format (header length u64, JSON, data) and are read as views.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import cast

import numpy as np
import pyarrow as pa
import xxhash

from aura.tiers.errors import CorruptObjectError, InvalidPartError
from aura.tiers.values import Part, Tensors

MAX_PAYLOAD_BYTES = 3 << 30
"""RocksDB keeps values up to 4 GiB; a batch needs room beside it."""
ALIGNMENT = 64
"""Bytes; a cache line. The product of a vector and a matrix may differ in its last bits where the matrix begins at no
multiple of 16."""

_HEADER = struct.Struct("<4sBBHIQQ")
_CHECK = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CHECK.size
_MAGIC = b"AUR1"
_VERSION = 1
_LOW_HALF = 0xFFFFFFFF
_digest = xxhash.xxh3_64_intdigest

_SAFETENSORS_NAMES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "complex64": "C64",
}
_DTYPES = {name: np.dtype(dtype).newbyteorder("<") for dtype, name in _SAFETENSORS_NAMES.items()}


class Kind(IntEnum):
    """What a payload is."""

    BYTES = 1
    TABLE = 2
    TENSORS = 3

    @property
    def word(self) -> str:
        """The kind as it is shown."""
        return self.name.lower()


_KINDS = frozenset(int(kind) for kind in Kind)
_BYTES, _TENSORS = Kind.BYTES, Kind.TENSORS
"""Names of the module: a member of an enum is looked up slowly, and every get would pay for it."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a payload without reading it. `id` is the object's number in its store, 0 before it has one."""

    kind: Kind
    length: int
    checksum: int
    id: int = 0

    def pack(self) -> bytes:
        """The 32 bytes."""
        fixed = _HEADER.pack(_MAGIC, _VERSION, self.kind, 0, self.id, self.length, self.checksum)
        return fixed + _CHECK.pack(xxhash.xxh3_64_intdigest(fixed) & _LOW_HALF)

    @classmethod
    def unpack(cls, raw: bytes, key: str) -> Header:
        """Read 32 bytes.

        Raises:
            CorruptObjectError: They are not a header that this version wrote.
        """
        if len(raw) != HEADER_BYTES:
            raise _corrupt(key, f"its header has {len(raw)} bytes, expected {HEADER_BYTES}")
        fixed, (check,) = raw[: _HEADER.size], _CHECK.unpack_from(raw, _HEADER.size)
        if xxhash.xxh3_64_intdigest(fixed) & _LOW_HALF != check:
            raise _corrupt(key, "its header does not match the header's checksum")
        magic, version, kind, _, number, length, checksum = _HEADER.unpack(fixed)
        if magic != _MAGIC or version != _VERSION or kind not in _KINDS:
            raise _corrupt(
                key, f"its header says format {magic!r} version {version} kind {kind}, expected AUR1 version 1"
            )
        return cls(Kind(kind), length, checksum, number)

    def matches(self, payload: bytes | memoryview) -> bool:
        """Whether these are the bytes that the header was made for."""
        return len(payload) == self.length and _digest(payload, self.kind << 56 ^ self.length) == self.checksum


@dataclass(frozen=True, slots=True)
class Encoded:
    """A payload with its header. The payload is read-only and one byte wide."""

    header: Header
    payload: bytes | memoryview


def encode(part: Part, key: str = "") -> Encoded:
    """Encode one part; equal parts give equal bytes.

    Raises:
        InvalidPartError: The part is of no kind that the store keeps, has a dtype that safetensors lacks, or is larger
            than 3 GiB.
    """
    kind, payload = _payload(part, key)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise InvalidPartError(
            f"The value of {key!r} has {len(payload)} bytes, more than the limit of {MAX_PAYLOAD_BYTES}",
            key=key,
            remedy="Split it into several parts.",
        )
    return Encoded(Header(kind, len(payload), _checksum(kind, payload)), payload)


def decode(encoded: Encoded, key: str) -> Part:
    """Verify the checksum and decode; arrays and tables are read-only views of the payload.

    Raises:
        CorruptObjectError: The payload does not match its header, or is not what its kind says.
    """
    verify(encoded, key)
    return decode_verified(encoded.header, encoded.payload, key)


def verify(encoded: Encoded, key: str) -> None:
    """Raise CorruptObjectError when the payload does not match its header."""
    if not encoded.header.matches(encoded.payload):
        raise _corrupt(key, "its bytes do not match their checksum")


def decode_verified(header: Header, payload: bytes | memoryview, key: str) -> Part:
    """Decode a payload whose checksum was just verified.

    Raises:
        CorruptObjectError: The payload is not what its kind says.
    """
    kind = header.kind
    try:
        if kind is _BYTES:
            return payload if type(payload) is bytes else bytes(payload)
        if kind is _TENSORS:
            return _read_tensors(memoryview(payload).toreadonly())
        return cast("pa.Table", pa.ipc.open_stream(pa.py_buffer(payload)).read_all())
    except (pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise _corrupt(key, f"its {kind.word} payload cannot be read, {error}") from error


def _corrupt(key: str, cause: str) -> CorruptObjectError:
    return CorruptObjectError(
        f"The object {key!r} is corrupt",
        key=key,
        cause=cause,
        remedy="Write it again (materialize its asset) or restore a backup (`aura tiers restore`).",
    )


def _checksum(kind: Kind, payload: bytes | memoryview) -> int:
    return _digest(payload, kind << 56 ^ len(payload))


def _payload(part: Part, key: str) -> tuple[Kind, bytes]:
    if isinstance(part, bytes):
        return Kind.BYTES, part
    if isinstance(part, pa.Table):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, part.schema) as writer:
            writer.write_table(part)
        return Kind.TABLE, sink.getvalue().to_pybytes()
    if isinstance(part, Mapping):
        return Kind.TENSORS, _write_tensors(part, key)
    raise InvalidPartError(
        f"The value of {key!r} is a {type(part).__name__}",
        key=key,
        remedy="The store keeps bytes, a pyarrow.Table, or a mapping of names to numpy arrays.",
    )


def _write_tensors(tensors: Tensors, key: str) -> bytes:
    """The safetensors format: widest dtype first, then by name, so that every array is aligned to its item size.

    The first one begins at a multiple of `ALIGNMENT`: what is computed from a view does not depend on where it lies.
    """
    for name, array in tensors.items():
        _check_array(name, array, key)
    ordered = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    arrays = [tensors[name].astype(tensors[name].dtype.newbyteorder("<"), order="C", copy=False) for name in ordered]
    index: dict[str, dict[str, object]] = {}
    offset = 0
    for name, array in zip(ordered, arrays, strict=True):
        end = offset + array.nbytes
        dtype = _SAFETENSORS_NAMES[array.dtype.name]
        index[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    header = json.dumps(index, separators=(",", ":")).encode()
    header += b" " * (-(8 + len(header)) % ALIGNMENT)
    return b"".join([len(header).to_bytes(8, "little"), header, *(array.data for array in arrays)])


def _check_array(name: object, array: object, key: str) -> None:
    known = isinstance(array, np.ndarray) and array.dtype.name in _SAFETENSORS_NAMES
    if isinstance(name, str) and name != "__metadata__" and known:
        return
    what = f"dtype {array.dtype}" if isinstance(array, np.ndarray) else f"type {type(array).__name__}"
    raise InvalidPartError(
        f"The array {name!r} of {key!r} has {what}",
        key=key,
        remedy=f"Names are strings but '__metadata__'; values are numpy arrays of {', '.join(_SAFETENSORS_NAMES)}.",
    )


def _read_tensors(payload: memoryview) -> Tensors:
    start = 8 + int.from_bytes(payload[:8], "little")
    index = json.loads(bytes(payload[8:start]))
    tensors = {}
    for name in sorted(index):
        entry = index[name]
        begin, end = entry["data_offsets"]
        dtype = _DTYPES[entry["dtype"]]
        tensors[name] = np.frombuffer(payload[start + begin : start + end], dtype=dtype).reshape(entry["shape"])
    return MappingProxyType(tensors)  # it may be handed to many
