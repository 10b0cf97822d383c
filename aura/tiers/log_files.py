"""RocksDB's log files, the write-ahead logs and the MANIFEST, looked at before RocksDB reads them.

Belongs here: the frames of these files, and telling a damaged frame from a torn write. Does not: what is in the
records, which RocksDB verifies by their checksums.

RocksDB leaves out, in silence, a last record that reaches past the end of the file: so looks a write that a crash tore,
and it was never acknowledged. But so looks a flipped bit in a record's length too, which would take back what was
acknowledged. Such a record is found here: its checksum fits the bytes of a shorter one. And a flipped bit in a record's
type can keep RocksDB reading for ever (facebook/rocksdb issue 11968).

Format: github.com/facebook/rocksdb/wiki/Write-Ahead-Log-File-Format. Blocks of 32 KiB; records with a masked CRC-32C of
type and payload (u32), length of the payload (u16), type (u8), all little-endian, and the payload.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from aura.tiers.errors import CorruptStoreError

_BLOCK = 32 << 10
_FRAME = struct.Struct("<IHB")
_UNWRITTEN = (0, 0, 0)
_TYPES = range(1, 5)
"""Whole, first, middle, last. The others are for logs that are used again or compressed; the store has none of them."""
_ONES = 0xFFFFFFFF
_MASK_DELTA = 0xA282EAD8


def check_log_files(database: Path, remedy: str) -> None:
    """Refuse a database with a damaged frame in a log file; a torn end is none.

    Args:
        database: Its directory; one that does not exist is fine.
        remedy: What can be done about it, for the error.

    Raises:
        CorruptStoreError: With the file and the byte.
        OSError: A file cannot be read.
    """
    for path in sorted([*database.glob("*.log"), *database.glob("MANIFEST-*")]):
        if path.stat().st_size == 0:
            continue
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            fault = _fault(data)
        if fault:
            raise CorruptStoreError("Cannot open the database", path=str(path), cause=fault, remedy=remedy)


def _fault(data: mmap.mmap) -> str:
    """What is wrong with the frames, or ""."""
    at, size = 0, len(data)
    while at < size:
        end_of_block = min(at - at % _BLOCK + _BLOCK, size)
        if end_of_block - at < _FRAME.size:  # zeros that fill the block, or a torn frame at the end
            at = end_of_block
            continue
        frame = checksum, length, kind = _FRAME.unpack_from(data, at)
        end = at + _FRAME.size + length
        if frame == _UNWRITTEN:
            at = end_of_block
        elif kind not in _TYPES:
            return f"the record at byte {at} has the unknown type {kind}"
        elif end <= end_of_block:
            at = end
        elif end_of_block < size:
            return f"the record at byte {at} reaches past its block"
        elif _fits_a_shorter_one(checksum, data[at + _FRAME.size - 1 : size]):
            return f"the record at byte {at} has the length {length}, which is not what its checksum was made for"
        else:
            break
    return ""


def _fits_a_shorter_one(checksum: int, typed: bytes) -> bool:
    """Whether the checksum is that of the type and any number of the payload's bytes that are there."""
    rotated = (checksum - _MASK_DELTA) & _ONES
    wanted = (rotated >> 17 | rotated << 15) & _ONES ^ _ONES
    table = _table()
    crc = _ONES
    for byte in typed:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
        if crc == wanted:
            return True
    return False


def _table() -> list[int]:
    """CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) of each byte."""
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 if crc & 1 else crc >> 1
        table.append(crc)
    return table
