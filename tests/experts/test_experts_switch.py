"""The Switch layer against a loop over tokens, its capacity and its gradients."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aura.experts.gating import expert_capacity, queue_positions
from aura.experts.switch import SwitchLayer


def layer_and_tokens(*, tokens, width=5, hidden=7, experts=4, batch_priority=True, seed=0):
    torch.manual_seed(seed)
    layer = SwitchLayer(width, hidden, experts, batch_priority=batch_priority, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer, torch.randn(tokens, width, dtype=torch.float64)


def slow_switch(layer, tokens, capacity_factor, *, batch_priority):
    """One token after the other, in numpy."""
    x = tokens.numpy()
    router = layer.router.weight.detach().numpy()
    w_in, b_in, w_out, b_out = (getattr(layer, name).detach().numpy() for name in ("w_in", "b_in", "w_out", "b_out"))
    choices = []
    for token in x:
        logits = [sum(a * b for a, b in zip(row, token, strict=True)) for row in router]
        exponentials = [math.exp(value) for value in logits]
        gates = [value / sum(exponentials) for value in exponentials]
        best = max(range(len(gates)), key=gates.__getitem__)
        choices.append((best, gates[best]))
    order = sorted(range(len(x)), key=lambda t: -choices[t][1]) if batch_priority else range(len(x))
    capacity = len(x) if capacity_factor is None else math.ceil(capacity_factor * len(x) / len(router))
    filled = [0] * len(router)
    output, kept = np.zeros_like(x), [False] * len(x)
    for t in order:
        expert, gate = choices[t]
        filled[expert] += 1
        if filled[expert] > capacity:
            continue
        kept[t] = True
        hidden = np.maximum(x[t] @ w_in[expert] + b_in[expert], 0)
        output[t] = gate * (hidden @ w_out[expert] + b_out[expert])
    return output, kept, filled


@pytest.mark.parametrize("batch_priority", [True, False])
@pytest.mark.parametrize("capacity_factor", [0.5, 1.0, 1.25, None])
def test_the_layer_equals_a_loop_over_tokens(capacity_factor, batch_priority):
    layer, tokens = layer_and_tokens(tokens=37, batch_priority=batch_priority)
    output, routing = layer(tokens, capacity_factor)
    expected, kept, load = slow_switch(layer, tokens, capacity_factor, batch_priority=batch_priority)
    np.testing.assert_allclose(output.detach().numpy(), expected, rtol=1e-10, atol=1e-12)
    assert routing.kept[:, 0].tolist() == kept
    assert routing.load().tolist() == load
    places = 37 if capacity_factor is None else math.ceil(capacity_factor * 37 / 4)
    assert routing.kept_load().tolist() == [min(n, places) for n in load]
    assert int(routing.kept_load().sum()) == sum(kept)


def test_gradients_reach_every_weight_and_match_finite_differences():
    layer, tokens = layer_and_tokens(tokens=9, width=3, hidden=4, experts=3)
    parameters = [layer.w_in, layer.b_in, layer.w_out, layer.b_out, layer.router.weight]
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *weights):
        named = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(layer, named, (x, 1.0))[0]

    assert names == ["w_in", "b_in", "w_out", "b_out", "router.weight"]
    assert torch.autograd.gradcheck(run, (tokens.requires_grad_(), *parameters))
    layer(tokens, 1.0)[0].square().sum().backward()
    assert layer.router.weight.grad.abs().sum() > 0


def test_a_dropped_token_comes_out_as_zeros():
    layer, tokens = layer_and_tokens(tokens=40)
    output, routing = layer(tokens, 0.25)
    assert not routing.kept.all()
    assert (output[~routing.kept[:, 0]] == 0).all()
    assert (output[routing.kept[:, 0]] != 0).any(dim=1).all()


def test_without_a_capacity_factor_nothing_is_dropped():
    layer, tokens = layer_and_tokens(tokens=40)
    assert layer(tokens, None)[1].kept.all()


def test_batch_priority_keeps_the_highest_gates_and_arrival_order_the_first():
    expert = torch.zeros(6, 1, dtype=torch.int64)
    gate = torch.tensor([0.3, 0.9, 0.5, 0.9, 0.1, 0.7])
    assert queue_positions(expert, 2, gate).flatten().tolist() == [4, 0, 3, 1, 5, 2]
    assert queue_positions(expert, 2).flatten().tolist() == [0, 1, 2, 3, 4, 5]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1, width=32)), min_size=1, max_size=60), st.booleans())
def test_every_queue_is_filled_without_gaps(choices, batch_priority):
    expert = torch.tensor([choice for choice, _ in choices])
    gate = torch.tensor([value for _, value in choices])
    position = queue_positions(expert.unsqueeze(1), 5, gate if batch_priority else None).squeeze(1)
    for number in range(5):
        queue = position[expert == number]
        assert sorted(queue.tolist()) == list(range(len(queue)))
        if batch_priority:
            assert gate[expert == number][queue.argsort()].diff().le(0).all()


@pytest.mark.parametrize(
    ("tokens", "experts", "factor", "places"),
    [(256, 8, 1.25, 40), (10, 8, 1.25, 2), (100, 10, 1.1, 11), (3, 4, 1.0, 1)],
)
def test_capacity_is_the_rounded_up_share_times_the_factor(tokens, experts, factor, places):
    assert expert_capacity(tokens, experts, factor) == places


def test_the_router_computes_in_float32_for_half_precision_tokens():
    layer = SwitchLayer(16, 8, 4, batch_priority=True, dtype=torch.bfloat16)
    tokens = torch.randn(12, 16, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    output, routing = layer(tokens, 1.25)
    assert output.dtype == torch.bfloat16
    assert routing.logits.dtype == torch.float32
    torch.testing.assert_close(routing.logits, tokens.float() @ layer.router.weight.detach().float().T)


def test_initial_weights_have_a_tenth_of_the_usual_variance():
    torch.manual_seed(0)
    layer = SwitchLayer(64, 128, 8, batch_priority=True)
    cut_at_two_deviations = 0.7737
    assert layer.w_in.var().item() == pytest.approx(cut_at_two_deviations * 0.1 / 64, rel=0.05)
    assert layer.w_out.var().item() == pytest.approx(cut_at_two_deviations * 0.1 / 128, rel=0.05)
