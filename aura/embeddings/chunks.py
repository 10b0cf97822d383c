"""Long inputs in windows that overlap, and one vector out of those of the windows.

Belongs here: where windows begin and end, their weights, the pooling. Does not: tokens and samples.

The vector of a long input is the mean of its windows' vectors, each weighted with what only it adds: the part that it
shares with the window before counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aura.embeddings.encoder import LongInputs, Vectors, unit_rows

MAX_CHUNKS = 64
"""Windows of one input: 64 of 256 tokens are a chapter, 64 of 30 s are half an hour."""


@dataclass(frozen=True)
class Chunking:
    """How inputs beyond a model's limit are encoded.

    Attributes:
        long_inputs: "chunk" for windows, "truncate" for the beginning alone.
        overlap: What a window shares with the one before, in the unit of its limit, less than half of the limit.
        max_chunks: Windows of one input; what comes after them is cut off.
    """

    long_inputs: LongInputs
    overlap: float
    max_chunks: int = MAX_CHUNKS

    def __post_init__(self) -> None:
        if self.long_inputs not in ("chunk", "truncate"):
            raise ValueError(f"long_inputs is 'chunk' or 'truncate', got {self.long_inputs!r}")
        if self.overlap < 0 or self.max_chunks < 1:
            raise ValueError(
                f"overlap is at least 0 and max_chunks at least 1, got {self.overlap} and {self.max_chunks}"
            )

    def windows(self, length: int, limit: int | None, overlap: int) -> list[Window]:
        """Windows that cover an input, as far as the settings allow.

        Args:
            length: Of the input.
            limit: Longest window, at least 1; None where there is no limit.
            overlap: In the same unit; no more than half of the limit is used.
        """
        if limit is None or length <= limit:
            return [Window(0, length, length)]
        if self.long_inputs == "truncate":
            return [Window(0, limit, limit)]
        shared = min(overlap, limit // 2)
        windows = [Window(0, limit, limit)]
        while windows[-1].end < length and len(windows) < self.max_chunks:
            start, end = windows[-1].end - shared, min(windows[-1].end - shared + limit, length)
            windows.append(Window(start, end, end - windows[-1].end))
        return windows


@dataclass(frozen=True)
class Window:
    """A part of an input.

    Attributes:
        start: Where it begins.
        end: Where it ends; not included.
        own: How much of it is not in the window before.
    """

    start: int
    end: int
    own: int


def pooled(vectors: Vectors, owners: Sequence[int], own: Sequence[int]) -> tuple[Vectors, NDArray[np.bool_]]:
    """The vectors of inputs out of those of their windows.

    Args:
        vectors: [w, d], one row per window.
        owners: [w] the input of each window: 0, 1, ... in ascending order, none left out.
        own: [w] how much each window adds.

    Returns:
        [m, d] of length 1, where an input of one window has its vector, and which inputs [m] have a vector: one with
        a window whose vector is zero or not finite, or whose windows cancel each other, has zeros.
    """
    units, directed = unit_rows(vectors)
    firsts: NDArray[np.intp] = np.flatnonzero(np.diff(np.asarray(owners), prepend=-1))
    if len(firsts) == len(units):
        return units, directed
    weights = np.maximum(np.asarray(own, np.float32), 1.0)[:, None]
    means, has_mean = unit_rows(np.add.reduceat(units * weights, firsts, axis=0))
    alone = np.diff(firsts, append=len(units)) == 1
    usable = np.logical_and.reduceat(directed, firsts) & (alone | has_mean)
    found: Vectors = np.where(alone[:, None], units[firsts], means)
    found[~usable] = 0.0
    return found, usable
