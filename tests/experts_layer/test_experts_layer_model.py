"""The language model: its losses, its directory, its gates."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from aura.experts.language.model import AuraMoeConfig, AuraMoeForCausalLM


def small_config(**settings):
    sizes = {
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 32,
        "moe_intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "num_experts": 4,
        "tie_word_embeddings": True,
    }
    return AuraMoeConfig(**{**sizes, **settings})


def small_model(seed=0, **settings):
    torch.manual_seed(seed)
    return AuraMoeForCausalLM(small_config(**settings))


def tokens(batch=3, length=12, seed=0):
    return torch.randint(0, 64, (batch, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("settings", [{}, {"num_experts_per_tok": 2, "norm_topk_prob": True, "balancing": "bias"}])
def test_a_saved_model_answers_with_the_same_bits(tmp_path, settings):
    model = small_model(**settings)
    if model.config.balancing == "bias":
        model.train()(tokens(), labels=tokens()).loss.backward()
        model.update_balance()
    model.eval().save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, use_safetensors=True, trust_remote_code=False)
    assert type(again) is AuraMoeForCausalLM
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix in {".safetensors", ".bin"}) == [
        "model.safetensors"
    ]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert torch.equal(model(tokens()).logits, again(tokens()).logits)


def test_the_loss_in_training_is_the_sum_of_its_parts():
    model = small_model().train()
    answer = model(tokens(), labels=tokens())
    expected = answer.cross_entropy + 0.01 * answer.load_balancing_loss.sum() + 0.001 * answer.router_z_loss.sum()
    assert torch.equal(answer.loss, expected) or torch.allclose(answer.loss, expected, rtol=1e-6)
    assert answer.load_balancing_loss.shape == answer.router_z_loss.shape == (2,)
    assert torch.equal(model.eval()(tokens(), labels=tokens()).loss, answer.cross_entropy)
