"""The parts of a value as blocks, the objects that placement moves one by one; and the digest of their content.

Belongs here: cutting, joining, the content version. Does not: keys, pointers, writing (`catalog.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import xxhash

from aura.tiers.codec import encode
from aura.tiers.values import Part

BLOCK_BYTES = 256 * 1024
"""Tables are cut by rows into blocks of about this size. The fixed cost of a get (2 to 5 us in shared memory and in a
warm RocksDB, where 256 KiB take 35 to 110 us) is then a few percent of it, and a block is small against a tier of some
MiB, so that a tier can be filled and the hot part of a table can live apart from the cold one."""


def cut(part: Part) -> list[Part]:
    """Cut a part into blocks: a table by rows, at least one row each; bytes and tensors are one block.

    An empty table is one block, which keeps its schema. How the table was chunked in memory does not matter.
    """
    if not isinstance(part, pa.Table):
        return [part]
    table = part.combine_chunks()
    # Not `nbytes`, which counts validity bitmaps without a null; those are not written, and come and go with chunks.
    size = sum(pa.ipc.get_record_batch_size(batch) for batch in table.to_batches())
    rows = max(1, table.num_rows)
    blocks = min(max(1, -(-size // BLOCK_BYTES)), rows)
    each = -(-rows // blocks)
    return [table.slice(start, each).combine_chunks() for start in range(0, rows, each)]


def join(blocks: Sequence[Part]) -> Part:
    """Put the blocks of one part together again; the rows of a table are not copied."""
    tables = [block for block in blocks if isinstance(block, pa.Table)]
    return pa.concat_tables(tables) if len(tables) == len(blocks) else blocks[0]


def content_version(parts: Mapping[str, Sequence[Part]]) -> tuple[str, int]:
    """Digest a value's blocks: XXH3-128 over names and encoded bytes, in order of the part names.

    Returns:
        The digest as 32 hexadecimal digits, and the encoded bytes in all.
    """
    digest, size = xxhash.xxh3_128(), 0
    for name in sorted(parts):
        for number, block in enumerate(parts[name]):
            encoded = encode(block, f"{name}/{number}")
            digest.update(f"{name}/{number}/{encoded.header.kind}/{len(encoded.payload)}/".encode())
            digest.update(encoded.payload)
            size += len(encoded.payload)
    return digest.hexdigest(), size


def rough_bytes(block: Part) -> int:
    """Bytes of a block's content in memory, near to what it is encoded."""
    if isinstance(block, Mapping):
        return sum(array.nbytes for array in block.values())
    return len(block) if isinstance(block, bytes) else int(block.nbytes)
