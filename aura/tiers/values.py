"""What a value has to offer so that the store can keep it: named parts of three plain kinds.

The store knows bytes, arrays and Arrow tables. A domain type (an embedding table, a set of diagrams, the weights of a
model) takes itself apart into such parts and puts itself together again. Nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
import pyarrow as pa

Tensors: TypeAlias = Mapping[str, np.ndarray]
Part: TypeAlias = bytes | pa.Table | Tensors
"""One part of a value: raw bytes, an Arrow table, or named tensors of any shape and numeric dtype."""


@runtime_checkable
class StoredValue(Protocol):
    """A typed value that the catalog can publish and load."""

    def to_parts(self) -> Mapping[str, Part]:
        """Take the value apart. Part names are short, match `[a-z0-9-]+`, and mean the same on the way back."""
        ...

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put the value together from the parts that `to_parts` gave."""
        ...
