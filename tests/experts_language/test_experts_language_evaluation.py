"""Bits per byte, against what can be worked out by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from aura.experts.language.evaluation import bits_per_byte


class Known(nn.Module):
    """Gives every next token the probabilities that it was made with."""

    device = torch.device("cpu")

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits
        self.seen: list[torch.Tensor] = []

    def forward(self, input_ids):
        self.seen.append(input_ids)
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, -1))


def scored(tokens, sequence):
    """Tokens that are predicted: all but the first of each whole sequence."""
    whole = np.asarray(tokens)[: len(tokens) // sequence * sequence].reshape(-1, sequence)
    return whole[:, 1:].ravel()


def test_a_uniform_model_takes_the_logarithm_of_the_vocabulary_for_each_token(small_text):
    vocabulary = small_text.card.vocabulary
    found = bits_per_byte(Known(torch.zeros(vocabulary)), small_text, sequence=16)
    sizes = small_text.token_bytes()
    expected = {}
    for domain, tokens in small_text.held_out.items():
        targets = scored(tokens, 16)
        expected[domain] = math.log2(vocabulary) * len(targets) / sizes[targets].sum()
    assert found.domains == pytest.approx(expected)
    assert found.mean == pytest.approx(np.mean(list(expected.values())))


def test_a_model_of_known_frequencies_takes_their_cross_entropy(small_text):
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.softmax(torch.randn(small_text.card.vocabulary, generator=generator), 0)
    found = bits_per_byte(Known(probabilities.log()), small_text, sequence=16)
    sizes = small_text.token_bytes()
    for domain, tokens in small_text.held_out.items():
        targets = scored(tokens, 16)
        bits = -np.log2(probabilities.double().numpy()[targets]).sum()
        assert found.domains[domain] == pytest.approx(bits / sizes[targets].sum(), rel=1e-5)


def test_fewer_sequences_are_spread_over_the_text_and_whole_ones(small_text):
    model = Known(torch.zeros(small_text.card.vocabulary))
    bits_per_byte(model, small_text, sequence=16, sequences=3)
    assert [tuple(seen.shape) for seen in model.seen] == [(3, 16)] * len(small_text.held_out)
    for seen, tokens in zip(model.seen, small_text.held_out.values(), strict=True):
        whole = np.asarray(tokens)[: len(tokens) // 16 * 16].reshape(-1, 16)
        assert seen[0].tolist() == whole[0].tolist()
        assert seen[-1].tolist() == whole[-1].tolist()


def test_the_mode_of_the_model_is_left_as_it_was(small_text):
    for mode in (True, False):
        model = Known(torch.zeros(small_text.card.vocabulary)).train(mode)
        bits_per_byte(model, small_text, sequence=16, sequences=1)
        assert model.training is mode


def test_a_text_shorter_than_a_sequence_is_refused(small_text):
    with pytest.raises(ValueError, match="give more text, or a shorter sequence"):
        bits_per_byte(Known(torch.zeros(small_text.card.vocabulary)), small_text, sequence=100_000)
