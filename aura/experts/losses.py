"""The two auxiliary losses of a top-1 router, each of one layer and without its weight.

Of several layers, take the loss of each and add: pooled over layers, routers that each collapsed onto a different
expert look perfectly balanced.
"""

from __future__ import annotations

import torch  # noqa: TID253 - these are functions of tensors; nothing light imports this module


def load_balancing_loss(probabilities: torch.Tensor, expert: torch.Tensor) -> torch.Tensor:
    """E * sum_i f_i P_i: 1 when balanced, E when one expert takes everything (Switch, arXiv 2101.03961, eq. 4-6).

    f_i is the share of tokens sent to expert i before capacity cuts any off; P_i the mean router probability. The
    gradient flows through P alone.

    Args:
        probabilities: Router probabilities [tokens, E], floating.
        expert: The chosen expert of each token [tokens], int64.

    Returns:
        A scalar, to be multiplied by alpha (0.01 in the paper).
    """
    tokens, experts = probabilities.shape
    f = torch.bincount(expert, minlength=experts).to(probabilities.dtype) / tokens
    return experts * (f * probabilities.mean(dim=0)).sum()


def router_z_loss(logits: torch.Tensor) -> torch.Tensor:
    """Mean squared log-sum-exp of the router logits (ST-MoE, arXiv 2202.08906, eq. 5).

    Args:
        logits: Router logits [tokens, E], floating.

    Returns:
        A scalar, to be multiplied by its weight (0.001 in the paper).
    """
    return torch.logsumexp(logits, dim=1).square().mean()
