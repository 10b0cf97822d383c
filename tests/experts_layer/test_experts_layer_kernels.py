"""The experts function "aura" against a loop over tokens, for every layout, and its gradients."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.activations import ACT2FN
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, use_experts_implementation
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssConfig, GptOssExperts
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeConfig, Qwen3MoeExperts

from aura.experts.kernels import NAME, Group, Rows, aura_experts_forward
from aura.experts.switch import SwitchLayer


def experts_of(*, transposed=False, bias=False, gate=True, interleaved=False, norm=False, act="silu", sizes=(5, 3, 4)):
    """Experts of one layout with random float64 weights, the way the modelling files of transformers declare them."""
    width, inner, number = sizes

    class SomeExperts(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.num_experts = number
            self.act_fn = ACT2FN[act]
            tall = 2 * inner if gate else inner
            name = "gate_up_proj" if gate else "up_proj"
            for matrix, rows, columns in ((name, tall, width), ("down_proj", width, inner)):
                shape = (columns, rows) if transposed else (rows, columns)
                setattr(self, matrix, nn.Parameter(torch.randn(number, *shape, dtype=torch.float64)))
                if bias:
                    setattr(self, f"{matrix}_bias", nn.Parameter(torch.randn(number, rows, dtype=torch.float64)))
            if norm:
                self.post_expert_norm = nn.RMSNorm(width, dtype=torch.float64)

        def forward(self, hidden_states, top_k_index, top_k_weights):
            raise NotImplementedError

    if interleaved:
        SomeExperts._apply_gate = lambda self, gate_up: (gate_up[..., 1::2] + 1) * torch.tanh(gate_up[..., ::2])
    made = use_experts_implementation(
        is_concatenated=not interleaved,
        is_transposed=transposed,
        has_bias=bias,
        has_gate=gate,
        has_post_expert_norm=norm,
    )(SomeExperts)
    return made(SimpleNamespace(_experts_implementation=NAME))


def one_token_after_the_other(experts, tokens, index, weights):
    outputs = []
    for token, chosen, gates in zip(tokens, index.tolist(), weights, strict=True):
        output = torch.zeros_like(token)
        for expert, weight in zip(chosen, gates, strict=True):
            if expert >= experts.num_experts:
                continue
            name = "gate_up_proj" if experts.has_gate else "up_proj"
            up, down = getattr(experts, name)[expert], experts.down_proj[expert]
            hidden = token @ up if experts.is_transposed else up @ token
            if experts.has_bias:
                hidden = hidden + getattr(experts, f"{name}_bias")[expert]
            hidden = experts._apply_gate(hidden) if experts.has_gate else experts.act_fn(hidden)
            hidden = hidden @ down if experts.is_transposed else down @ hidden
            if experts.has_bias:
                hidden = hidden + experts.down_proj_bias[expert]
            if experts.has_post_expert_norm:
                hidden = experts.post_expert_norm(hidden)
            output = output + weight * hidden
        outputs.append(output)
    return torch.stack(outputs)


def random_batch(*, tokens=11, ranks=2, experts=4, width=5, sentinel=True, seed=0):
    torch.manual_seed(seed)
    lists = torch.rand(tokens, experts + 1 if sentinel else experts).argsort(dim=1)[:, :ranks]
    hidden = torch.randn(tokens, width, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(tokens, ranks, dtype=torch.float64).masked_fill(lists == experts, 0).requires_grad_()
    return hidden, lists, weights


LAYOUTS = [
    {},
    {"transposed": True},
    {"bias": True},
    {"transposed": True, "bias": True, "interleaved": True},
    {"gate": False, "act": "relu2"},
    {"gate": False, "bias": True},
    {"act": "gelu"},
    {"norm": True},
    {"interleaved": True},
]


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_layout_equals_a_loop_over_tokens_forward_and_backward(layout, ranks):
    experts = experts_of(**layout)
    hidden, index, weights = random_batch(ranks=ranks)
    direction = torch.randn(hidden.shape, dtype=torch.float64)
    inputs = [hidden, weights, *experts.parameters()]
    found, expected = (
        run(experts, hidden, index, weights) for run in (aura_experts_forward, one_token_after_the_other)
    )
    torch.testing.assert_close(found, expected)
    kept = (index < experts.num_experts).double()
    for ours, theirs in zip(
        torch.autograd.grad((found * direction).sum(), inputs),
        torch.autograd.grad((expected * direction).sum(), inputs, allow_unused=True),
        strict=True,
    ):
        reference = torch.zeros_like(ours) if theirs is None else theirs
        torch.testing.assert_close(ours * kept if ours.shape == weights.shape else ours, reference)


@pytest.mark.parametrize("layout", [{}, {"transposed": True, "bias": True, "interleaved": True}], ids=str)
def test_gradients_match_finite_differences(layout):
    experts = experts_of(**layout, sizes=(3, 2, 3))
    hidden, index, weights = random_batch(tokens=5, experts=3, width=3)
    names = [name for name, _ in experts.named_parameters()]

    def run(tokens, gates, *matrices):
        named = dict(zip(names, matrices, strict=True))
        return torch.func.functional_call(experts, named, (tokens, index, gates))

    assert torch.autograd.gradcheck(run, (hidden, weights, *experts.parameters()))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 20), st.integers(1, 3), st.integers(0, 9), st.sampled_from([torch.float32, torch.bfloat16]))
def test_any_batch_equals_transformers_own_loop(tokens, ranks, seed, dtype):
    torch.manual_seed(seed)
    experts = Qwen3MoeExperts(Qwen3MoeConfig(hidden_size=8, moe_intermediate_size=6, num_experts=3)).to(dtype)
    for parameter in experts.parameters():
        nn.init.normal_(parameter, std=0.5)
    index = torch.rand(tokens, 4).argsort(dim=1)[:, :ranks]
    weights = torch.rand(tokens, ranks).masked_fill(index == 3, 0).to(dtype)
    hidden = torch.randn(tokens, 8).to(dtype)
    answers = {}
    for name in ("eager", NAME):
        experts.config._experts_implementation = name
        answers[name] = experts(hidden, index, weights)
    tolerance = {"rtol": 0.03, "atol": 0.03} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
    assert answers[NAME].dtype == dtype
    torch.testing.assert_close(answers[NAME], answers["eager"], **tolerance)


def small_experts(dtype=torch.float32, implementation=NAME):
    torch.manual_seed(0)
    config = Qwen3MoeConfig(hidden_size=8, moe_intermediate_size=6, num_experts=3)
    config._experts_implementation = implementation
    experts = Qwen3MoeExperts(config).to(dtype)
    for parameter in experts.parameters():
        nn.init.normal_(parameter, std=0.5)
    return experts


def test_an_expert_without_tokens_gets_a_gradient_of_zeros():
    experts = small_experts()
    experts(torch.randn(5, 8), torch.tensor([[0], [2], [2], [0], [3]]), torch.rand(5, 1)).sum().backward()
    for parameter in experts.parameters():
        assert parameter.grad[1].abs().max() == 0
        assert parameter.grad[[0, 2]].abs().amax(dim=(1, 2)).min() > 0


def test_a_batch_without_places_comes_out_as_zeros():
    experts = small_experts()
    hidden = torch.randn(4, 8, requires_grad=True)
    output = experts(hidden, torch.full((4, 2), 3), torch.zeros(4, 2))
    output.sum().backward()
    assert output.abs().max() == 0
    assert hidden.grad.abs().max() == 0


def test_without_gradients_the_answer_is_the_same():
    experts = small_experts()
    hidden, index, weights = torch.randn(9, 8), torch.arange(18).view(9, 2) % 3, torch.rand(9, 2)
    expected = experts(hidden, index, weights)
    with torch.no_grad():
        assert torch.equal(experts(hidden, index, weights), expected)
    with torch.inference_mode():
        assert torch.equal(experts(hidden, index, weights), expected)


def test_the_same_batch_gives_the_same_bits():
    experts = small_experts()
    hidden, index, weights = torch.randn(64, 8), torch.rand(64, 3).argsort(1)[:, :2], torch.rand(64, 2)
    grads = []
    for _ in range(3):
        experts.zero_grad()
        experts(hidden, index, weights).square().sum().backward()
        grads.append([parameter.grad.clone() for parameter in experts.parameters()])
    for first, *others in zip(*grads, strict=True):
        assert all(torch.equal(first, other) for other in others)


def test_under_autocast_it_computes_in_its_dtype_like_the_loop_of_transformers():
    hidden, index, weights = torch.randn(16, 8), torch.rand(16, 3).argsort(1)[:, :2], torch.rand(16, 2)
    outputs, grads = [], []
    for name in ("eager", NAME):
        experts = small_experts(implementation=name)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs.append(experts(hidden, index, weights))
        outputs[-1].sum().backward()
        grads.append(experts.down_proj.grad)
    assert outputs[0].dtype == outputs[1].dtype
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0.03, atol=0.05)
    assert grads[1].dtype == torch.float32
    torch.testing.assert_close(grads[1], grads[0], rtol=0.03, atol=0.1)


def test_experts_of_gpt_oss_answer_as_their_own_loop():
    torch.manual_seed(0)
    config = GptOssConfig(hidden_size=8, intermediate_size=6, num_local_experts=3, num_experts_per_tok=2)
    experts = GptOssExperts(config)
    for parameter in experts.parameters():
        nn.init.normal_(parameter)
    hidden, index, weights = torch.randn(9, 8), torch.rand(9, 3).argsort(1)[:, :2], torch.rand(9, 2)
    answers = {}
    for name in ("eager", NAME):
        config._experts_implementation = name
        answers[name] = experts(hidden, index, weights)
    torch.testing.assert_close(answers[NAME], answers["eager"])


@pytest.mark.parametrize("capacity_factor", [None, 0.75])
def test_the_switch_layer_runs_in_the_functions_of_transformers_too(capacity_factor):
    torch.manual_seed(0)
    layer = SwitchLayer(8, 12, 4, batch_priority=True)
    nn.init.normal_(layer.b_in)
    tokens = torch.randn(30, 8, requires_grad=True)
    expected, routing = layer(tokens, capacity_factor)
    inputs = [tokens, *layer.parameters()]
    grads = torch.autograd.grad(expected.square().sum(), inputs, retain_graph=True)
    for name in ("grouped_mm", "batched_mm"):
        found = ALL_EXPERTS_FUNCTIONS[name](layer, tokens, routing.experts, routing.weights)
        torch.testing.assert_close(found, expected)
        theirs = torch.autograd.grad(found.square().sum(), inputs, retain_graph=True)
        torch.testing.assert_close(theirs, grads)


@pytest.mark.parametrize("nowhere", [3, 2**16 + 1, 2**62])
def test_rows_lie_by_expert_then_by_token(nowhere):
    rows = Rows.of(torch.tensor([[2, 0], [0, nowhere], [2, 3]]), 3, multiple=1, together=0)
    assert rows.groups == (Group(0, 1, 2), Group(2, 3, 2))
    assert rows.tokens.tolist() == [0, 1, 0, 2]
    assert rows.position.tolist() == [[2, 0], [1, 4], [3, 4]]


def test_experts_of_about_as_many_tokens_are_computed_together():
    load = [8, 7, 8, 0, 8, 30, 1, 0]
    index = torch.repeat_interleave(torch.arange(8), torch.tensor(load)).unsqueeze(1)
    assert Rows.of(index, 8, multiple=1, together=100).groups == (
        Group(0, 3, 8),
        Group(4, 5, 8),
        Group(5, 6, 30),
        Group(6, 7, 1),
    )
    assert Rows.of(index, 8, multiple=4, together=20).groups[:2] == (Group(0, 2, 8), Group(2, 3, 8))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 9), max_size=80),
    st.integers(1, 2),
    st.sampled_from([1, 16]),
    st.sampled_from([0, 40, 1000]),
)
def test_every_choice_has_a_row_of_its_own_in_the_group_of_its_expert(chosen, ranks, multiple, together):
    index = torch.tensor(chosen[: len(chosen) // ranks * ranks], dtype=torch.int64).view(-1, ranks)
    rows = Rows.of(index, 8, multiple=multiple, together=together)
    taken = rows.position[index < 8]
    assert len(taken.unique()) == len(taken)
    assert (rows.position[index >= 8] == rows.total).all()
    assert torch.equal(rows.expert_of_each()[taken], index[index < 8])
    tokens = torch.arange(len(index)).unsqueeze(1).expand_as(index)
    assert torch.equal(rows.tokens[taken], tokens[index < 8])
    assert all(group.size % multiple == 0 for group in rows.groups)
    computed = sum(group.experts for group in rows.groups)
    assert computed + sum(len(range(8)[unused]) for unused in rows.idle(8)) == 8


def test_it_is_registered():
    assert ALL_EXPERTS_FUNCTIONS[NAME] is aura_experts_forward
