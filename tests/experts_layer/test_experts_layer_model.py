"""The language model: its losses, its directory, its gates."""

import pytest
import torch
from layer_models import small_model, tokens
from transformers import AutoModelForCausalLM

from aura.experts.language.model import AuraMoeForCausalLM


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


@pytest.mark.parametrize("implementation", ["aura", "grouped_mm", "eager", "batched_mm"])
@pytest.mark.parametrize("capacity_factor", [None, 0.5])
def test_every_experts_function_of_transformers_gives_the_same_answer(implementation, capacity_factor):
    ours, other = small_model(capacity_factor=capacity_factor), small_model(capacity_factor=capacity_factor)
    assert ours.config._experts_implementation == "aura"
    other.set_experts_implementation(implementation)
    for model in (ours, other):
        model.train()(tokens(), labels=tokens()).loss.backward()
    for (name, first), second in zip(ours.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad, msg=name)


def test_drops_are_counted_before_and_after():
    model = small_model(num_experts_per_tok=2).eval()
    model(tokens())
    free = [(each.load().tolist(), each.kept_load().tolist()) for each in model.routings()]
    assert all(before == after and sum(before) == 3 * 12 * 2 for before, after in free)
    model.set_capacity(0.5, batch_priority=True)
    model(tokens())
    places = 3 * 12 * 2 // 4 // 2
    assert model.routings()[0].kept_load().tolist() == [min(n, places) for n in free[0][0]]
    model.set_capacity(None, batch_priority=True)
    model(tokens())
    assert [(each.load().tolist(), each.kept_load().tolist()) for each in model.routings()] == free


def test_router_logits_are_recorded_as_transformers_does_and_change_nothing():
    model = small_model().eval()
    quiet, told = model(tokens()), model(tokens(), output_router_logits=True)
    assert torch.equal(quiet.logits, told.logits)
    for logits, routing in zip(told.router_logits, model.routings(), strict=True):
        assert logits.shape == (36, 4)
        assert torch.equal(logits, routing.logits)


def test_padding_is_left_out_of_the_routers_losses():
    model = small_model().train()
    labels = tokens()
    mask = torch.ones_like(labels)
    mask[:, 9:] = 0
    padded = model(labels, attention_mask=mask, labels=labels.masked_fill(mask == 0, -100))
    short = model(labels[:, :9], labels=labels[:, :9])
    torch.testing.assert_close(padded.load_balancing_loss, short.load_balancing_loss)
    torch.testing.assert_close(padded.router_z_loss, short.router_z_loss)
    torch.testing.assert_close(padded.cross_entropy, short.cross_entropy)


def test_the_bias_replaces_the_balance_loss():
    model = small_model(balancing="bias", bias_rate=0.01).train()
    answer = model(tokens(), labels=tokens())
    torch.testing.assert_close(answer.loss, answer.cross_entropy + 0.001 * answer.router_z_loss.sum())
    model.update_balance()
    for gate in model.gates():
        load = gate.routing.load().double()
        torch.testing.assert_close(gate.bias.double(), 0.01 * torch.sign(load.mean() - load))


def test_generation_with_a_cache_gives_the_logits_of_the_whole_sequence():
    model = small_model().eval()
    prompt = tokens(batch=1, length=5)
    made = model.generate(prompt, max_new_tokens=6, do_sample=False, output_logits=True, return_dict_in_generate=True)
    whole = model(made.sequences).logits[0, 4:-1]
    torch.testing.assert_close(torch.cat(made.logits), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"capacity_factor": 0.0}, "capacity_factor"),
        ({"jitter": 1.0}, "jitter"),
        ({"balancing": "none"}, "balancing"),
        ({"norm_topk_prob": True}, "would always be 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, told):
    with pytest.raises(Exception, match=told):
        small_model(**settings)
