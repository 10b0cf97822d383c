"""One vector for an item that is seen and heard: the vectors of its modalities put together.

Belongs here: the rules. Does not: what they gain (`aura.embeddings.joint.fusion_gain`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aura.embeddings.encoder import Vectors

_TINY = 1e-6


def fuse(
    vectors_by_modality: Mapping[str, Vectors], confidence: Mapping[str, NDArray[np.float32]] | None = None
) -> Vectors:
    """The direction of the mean of an item's unit vectors, of the modalities that it has.

    Args:
        vectors_by_modality: Per modality [n, d] of length 1, row i of each for item i; a row of NaN where an item lacks
            the modality.
        confidence: Per modality [n] how much each vector counts, 0 or more; all alike when not given.

    Returns:
        [n, d] of length 1; vectors that cancel out give that of the most confident modality.

    Raises:
        ValueError: Shapes differ, a confidence is missing or negative, or an item has no vector at all.
    """
    names = sorted(vectors_by_modality)
    if not names or len({vectors_by_modality[name].shape for name in names}) != 1:
        shapes = {name: vectors_by_modality[name].shape for name in names}
        raise ValueError(f"fusing needs vectors of one shape [items, dimensions] per modality, got {shapes}")
    stacked = np.stack([vectors_by_modality[name] for name in names]).astype(np.float64)
    present = np.asarray(np.isfinite(stacked).all(axis=2))
    weights = present.astype(np.float64)
    if confidence is not None:
        missing = [name for name in names if name not in confidence]
        if missing:
            raise ValueError(f"the confidence of modality {missing[0]!r} is not given")
        given = np.stack([np.asarray(confidence[name], np.float64) for name in names])
        if not (given >= 0)[present].all():
            raise ValueError(f"a confidence is a number of at least 0, got {given.min()}")
        # A vector nobody has confidence in is still better than none.
        weights = np.where(present, given + _TINY, 0.0)
    if not present.any(axis=0).all():
        raise ValueError(f"item {int(np.argmin(present.any(axis=0)))} has no vector of any of {', '.join(names)}")
    sums = (np.where(present[:, :, None], stacked, 0.0) * weights[:, :, None]).sum(axis=0)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    best = stacked[weights.argmax(axis=0), np.arange(stacked.shape[1])]
    cancelled = norms <= _TINY * weights.max(axis=0)[:, None]
    fused: Vectors = np.where(cancelled, best, sums / np.where(cancelled, 1.0, norms)).astype(np.float32)
    return fused


def margins(vectors: Vectors, prototypes: Vectors) -> NDArray[np.float32]:
    """How clearly each vector points to one of the prototypes: its largest cosine less the second largest [n].

    Args:
        vectors: [n, d] of length 1; NaN gives 0.
        prototypes: [k, d] of length 1, k >= 2, such as the vectors of the names of all classes.
    """
    if len(prototypes) < 2:
        raise ValueError(f"a margin needs 2 prototypes or more, got {len(prototypes)}")
    cosines = np.nan_to_num(vectors) @ prototypes.T
    two = np.partition(cosines, -2, axis=1)[:, -2:]
    clear: NDArray[np.float32] = two[:, 1] - two[:, 0]
    return clear
