"""The auxiliary losses against loops over their definitions."""

import numpy as np
import pytest
import torch

from aura.experts.losses import load_balancing_loss, router_z_loss


def reference_balance(probabilities, expert):
    tokens, experts = probabilities.shape
    total = 0.0
    for i in range(experts):
        f = sum(1 for t in range(tokens) if expert[t] == i) / tokens
        p = sum(probabilities[t, i] for t in range(tokens)) / tokens
        total += f * p
    return experts * total


def reference_z(logits):
    return sum(np.log(sum(np.exp(x) for x in row)) ** 2 for row in logits) / len(logits)


@pytest.mark.parametrize(("tokens", "experts"), [(1, 2), (7, 3), (40, 8)])
def test_losses_equal_their_definitions(tokens, experts):
    logits = torch.randn(tokens, experts, dtype=torch.float64, generator=torch.Generator().manual_seed(tokens))
    probabilities = logits.softmax(dim=1)
    expert = probabilities.argmax(dim=1)
    assert load_balancing_loss(probabilities, expert).item() == pytest.approx(
        reference_balance(probabilities.numpy(), expert.numpy()), rel=1e-12
    )
    assert router_z_loss(logits).item() == pytest.approx(reference_z(logits.numpy()), rel=1e-12)


def test_a_collapsed_router_costs_the_number_of_experts():
    logits = torch.zeros(32, 8)
    logits[:, 3] = 100.0
    probabilities = logits.softmax(dim=1)
    assert load_balancing_loss(probabilities, probabilities.argmax(dim=1)).item() == pytest.approx(8.0)


def test_an_even_router_costs_one():
    probabilities = torch.full((32, 8), 1 / 8)
    assert load_balancing_loss(probabilities, torch.arange(32) % 8).item() == pytest.approx(1.0)


def test_layers_that_collapse_onto_different_experts_are_each_charged():
    layers = [torch.nn.functional.one_hot(torch.full((16,), i), 4).float() for i in range(4)]
    assert [load_balancing_loss(p, p.argmax(dim=1)).item() for p in layers] == [4.0, 4.0, 4.0, 4.0]
    pooled = torch.cat(layers)
    assert load_balancing_loss(pooled, pooled.argmax(dim=1)).item() == 1.0


def test_gradients_are_those_of_the_definitions():
    logits = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    expert = logits.detach().argmax(dim=1)
    assert torch.autograd.gradcheck(lambda x: load_balancing_loss(x.softmax(dim=1), expert), logits)
    assert torch.autograd.gradcheck(router_z_loss, logits)
