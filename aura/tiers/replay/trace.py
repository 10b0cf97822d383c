"""An access trace in memory.

Belongs here: the one form that readers make and simulations take. Does not: any file format (`readers`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Trace:
    """What was accessed, in order.

    Attributes:
        name: Where it comes from, for tables and plots.
        ids: int64[n], the key of each access.
        sizes: int64[n], bytes of the object at each access, positive; None where the source has no sizes.
    """

    name: str
    ids: NDArray[np.int64]
    sizes: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.ids.ndim != 1:
            raise ValueError(f"trace {self.name}: ids have shape {self.ids.shape}; one dimension is expected")
        if self.sizes is None:
            return
        if self.sizes.shape != self.ids.shape:
            raise ValueError(f"trace {self.name}: {len(self.ids)} ids, but sizes of shape {self.sizes.shape}")
        if len(self.sizes) and self.sizes.min() <= 0:
            raise ValueError(f"trace {self.name}: a size is {self.sizes.min()}; sizes are positive")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def weights(self) -> NDArray[np.int64]:
        """int64[n], the sizes, or ones where there are none."""
        return np.ones(len(self.ids), dtype=np.int64) if self.sizes is None else self.sizes

    @property
    def unique(self) -> int:
        """Number of different keys."""
        return len(self._first_accesses)

    @property
    def footprint(self) -> int:
        """Bytes of all different objects at their first access; their number where there are no sizes."""
        return int(self.weights[self._first_accesses].sum())

    def without_sizes(self) -> Trace:
        """The same accesses, each of size one."""
        return Trace(self.name, self.ids)

    def next_uses(self) -> NDArray[np.int64]:
        """int64[n], the index of the next access to the same key; n where there is none."""
        count = len(self.ids)
        following = np.full(count, count, dtype=np.int64)
        order = np.argsort(self.ids, kind="stable")
        same = self.ids[order[1:]] == self.ids[order[:-1]]
        following[order[:-1][same]] = order[1:][same]
        return following

    @cached_property
    def _first_accesses(self) -> NDArray[np.int64]:
        return np.unique(self.ids, return_index=True)[1].astype(np.int64)
