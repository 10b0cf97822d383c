"""The routers' losses with several choices of a token, and without padding."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aura.experts.losses import load_balancing_loss, router_z_loss


def balance_by_hand(probabilities, choices):
    """Switch, eq. 4-6, with f_i the share of all assignments that went to expert i."""
    tokens, experts = len(probabilities), len(probabilities[0])
    assigned = [expert for row in choices for expert in row]
    f = [sum(expert == i for expert in assigned) / len(assigned) for i in range(experts)]
    p = [sum(row[i] for row in probabilities) / tokens for i in range(experts)]
    return experts * sum(share * mean for share, mean in zip(f, p, strict=True))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 4), st.integers(0, 99))
def test_the_balance_loss_is_that_of_the_paper_for_any_number_of_choices(tokens, top_k, seed):
    torch.manual_seed(seed)
    probabilities = torch.randn(tokens, 4, dtype=torch.float64).softmax(dim=1)
    choices = probabilities.topk(top_k, dim=1).indices
    found = load_balancing_loss(probabilities, choices).item()
    assert found == pytest.approx(balance_by_hand(probabilities.tolist(), choices.tolist()), rel=1e-12)
    assert found <= 4 / top_k + 1e-9


def test_two_choices_that_are_even_cost_one_and_that_never_change_cost_e_over_two():
    even = torch.tensor([[e, (e + 1) % 4] for e in range(4)])
    assert load_balancing_loss(torch.full((4, 4), 0.25), even).item() == 1.0
    stuck = torch.tensor([[0.5, 0.5, 0.0, 0.0]] * 4)
    assert load_balancing_loss(stuck, torch.tensor([[0, 1]] * 4)).item() == 2.0


def test_tokens_that_do_not_count_are_left_out():
    logits = torch.randn(10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    choices = logits.topk(2, dim=1).indices
    mask = torch.tensor([1, 1, 0, 1, 0, 0, 1, 1, 1, 0])
    counted = mask.bool()
    assert torch.equal(
        load_balancing_loss(logits.softmax(1), choices, mask),
        load_balancing_loss(logits[counted].softmax(1), choices[counted]),
    )
    by_hand = [math.log(sum(map(math.exp, row))) ** 2 for row in logits[counted].tolist()]
    assert router_z_loss(logits, mask).item() == pytest.approx(sum(by_hand) / 6)


def test_the_gradient_makes_the_crowded_expert_less_probable():
    logits = torch.zeros(8, 4, requires_grad=True)
    load_balancing_loss(logits.softmax(dim=1), torch.tensor([[0, 1]] * 6 + [[2, 3]] * 2)).backward()
    assert (logits.grad[:, :2] > 0).all()
    assert (logits.grad[:, 2:] < 0).all()
