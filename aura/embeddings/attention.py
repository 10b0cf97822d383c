"""Attention over sequences of equal length, with few passes over the scores.

Belongs here: queries, keys and values of heads to what the heads attend to, for `aura.embeddings.packed` and for
networks of `transformers`. Does not: the layers around it.

A softmax subtracts the largest score of each row, so that no exponential overflows. In bfloat16 on a CPU finding it
costs as much as both products. Nearly all scores of trained networks are far from the ends of the exponent (in MiniLM
the largest of a row is between 2^-1 and 2^129, beyond 2^120 once in 600 batches), so the exponentials are taken as they
are; their sums tell whether one was too large or all too small, and then the library's attention is asked. On a
processor with AVX512-BF16, 12 heads of 32 take 1/4 of the library's time at 25 tokens and 3/5 at 256, 6 heads of 64
take 3/5 at the 1,500 frames of Whisper; float32 gains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NAME = "aura_unshifted"
"""What networks of `transformers` call this attention."""

SCORE_BYTES = 16 * 2**20
"""Scores that are in memory at the same time; one head has all of its own at once."""

_NOT_PLAIN = ("position_bias", "softcap", "sliding_window", "cache", "s_aux")
"""Arguments of the library's attention that change what is attended to."""

SUM_BOUNDS = (2.0**-64, 2.0**120)
"""Sums of exponentials within which a softmax without its shift is exact: the format ends at 2^-126 and 2^128."""


def query_scale(size: int) -> float:
    """What queries are multiplied with before `attention`, best in their weights.

    Args:
        size: Dimensions of one head.
    """
    return math.log2(math.e) / math.sqrt(size)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What each position attends to.

    Args:
        q: Queries [sequences, heads, length, size], multiplied with `query_scale`.
        k: Keys of the same shape.
        v: Values of the same shape.
    """
    from torch.nn.functional import scaled_dot_product_attention

    attended = _unshifted(q, k, v) if _pays(q) else None
    # The scores are those of powers of 2.
    return scaled_dot_product_attention(q, k, v, scale=math.log(2)) if attended is None else attended


def use_in(module: torch.nn.Module) -> Callable[[], None]:
    """Let the networks of `transformers` in a module attend in this way where nothing is masked.

    Returns:
        What makes them attend as before.
    """
    from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _of_transformers)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    parts = [part for part in module.modules() if isinstance(part, PreTrainedModel)]
    changed = [part for part in parts if part.config._attn_implementation == "sdpa"]  # noqa: SLF001
    for part in changed:
        part.set_attn_implementation(NAME)

    def undo() -> None:
        for part in changed:
            part.set_attn_implementation("sdpa")

    return undo


def _of_transformers(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **others: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """The library's interface: heads [sequences, heads, length, size] to [sequences, length, heads, size]."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    causal = others.get("is_causal")
    is_plain = (
        attention_mask is None
        and not (getattr(module, "is_causal", False) if causal is None else causal)
        and not others.get("dropout")
        and all(others.get(name) is None for name in _NOT_PLAIN)
        and query.shape == key.shape == value.shape
    )
    if is_plain and _pays(query):
        scaling = others.get("scaling")
        scale = query_scale(query.shape[-1]) if scaling is None else scaling * math.log2(math.e)
        attended = _unshifted(query * scale, key, value)
        if attended is not None:
            return attended.transpose(1, 2).contiguous(), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, **others)


def _pays(q: Tensor) -> bool:
    import torch

    return q.device.type == "cpu" and q.dtype == torch.bfloat16


def _unshifted(q: Tensor, k: Tensor, v: Tensor) -> Tensor | None:
    """Attention without the shift of the softmax; None where that leaves the range of the numbers."""
    import torch

    q3, k3, v3 = (part.flatten(0, 1) for part in (q, k, v))
    heads = max(SCORE_BYTES // (q3.element_size() * q3.shape[1] ** 2), 1)
    attended = []
    for start in range(0, len(q3), heads):
        part = slice(start, start + heads)
        powers = (q3[part] @ k3[part].transpose(1, 2)).exp2_()
        sums = powers.sum(-1, keepdim=True)
        smallest, largest = (float(bound) for bound in sums.aminmax())
        if not SUM_BOUNDS[0] <= smallest <= largest <= SUM_BOUNDS[1]:
            return None
        attended.append((powers @ v3[part]) / sums)
    return (attended[0] if len(attended) == 1 else torch.cat(attended)).view(q.shape)
