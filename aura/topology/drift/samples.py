"""Two independent samples out of a reference and what is there now, cut into blocks.

An item that both hold must not stand on both sides: the samples would agree by construction. So every item is used
once. Which side a shared item takes, and the order that blocks are cut in, come from a keyed hash of its id: random for
the test, the same at every repetition, and independent of the order in which items arrive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class SampleError(ValueError):
    """Samples cannot be made of these items; the message says what to change."""


@dataclass(frozen=True)
class TwoSamples:
    """Rows of the reference and rows of the current items, no item in both, each in random order.

    Attributes:
        reference: int64 [n], rows of the reference.
        current: int64 [k], rows of the current items.
        shared: Items that both held before they were dealt out.
    """

    reference: NDArray[np.int64]
    current: NDArray[np.int64]
    shared: int


@dataclass(frozen=True)
class BlockPlan:
    """How many blocks of how many items each side is cut into; the items left over are in no block."""

    size: int
    reference: int
    current: int


def shuffled(ids: Sequence[str], *, seed: int, purpose: str) -> NDArray[np.int64]:
    """A random order of items that depends on their ids alone: int64 [n], rows by the keyed hash (BLAKE2b) of the id.

    Args:
        ids: Unique ids.
        seed: Another seed is another order.
        purpose: Another purpose, up to 16 bytes, is another order too: what was sampled is then dealt independently.
    """
    key, person = seed.to_bytes(8, "big", signed=True), purpose.encode()
    digests = b"".join(
        hashlib.blake2b(each.encode("utf-8", "surrogatepass"), digest_size=8, key=key, person=person).digest()
        for each in ids
    )
    return np.argsort(np.frombuffer(digests, dtype=">u8"), kind="stable").astype(np.int64)


def two_samples(reference: Sequence[str], current: Sequence[str], *, seed: int) -> TwoSamples:
    """Deal the items out: what one side alone holds to that side, what both hold in two halves.

    With nothing changed this is a random split of one population, so any permutation test on it is exact. A few new
    items are diluted by the unchanged ones among which they stand, in the share that they have.

    Raises:
        SampleError: An id occurs twice on one side.
    """
    row_before, row_now = _rows(reference, "the reference"), _rows(current, "the current items")
    shared = [each for each in row_before if each in row_now]
    dealt = [shared[place] for place in shuffled(shared, seed=seed, purpose="deal")]
    half = (len(dealt) + 1) // 2
    before = [each for each in row_before if each not in row_now] + dealt[:half]
    now = [each for each in row_now if each not in row_before] + dealt[half:]
    return TwoSamples(
        reference=_in_random_order(before, row_before, seed),
        current=_in_random_order(now, row_now, seed),
        shared=len(shared),
    )


def plan_blocks(reference: int, current: int, *, smallest: int, largest: int, wanted: int, most: int) -> BlockPlan:
    """Choose the size of blocks: the largest that leaves the smaller side `wanted` of them, within the given limits.

    Large blocks show the shape, many blocks show how much it varies.

    Args:
        reference: Items of the reference's sample.
        current: Items of the current sample.
        smallest: Least items of a block.
        largest: Most items of a block.
        wanted: Blocks that the smaller side should have.
        most: Most blocks of a side; the time grows with the square.
    """
    size = min(max(min(reference, current) // wanted, smallest), largest)
    return BlockPlan(size=size, reference=min(reference // size, most), current=min(current // size, most))


def _rows(ids: Sequence[str], side: str) -> dict[str, int]:
    rows = {each: row for row, each in enumerate(ids)}
    if len(rows) != len(ids):
        twice = next(each for row, each in enumerate(ids) if rows[each] != row)
        raise SampleError(f"{side} hold the id {twice!r} twice: keep one row for each item")
    return rows


def _in_random_order(ids: list[str], rows: dict[str, int], seed: int) -> NDArray[np.int64]:
    return np.array([rows[ids[place]] for place in shuffled(ids, seed=seed, purpose="order")], dtype=np.int64)
