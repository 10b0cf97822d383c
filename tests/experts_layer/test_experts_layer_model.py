"""The language model: its losses, its directory, its gates."""

import re
from pathlib import Path

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


@pytest.mark.parametrize(
    ("implementation", "checkpointed"),
    [("aura", False), ("aura", True), ("grouped_mm", False), ("eager", False), ("batched_mm", False)],
)
@pytest.mark.parametrize("settings", [{}, {"capacity_factor": 0.5, "num_experts_per_tok": 2, "balancing": "bias"}])
def test_padding_changes_nothing_for_the_other_tokens(settings, checkpointed, implementation):
    models = [small_model(**settings).train() for _ in range(2)]
    labels = tokens()
    mask = torch.ones_like(labels)
    mask[:, 9:] = 0
    for model in models:
        model.set_experts_implementation(implementation)
        if checkpointed:
            model.activation_checkpointing_enable()
    padded = models[0](labels, attention_mask=mask, labels=labels.masked_fill(mask == 0, -100))
    short = models[1](labels[:, :9], labels=labels[:, :9])
    for answer, model in zip((padded, short), models, strict=True):
        answer.loss.backward()
        model.update_balance()
    for figure in ("cross_entropy", "load_balancing_loss", "router_z_loss", "loss"):
        torch.testing.assert_close(padded[figure], short[figure])
    torch.testing.assert_close(padded.logits[:, :9], short.logits)
    for (name, ours), theirs in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
    for ours, theirs in zip(models[0].gates(), models[1].gates(), strict=True):
        assert torch.equal(ours.routing.load(), theirs.routing.load())
        assert torch.equal(ours.routing.kept_load(), theirs.routing.kept_load())
        assert (ours.routing.experts.view(3, 12, -1)[:, 9:] == 4).all()
        if settings:
            assert torch.equal(ours.bias, theirs.bias)


def test_a_mask_without_padding_or_of_another_shape_tells_of_none():
    model = small_model(mlp_only_layers=[0]).eval()
    plain = model(tokens())
    assert torch.equal(model(tokens(), attention_mask=torch.ones_like(tokens())).logits, plain.logits)
    whole = torch.ones(1, 1, 12, 12).tril().bool()
    torch.testing.assert_close(model(tokens(), attention_mask=whole).logits, plain.logits)
    assert model.routings()[0].present is None


def test_prompts_padded_on_the_left_generate_what_they_do_alone():
    model = small_model().eval()
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    short, long = tokens(batch=1, length=4), tokens(batch=1, length=7, seed=1)
    both = torch.cat([torch.nn.functional.pad(short, (3, 0)), long])
    mask = torch.ones_like(both)
    mask[0, :3] = 0
    made = model.generate(both, attention_mask=mask, **options)
    assert torch.equal(made[0, 3:], model.generate(short, **options)[0])
    assert torch.equal(made[1], model.generate(long, **options)[0])


def test_the_bias_of_a_model_in_half_precision_is_saved_and_opened_in_float32(tmp_path):
    model = small_model(balancing="bias").to(torch.bfloat16).train()
    for gate in model.gates():
        gate.bias.fill_(0.5)
    model(tokens(), labels=tokens())
    model.update_balance()
    model.save_pretrained(tmp_path)
    for dtype in ("auto", torch.bfloat16):
        again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
        assert again.dtype == torch.bfloat16
        for before, after in zip(model.gates(), again.gates(), strict=True):
            assert after.bias.dtype == torch.float32
            assert torch.equal(after.bias, before.bias)
            assert (after.bias - 0.5).abs().max().item() == pytest.approx(0.001, rel=1e-3)


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


def test_the_document_names_settings_that_there_are():
    document = Path(__file__).resolve().parents[2] / "docs" / "experts.md"
    _, _, after = document.read_text(encoding="utf-8").partition("| setting of `AuraMoeConfig` |")
    named = re.findall(r"^\| `(\w+)", after.partition("\n\n")[0], re.MULTILINE)
    assert len(named) == 5
    assert small_model().config.to_dict().keys() >= set(named)
