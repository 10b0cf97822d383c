"""The two auxiliary losses of a router, each of one layer and without its weight.

Of several layers, take the loss of each and add: pooled over layers, routers that each collapsed onto a different
expert look perfectly balanced.
"""

from __future__ import annotations

import torch  # noqa: TID253 - these are functions of tensors; nothing light imports this module


def load_balancing_loss(
    probabilities: torch.Tensor, choices: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """E * sum_i f_i P_i: 1 when balanced, E / k when the same k experts take everything.

    f_i is the share of tokens sent to expert i before capacity cuts any off, P_i the mean router probability (Switch,
    arXiv 2101.03961, eq. 4-6). With k choices of a token f_i is the share of all choices, so that it still adds up to
    1. The gradient flows through P alone.

    Args:
        probabilities: Router probabilities [tokens, E], floating.
        choices: The chosen expert of each token [tokens], or its k chosen experts [tokens, k], int64.
        mask: Not zero for tokens that count [tokens]; None: all of them.

    Returns:
        A scalar, to be multiplied by alpha (0.01 in the paper).
    """
    experts = probabilities.shape[1]
    if mask is not None:
        counted = mask.bool()
        probabilities, choices = probabilities[counted], choices[counted]
    f = torch.bincount(choices.flatten(), minlength=experts).to(probabilities.dtype) / choices.numel()
    return experts * (f * probabilities.mean(dim=0)).sum()


def router_z_loss(logits: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Mean squared log-sum-exp of the router logits (ST-MoE, arXiv 2202.08906, eq. 5).

    Args:
        logits: Router logits [tokens, E], floating.
        mask: As in `load_balancing_loss`.

    Returns:
        A scalar, to be multiplied by its weight (0.001 in the paper).
    """
    if mask is not None:
        logits = logits[mask.bool()]
    return torch.logsumexp(logits, dim=1).square().mean()
