"""What has to hold for embeddings that mean something."""

from __future__ import annotations

import numpy as np

from aura.embeddings.encoder import Vectors
from aura.embeddings.table import EmbeddingTable
from aura.measure.checks import CheckResult

MAX_MEAN_COSINE = 0.98


def unit_norms(table: EmbeddingTable, tolerance: float = 1e-3) -> CheckResult:
    """Check that every vector has length 1 within `tolerance`."""
    norms = np.linalg.norm(table.vectors.astype(np.float64), axis=1)
    deviation = np.abs(norms - 1.0)
    worst = float(deviation.max()) if len(deviation) else 0.0
    return CheckResult(
        passed=worst <= tolerance,
        figures={"vectors": float(len(norms)), "worst_deviation": worst, "tolerance": tolerance},
        description=f"Every vector has length 1 within {tolerance:g}: the worst of {len(norms)} is off by {worst:.2g}.",
    )


def no_collapse(table: EmbeddingTable) -> CheckResult:
    """Check that the vectors neither point one way nor lie in a few directions.

    Two figures over all vectors: the mean cosine of all pairs, at most `MAX_MEAN_COSINE`, and the effective rank of
    the centred vectors (Roy and Vetterli 2007: exp of the entropy of the normalised singular values), at least
    `rank_floor`. Fewer than three vectors cannot be judged and pass.
    """
    vectors = table.vectors
    n, d = vectors.shape
    if n < 3:
        return CheckResult(passed=True, figures={"vectors": float(n)}, description=f"{n} vectors: too few to judge.")
    cosine, rank, floor = mean_cosine(vectors), effective_rank(vectors), rank_floor(n, d)
    return CheckResult(
        passed=cosine <= MAX_MEAN_COSINE and rank >= floor,
        figures={"vectors": float(n), "mean_cosine": cosine, "effective_rank": rank, "rank_floor": floor},
        description=(
            f"Collapsed vectors cannot tell items apart: the mean cosine of all pairs is {cosine:.3f} (at most "
            f"{MAX_MEAN_COSINE}), the effective rank {rank:.1f} of {d} dimensions (at least {floor:.1f})."
        ),
    )


def not_one_point(table: EmbeddingTable) -> CheckResult:
    """Check that the vectors do not all point one way: the mean cosine of all pairs is at most `MAX_MEAN_COSINE`.

    For a space whose vectors gather around the things they are about, however few these are.
    """
    vectors = table.vectors
    if len(vectors) < 3:
        return CheckResult(passed=True, figures={"vectors": float(len(vectors))}, description="Too few to judge.")
    cosine = mean_cosine(vectors)
    return CheckResult(
        passed=cosine <= MAX_MEAN_COSINE,
        figures={"vectors": float(len(vectors)), "mean_cosine": cosine},
        description=f"The mean cosine of all pairs is {cosine:.3f} (at most {MAX_MEAN_COSINE}).",
    )


def rank_floor(n: int, d: int) -> float:
    """The effective rank that n vectors of dimension d should reach.

    One bit per direction tells 2^r items apart, so fewer than log2(n) directions cannot separate n items even by their
    signs. Few items or few dimensions cannot reach that: half of what is possible, min(n - 1, d), is enough there.
    """
    return min(float(np.log2(n)), min(n - 1, d) / 2)


def mean_cosine(vectors: Vectors) -> float:
    """Mean cosine over all pairs of unit vectors [n, d], n >= 2, from the length of their sum."""
    n = len(vectors)
    total = vectors.sum(axis=0, dtype=np.float64)
    own = float(np.einsum("nd,nd->", vectors, vectors, dtype=np.float64))
    return (float(total @ total) - own) / (n * (n - 1))


def effective_rank(vectors: Vectors) -> float:
    """Effective rank of the centred vectors [n, d]; 0 where all are equal."""
    centred = vectors.astype(np.float64)
    centred -= centred.mean(axis=0)
    gram = centred.T @ centred if len(centred) > centred.shape[1] else centred @ centred.T
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0.0, None))
    # Below this a singular value is the rounding of float32 input, not a direction.
    singular = singular[singular > np.finfo(np.float32).eps * np.sqrt(len(vectors))]
    if not len(singular):
        return 0.0
    share = singular / singular.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
