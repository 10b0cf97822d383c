"""The contrastive loss that knows which items of a batch are about the same thing."""

from __future__ import annotations

import torch  # noqa: TID253 - works on tensors; nothing light imports this module
from torch import Tensor  # noqa: TID253


def contrastive_loss(one: Tensor, other: Tensor, concepts: Tensor, other_concepts: Tensor, scale: Tensor) -> Tensor:
    """How badly the vectors of two modalities find each other, in nats, the mean of both directions.

    The probability of an item's partners is that of all items of its concept together, so that they are not pushed
    away from each other as the loss of CLIP would (Radford et al. 2021, arXiv 2103.00020; sums over several partners:
    Miech et al. 2020, arXiv 1912.06430). An item without a partner in the batch does not count.

    Args:
        one: Unit vectors [n, d].
        other: Unit vectors of the other modality [m, d].
        concepts: What each of the first is about [n].
        other_concepts: What each of the other is about [m].
        scale: Factor of the cosines, the inverse of the temperature.

    Returns:
        A scalar; 0 where nothing has a partner.
    """
    logits = scale * one @ other.T
    same = concepts[:, None] == other_concepts[None]
    return (_direction(logits, same) + _direction(logits.T, same.T)) / 2


def _direction(logits: Tensor, same: Tensor) -> Tensor:
    has_partner = same.any(dim=1)
    if not has_partner.any():
        return logits.sum() * 0.0
    logits, same = logits[has_partner], same[has_partner]
    partners = logits.masked_fill(~same, -torch.inf).logsumexp(dim=1)
    return (logits.logsumexp(dim=1) - partners).mean()
