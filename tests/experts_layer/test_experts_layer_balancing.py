"""Correction biases of transformers' own models, moved by what their routers choose."""

import pytest
import torch
from layer_models import small_model
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    Ernie4_5_MoeConfig,
    Ernie4_5_MoeForCausalLM,
    MiniMaxM2Config,
    MiniMaxM2ForCausalLM,
)

from aura.experts.balancing import CORRECTION_BIAS, correction_bias

SIZES = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
}
DEEPSEEK = {
    "moe_intermediate_size": 8,
    "n_routed_experts": 8,
    "n_group": 2,
    "topk_group": 2,
    "first_k_dense_replace": 0,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
}


def deepseek():
    torch.manual_seed(0)
    return DeepseekV3ForCausalLM(DeepseekV3Config(**SIZES, **DEEPSEEK)).train()


def biases(model):
    return {name: tensor for name, tensor in model.state_dict().items() if name.endswith(CORRECTION_BIAS)}


def uneven(loads):
    """The largest load over the mean, of the worst layer."""
    return max((load.max() / load.double().mean()).item() for load in loads)


def trained(model, rate, steps=60):
    """The load of the last steps of a training on a text of few words, which are not equally common."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    common = 0.9 ** torch.arange(32)
    totals = []
    with correction_bias(model) as bias:
        for step in range(steps):
            batch = torch.multinomial(common, 64, replacement=True, generator=generator).view(4, 16)
            model(input_ids=batch, labels=batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if step >= steps - 20:
                totals.append(torch.stack(list(bias.assigned.values())))
            bias.update(rate)
    return torch.stack(totals).sum(dim=0)


def test_the_correction_bias_evens_out_the_load_of_a_deepseek_in_training():
    without, with_bias = trained(deepseek(), 0.0), trained(deepseek(), 0.002)
    assert without.sum() == with_bias.sum() == 2 * 20 * 64 * 2
    assert uneven(without) > 3
    assert uneven(with_bias) < 1.6
    assert without.min() < 20
    assert with_bias.min() > 100


@pytest.mark.parametrize(
    "build",
    [
        lambda: DeepseekV3ForCausalLM(DeepseekV3Config(**SIZES, **DEEPSEEK)),
        lambda: MiniMaxM2ForCausalLM(MiniMaxM2Config(**SIZES, num_local_experts=8, head_dim=8)),
        lambda: Ernie4_5_MoeForCausalLM(
            Ernie4_5_MoeConfig(
                **{name: size for name, size in SIZES.items() if name != "num_experts_per_tok"},
                moe_k=2,
                moe_num_experts=8,
                moe_intermediate_size=8,
                moe_layer_start_index=0,
                moe_layer_interval=1,
            )
        ),
    ],
    ids=["deepseek_v3", "minimax_m2", "ernie4_5_moe"],
)
def test_each_bias_moves_by_the_sign_of_what_was_sent_to_its_experts(build):
    torch.manual_seed(0)
    model = build().train()
    sent = {}
    for name, module in model.named_modules():
        if name.endswith(".experts"):
            module.register_forward_pre_hook(
                lambda _, given, name=name: sent.update({name: torch.bincount(given[1][:6].flatten(), minlength=8)})
            )
    batch = torch.arange(10).view(1, 10)
    before = {name: bias.clone() for name, bias in biases(model).items()}
    with correction_bias(model) as bias:
        model(input_ids=batch, attention_mask=(batch < 6).long())
        sent_in_training = dict(sent)
        model.eval()(input_ids=batch)
        bias.update(0.001)
        assert all(assigned.sum() == 0 for assigned in bias.assigned.values())
    assert len(before) == len(sent_in_training) == 2
    for (name, old), load in zip(before.items(), sent_in_training.values(), strict=True):
        moved = (biases(model)[name] - old).flatten()
        torch.testing.assert_close(moved, 0.001 * torch.sign(load.double().mean() - load).float())
    model.train()(input_ids=batch)
    assert all(assigned.sum() == 0 for assigned in bias.assigned.values())


def test_small_steps_add_up_in_half_precision():
    model = deepseek().to(torch.bfloat16)
    for bias in biases(model).values():
        bias.fill_(0.5)
    with correction_bias(model) as corrected:
        for assigned in corrected.assigned.values():
            for _ in range(20):
                assigned.copy_(torch.tensor([8, 0, 0, 0, 0, 0, 0, 0]))
                corrected.update(0.001)
    for bias in biases(model).values():
        assert bias.dtype == torch.bfloat16
        assert abs(bias[0].item() - 0.48) < 0.002
        assert abs(bias[1].item() - 0.52) < 0.003


def test_a_model_without_such_a_bias_is_refused():
    with pytest.raises(ValueError, match="update_balance"), correction_bias(small_model()):
        pass
