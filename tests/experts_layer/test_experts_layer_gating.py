"""Gates against loops over their papers' definitions: choice, weights, places, bias."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aura.experts.gating import ExpertGate, expert_capacity, queue_positions


def gate_and_tokens(*, tokens=40, width=6, experts=5, top_k=1, seed=0, **options):
    torch.manual_seed(seed)
    gate = ExpertGate(width, experts, top_k, **options).double()
    torch.nn.init.normal_(gate.weight)
    return gate, torch.randn(tokens, width, dtype=torch.float64)


def probabilities_of(gate, token):
    logits = [sum(a * b for a, b in zip(row, token.tolist(), strict=True)) for row in gate.weight.tolist()]
    exponentials = [math.exp(value) for value in logits]
    return [value / sum(exponentials) for value in exponentials]


def places_by_hand(choices, order, capacity):
    """V-MoE, algorithm 1 (with `order` by arrival) and 2 (by priority): rank after rank, token after token."""
    filled, kept = {}, {}
    for rank in range(len(choices[0])):
        for token in order:
            expert = choices[token][rank]
            kept[token, rank] = filled.get(expert, 0) < capacity
            filled[expert] = filled.get(expert, 0) + 1
    return [[kept[token, rank] for rank in range(len(choices[0]))] for token in range(len(choices))]


@pytest.mark.parametrize(("top_k", "normalise"), [(1, False), (2, False), (2, True), (3, True)])
def test_a_gate_sends_each_token_to_its_most_probable_experts(top_k, normalise):
    gate, tokens = gate_and_tokens(top_k=top_k, normalise=normalise)
    logits, weights, experts = gate(tokens)
    for t, token in enumerate(tokens):
        probabilities = probabilities_of(gate, token)
        best = sorted(range(5), key=lambda e: -probabilities[e])[:top_k]
        divisor = sum(probabilities[e] for e in best) if normalise else 1.0
        assert experts[t].tolist() == best
        assert weights[t].tolist() == pytest.approx([probabilities[e] / divisor for e in best])
        assert logits[t].softmax(0).tolist() == pytest.approx(probabilities)
    assert gate.routing.kept.all()


@pytest.mark.parametrize("batch_priority", [True, False])
@pytest.mark.parametrize("capacity_factor", [0.5, 1.0, 1.25])
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_places_are_given_out_as_in_the_paper(top_k, capacity_factor, batch_priority):
    gate, tokens = gate_and_tokens(top_k=top_k, capacity_factor=capacity_factor, batch_priority=batch_priority)
    free, _ = gate_and_tokens(top_k=top_k)
    _, weights, experts = gate(tokens)
    _, free_weights, choices = free(tokens)
    highest = [max(probabilities_of(gate, token)) for token in tokens]
    order = sorted(range(40), key=lambda t: -highest[t]) if batch_priority else range(40)
    capacity = math.ceil(capacity_factor * top_k * 40 / 5)
    kept = torch.tensor(places_by_hand(choices.tolist(), order, capacity))
    assert torch.equal(gate.routing.kept, kept)
    assert torch.equal(experts, choices.masked_fill(~kept, 5))
    assert torch.equal(weights, free_weights.masked_fill(~kept, 0))
    assert gate.routing.load().tolist() == [int((choices == e).sum()) for e in range(5)]
    assert gate.routing.kept_load().tolist() == [min(int((choices == e).sum()), capacity) for e in range(5)]


def test_all_first_choices_come_before_any_second_choice():
    choices = torch.tensor([[0, 1], [1, 0], [0, 2], [2, 0]])
    assert queue_positions(choices, 3).tolist() == [[0, 1], [0, 2], [1, 1], [0, 3]]
    by_priority = queue_positions(choices, 3, torch.tensor([0.1, 0.2, 0.9, 0.8]))
    assert by_priority.tolist() == [[1, 1], [0, 3], [0, 1], [0, 2]]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 4), st.booleans(), st.integers(0, 99))
def test_every_queue_is_filled_without_gaps(tokens, top_k, by_priority, seed):
    torch.manual_seed(seed)
    choices = torch.rand(tokens, 4).argsort(dim=1)[:, :top_k]
    priority = torch.randint(0, 5, (tokens,)) / 5 if by_priority else None
    position = queue_positions(choices, 4, priority)
    for expert in range(4):
        assert sorted(position[choices == expert].tolist()) == list(range(int((choices == expert).sum())))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(0, 99), st.sampled_from([0.25, 1.0, 1.25, 4.0]))
def test_capacity_counts_the_whole_batch_and_never_keeps_more(tokens, seed, factor):
    gate, batch = gate_and_tokens(tokens=tokens, seed=seed, top_k=2, capacity_factor=factor)
    gate(batch)
    capacity = expert_capacity(2 * tokens, 5, factor)
    assert gate.routing.kept_load().max() <= capacity
    assert torch.equal(gate.routing.kept_load(), gate.routing.load().clamp(max=capacity))
    split = gate(batch.reshape(1, tokens, 6))
    assert torch.equal(split[2], gate(batch)[2])


def test_with_one_choice_the_router_learns_from_the_task():
    gate, tokens = gate_and_tokens()
    gate(tokens)[1].square().sum().backward()
    assert gate.weight.grad.abs().max() > 1e-3
    with pytest.raises(ValueError, match="would always be 1"):
        ExpertGate(6, 5, 1, normalise=True)


def test_jitter_changes_what_the_router_sees_and_nothing_else():
    gate, tokens = gate_and_tokens(jitter=0.3)
    before = tokens.clone()
    noisy, quiet = gate.train()(tokens)[0], gate.eval()(tokens)[0]
    assert torch.equal(tokens, before)
    assert not torch.equal(noisy, quiet)
    assert torch.allclose(quiet, tokens @ gate.weight.T)


def test_jitter_stays_within_its_bounds():
    gate = ExpertGate(1, 2, 1, jitter=0.1).train()
    torch.nn.init.ones_(gate.weight)
    noise = gate(torch.ones(1000, 1))[0]
    assert 0.9 <= noise.min() < 0.91
    assert 1.09 < noise.max() <= 1.1


def test_jitter_is_as_fine_in_half_precision():
    gate = ExpertGate(1, 2, 1, jitter=0.01).to(torch.bfloat16).train()
    torch.nn.init.ones_(gate.weight)
    noise = gate(torch.ones(1000, 1, dtype=torch.bfloat16))[0]
    assert noise.min() >= 0.99
    assert noise.max() <= 1.01
    assert len(noise.unique()) > 900


def test_the_router_computes_in_float32_also_under_autocast():
    torch.manual_seed(0)
    gate = ExpertGate(16, 4, 2).to(torch.bfloat16)
    torch.nn.init.normal_(gate.weight)
    tokens = torch.randn(12, 16).to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, weights, _ = gate(tokens)
    assert logits.dtype == torch.float32
    assert weights.dtype == torch.bfloat16
    torch.testing.assert_close(logits, tokens.float() @ gate.weight.detach().float().T)


def test_a_bias_chooses_but_does_not_weigh():
    gate, tokens = gate_and_tokens(top_k=2, balancing="bias")
    gate.bias.copy_(torch.tensor([0.0, 0.0, 10.0, 0.0, 0.0]))
    _, weights, experts = gate(tokens)
    assert (experts[:, 0] == 2).all()
    torch.testing.assert_close(weights, gate.routing.probabilities.gather(1, experts))


def test_the_bias_moves_by_the_sign_of_the_load_error():
    gate, tokens = gate_and_tokens(top_k=2, balancing="bias")
    gate.train()
    loads = [gate(batch) and gate.routing.load() for batch in (tokens, 2 * tokens - 1)]
    load = (loads[0] + loads[1]).tolist()
    gate.update_bias(0.01)
    mean = sum(load) / 5
    assert gate.bias.tolist() == pytest.approx([0.01 * ((mean > count) - (mean < count)) for count in load])
    gate.eval()(tokens)
    gate.update_bias(0.01)
    assert gate.assigned.sum() == 0
    assert gate.bias.abs().max() <= 0.01


def test_the_bias_stays_in_float32_in_which_its_steps_count():
    gate = ExpertGate(16, 4, 2, balancing="bias").train()
    torch.nn.init.normal_(gate.weight)
    gate.bias.fill_(0.5 + 1e-4)
    for moved in (gate.to(torch.bfloat16), gate.half(), gate.double(), gate.to("cpu", torch.bfloat16)):
        assert moved.bias.dtype == torch.float32
        assert (moved.bias == torch.tensor(0.5 + 1e-4)).all()
    before = gate.bias.clone()
    gate(torch.randn(40, 16).to(torch.bfloat16))
    gate.update_bias(0.001)
    assert gate.weight.dtype == torch.bfloat16
    assert (gate.bias - before).abs().max().item() == pytest.approx(0.001, rel=1e-3)
    with torch.device("meta"):
        empty = ExpertGate(16, 4, 2, balancing="bias").to(torch.bfloat16)
    assert empty.to_empty(device="cpu").bias.dtype == torch.float32


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(0, 20),
    st.sampled_from([(None, True), (0.5, True), (1.25, False)]),
    st.sampled_from(["loss", "bias"]),
    st.integers(0, 99),
)
def test_with_padding_everything_is_as_without_it(tokens, padding, places, balancing, seed):
    factor, by_priority = places
    gate, batch = gate_and_tokens(
        tokens=tokens, seed=seed, top_k=2, capacity_factor=factor, batch_priority=by_priority, balancing=balancing
    )
    logits, weights, experts = gate.train()(batch)
    alone, gate.routing = gate.routing, None
    present = torch.randperm(tokens + padding) < tokens
    padded = 9 * torch.randn(tokens + padding, 6, dtype=torch.float64)
    padded[present] = batch
    gate.present = present
    if balancing == "bias":
        gate.assigned.zero_()
    found = gate(padded)
    for ours, expected in zip(found, (logits, weights, experts), strict=True):
        torch.testing.assert_close(ours[present], expected)
    assert (found[2][~present] == 5).all()
    assert (found[1][~present] == 0).all()
    assert torch.equal(gate.routing.load(), alone.load())
    assert torch.equal(gate.routing.kept_load(), alone.kept_load())
    if balancing == "bias":
        assert torch.equal(gate.assigned, alone.load())
    assert gate.present is None


def test_a_bias_evens_out_a_skewed_load():
    gate, _ = gate_and_tokens(balancing="bias")
    gate.train()
    generator = torch.Generator().manual_seed(1)
    loads = []
    for _ in range(300):
        gate(torch.randn(200, 6, generator=generator, dtype=torch.float64) + 1)
        loads.append(gate.routing.load())
        gate.update_bias(0.01)
    first, last = (torch.stack(part).double().mean(dim=0) / 200 for part in (loads[:5], loads[-100:]))
    assert first.max() > 0.3
    assert last.max() < 0.22


@pytest.mark.parametrize("top_k", [0, 6])
def test_an_impossible_number_of_choices_is_refused(top_k):
    with pytest.raises(ValueError, match="from 1 to 5"):
        ExpertGate(6, 5, top_k)
