"""Attention without the shift of the softmax."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import BertConfig, BertModel, CLIPTextConfig, CLIPTextModel, ViTConfig, ViTModel

from aura.embeddings import attention as module
from aura.embeddings.attention import NAME, attention, query_scale, use_in
from aura.embeddings.network import to_bfloat16

HEADS, SIZE = 3, 32


def exact(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention from its definition, in float64, of queries that are scaled already."""
    scores = q.double() @ k.double().transpose(-1, -2) * math.log(2)
    return scores.softmax(-1) @ v.double()


def heads(count: int, length: int, dtype: torch.dtype, spread: float = 1.0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(count * 1000 + length)
    q, k, v = torch.randn(3, count, HEADS, length, SIZE, generator=generator)
    return (spread * query_scale(SIZE) * q).to(dtype), k.to(dtype), v.to(dtype)


@pytest.mark.parametrize("length", [1, 2, 25, 64, 129])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_it_is_the_attention_of_the_definition(length, dtype, tolerance):
    q, k, v = heads(4, length, dtype)
    torch.testing.assert_close(attention(q, k, v).double(), exact(q, k, v), atol=tolerance, rtol=0)


@pytest.mark.parametrize("level", [-400.0, -80.0, 125.0, 400.0])
def test_scores_beyond_the_range_of_the_exponent_give_no_wrong_vectors(level):
    q, k, v = heads(2, 20, torch.bfloat16)
    # One dimension that all share lifts all scores alike, which a softmax does not see.
    q[..., 0], k[..., 0] = 20.0, level / 20
    shifted = attention(q, k, v)
    # The level swallows the last bits of the scores, as it would in any attention in this arithmetic.
    torch.testing.assert_close(shifted.double(), exact(q, k, v), atol=0.15, rtol=0)


def test_one_row_out_of_range_is_enough():
    q, k, v = heads(2, 20, torch.bfloat16)
    q[0, 0, 0], k[0, 0, 5] = 20.0, 20.0
    torch.testing.assert_close(attention(q, k, v)[0, 0, 0], v[0, 0, 5])


def test_what_is_no_number_stays_visible():
    q, k, v = heads(1, 8, torch.bfloat16)
    k[0, 1, 3, 4] = torch.nan
    attended = attention(q, k, v)
    assert attended[0, 1].isnan().all()
    assert attended[0, [0, 2]].isfinite().all()


def test_two_calls_give_the_same_bytes():
    q, k, v = heads(5, 40, torch.bfloat16)
    assert torch.equal(attention(q, k, v), attention(q, k, v))


def test_many_heads_are_taken_a_few_at_a_time(monkeypatch):
    q, k, v = heads(5, 40, torch.bfloat16)
    at_once = attention(q, k, v)
    monkeypatch.setattr(module, "SCORE_BYTES", 4 * 40 * 40 * 2)
    assert torch.equal(attention(q, k, v), at_once)


SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}


def vit() -> tuple[ViTModel, dict[str, torch.Tensor]]:
    network = ViTModel(ViTConfig(**SMALL, image_size=32, patch_size=8), add_pooling_layer=False)
    return network, {"pixel_values": torch.randn(3, 3, 32, 32)}


def causal() -> tuple[CLIPTextModel, dict[str, torch.Tensor]]:
    network = CLIPTextModel(CLIPTextConfig(**SMALL, vocab_size=50, eos_token_id=49, bos_token_id=48))
    return network, {"input_ids": torch.randint(0, 48, (3, 12))}


def masked() -> tuple[BertModel, dict[str, torch.Tensor]]:
    ids = torch.randint(0, 50, (3, 12))
    mask = torch.arange(12) < torch.tensor([[12], [7], [3]])
    return BertModel(BertConfig(**SMALL, vocab_size=50)), {"input_ids": ids, "attention_mask": mask.long()}


@pytest.mark.parametrize("kind", [vit, causal, masked])
def test_networks_of_the_library_attend_to_what_they_attended_to_before(kind):
    torch.manual_seed(0)
    network, inputs = kind()
    network.eval()
    with torch.inference_mode():
        exact_states = network(**inputs).last_hidden_state
        undo = to_bfloat16(network)
        assert network.config._attn_implementation == NAME
        inputs = {name: each.bfloat16() if each.is_floating_point() else each for name, each in inputs.items()}
        states = network(**inputs).last_hidden_state.float()
        undo()
    mask = inputs.get("attention_mask", torch.ones(states.shape[:2])).bool()
    assert torch.cosine_similarity(states[mask], exact_states[mask], dim=-1).min() > 0.999
    assert network.config._attn_implementation == "sdpa"


def test_it_is_used_by_a_network_that_masks_nothing(monkeypatch):
    network, inputs = vit()
    undo = use_in(network.bfloat16())
    calls = []
    monkeypatch.setattr(module, "_unshifted", lambda q, k, v: calls.append(q.shape))
    with torch.inference_mode():
        network(inputs["pixel_values"].bfloat16())
        undo()
        network(inputs["pixel_values"].bfloat16())
    assert calls == [(3, 2, 17, 32)] * 2


def test_a_network_with_an_attention_of_its_own_choice_keeps_it():
    network = vit()[0]
    network.set_attn_implementation("eager")
    use_in(network)()
    assert network.config._attn_implementation == "eager"
