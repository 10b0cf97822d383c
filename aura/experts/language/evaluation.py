"""Bits per byte of a causal language model on held-out text: comparable over tokenizers (Gao et al., arXiv 2101.00027).

Belongs here: the measurement. Does not: the text (`aura.experts.language.tokens`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch  # noqa: TID253 - evaluates neural networks; nothing light imports this module
from torch.nn.functional import cross_entropy  # noqa: TID253
from transformers import PreTrainedModel  # noqa: TID253

from aura.experts.language.card import BitsPerByte
from aura.experts.language.tokens import LanguageText

BATCH = 32


def require_sequences(text: LanguageText, sequence: int) -> None:
    """Raise ValueError where the held-out text of a domain is shorter than one sequence of so many tokens."""
    for name, tokens in text.held_out.items():
        if len(tokens) < sequence:
            raise ValueError(
                f"the held-out text of {name!r} has {len(tokens)} tokens, fewer than a sequence of {sequence}: give "
                "more text, or a shorter sequence"
            )


@torch.no_grad()
def bits_per_byte(
    model: PreTrainedModel,
    text: LanguageText,
    *,
    sequence: int,
    sequences: int | None = None,
    observe: Callable[[], None] = lambda: None,
) -> BitsPerByte:
    """Bits that the model needs for the held-out text over its bytes, of each domain.

    The text is cut into sequences that do not overlap; each token of one but the first is predicted from those before
    it, and counts with its bytes. The ends of documents count with their bits and no bytes.

    Args:
        model: Anything that answers `input_ids` with `logits`; its mode is restored.
        text: Its held-out part.
        sequence: Tokens of a sequence, at least 2.
        sequences: Sequences of each domain, spread evenly; None for all.
        observe: Called after each forward pass of the model.

    Raises:
        ValueError: A domain's held-out text is shorter than one sequence.
    """
    require_sequences(text, sequence)
    sizes = torch.from_numpy(text.token_bytes())
    was_training = model.training
    model.train(mode=False)
    domains = {}
    for name, tokens in text.held_out.items():
        bits, size = 0.0, 0
        for windows in _windows(tokens, sequence, sequences):
            logits = model(input_ids=windows.to(model.device)).logits[:, :-1]
            observe()
            targets = windows[:, 1:]
            nats = cross_entropy(logits.flatten(0, 1).float(), targets.flatten().to(model.device), reduction="sum")
            bits += nats.item() / math.log(2)
            size += int(sizes[targets].sum())
        domains[name] = bits / size
    model.train(was_training)
    return BitsPerByte.of(domains)


def _windows(tokens: np.ndarray, sequence: int, sequences: int | None) -> Iterator[torch.Tensor]:
    """Tokens [batch, sequence] int64."""
    count = len(tokens) // sequence
    chosen = np.arange(count)
    if sequences is not None and sequences < count:
        chosen = np.linspace(0, count - 1, sequences).astype(np.int64)
    at = chosen[:, None] * sequence + np.arange(sequence)
    for first in range(0, len(at), BATCH):
        yield torch.from_numpy(np.asarray(tokens)[at[first : first + BATCH]].astype(np.int64))
