"""What a request came to.

Belongs here: the modes by name, the records that inference returns. Does not: inference (`runtime`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Mode(StrEnum):
    """How experts get into fast memory."""

    RESIDENT = "resident"
    COLD = "cold"
    LRU = "lru"
    ONLINE = "online"
    PLANNED = "planned"


@dataclass(frozen=True, slots=True)
class RunFigures:
    """What a request came to.

    Attributes:
        mode: The mode.
        prompt_tokens: Tokens of the prompt.
        new_tokens: Tokens that were generated.
        seconds: Wall seconds of all.
        prefill_seconds: Of it, until the first token was there.
        cpu_seconds: CPU seconds of the process, its other threads included.
        hits: Uses of experts that were in memory when their layer was reached; with LRU in the fast tier.
        misses: The other uses.
        reads: Uses by the tier that they were read from.
        bytes_read: Bytes that were copied for them.
        moved: Experts that were brought to fast memory.
        waited_seconds: Seconds that the computation waited for experts.
        useful: Experts that were fetched ahead, and used.
        useless: Those that were fetched in vain.
        ways: Seconds of a decoding step by each way of fetching, as measured so far.
        way: The one that is used.
        kind: Kind of the prompt; 0 in the modes that tell none apart.
    """

    mode: Mode
    prompt_tokens: int
    new_tokens: int
    seconds: float
    prefill_seconds: float
    cpu_seconds: float
    hits: int = 0
    misses: int = 0
    reads: dict[str, int] = field(default_factory=dict)
    bytes_read: int = 0
    moved: int = 0
    waited_seconds: float = 0.0
    useful: int = 0
    useless: int = 0
    ways: dict[str, float] = field(default_factory=dict)
    way: str = ""
    kind: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens over the seconds of all."""
        return self.new_tokens / self.seconds

    @property
    def hit_ratio(self) -> float | None:
        """Hits over all uses; None where the store was not used."""
        uses = self.hits + self.misses
        return self.hits / uses if uses else None


@dataclass(frozen=True, eq=False, slots=True)
class Generation:
    """The answer to one request.

    Attributes:
        tokens: int64[n], the new tokens.
        activations: int64[layers, E], tokens that used each expert; without assignments that capacity dropped.
        given: int64[layers], tokens that each layer was given: of an encoder those of the prompt, otherwise also the
            new ones but the last, which nothing follows.
        dropped: int64[layers], assignments that capacity dropped.
        figures: What it came to.
    """

    tokens: NDArray[np.int64]
    activations: NDArray[np.int64]
    given: NDArray[np.int64]
    dropped: NDArray[np.int64]
    figures: RunFigures
