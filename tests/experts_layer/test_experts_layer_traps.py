"""What the routers of the installed `transformers` do, shown on its classes, beside what ours do.

A test whose name begins with `test_transformers` states a fact about the installed version. When one fails after an
update, `transformers` has mended it: delete that test and what the documentation says about it.
"""

from functools import wraps

import pytest
import torch
import transformers
from layer_models import small_model, tokens
from transformers import MixtralConfig, SwitchTransformersConfig, SwitchTransformersForConditionalGeneration
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func
from transformers.models.switch_transformers.modeling_switch_transformers import SwitchTransformersTop1Router

from aura.experts.gating import ExpertGate
from aura.experts.losses import load_balancing_loss


def fact_of_transformers(test):
    """Say what a failure means."""

    @wraps(test)
    def told(*args, **kwargs):
        try:
            test(*args, **kwargs)
        except AssertionError as error:
            pytest.fail(f"transformers {transformers.__version__} does otherwise now, see the module's text: {error}")

    return told


def collapsed_logits(layers=8, experts=8):
    """Router logits of layers each of which sends every token to one expert, another one in each layer."""
    return tuple(100.0 * torch.nn.functional.one_hot(torch.full((32,), i), experts).float() for i in range(layers))


@fact_of_transformers
def test_transformers_pools_the_balance_loss_over_layers_so_that_collapsed_layers_read_as_perfect():
    assert load_balancing_loss_func(collapsed_logits(), 8, 1).item() == pytest.approx(1.0)


def test_ours_charges_each_collapsed_layer_with_the_number_of_experts():
    for logits in collapsed_logits():
        probabilities = logits.softmax(dim=1)
        assert load_balancing_loss(probabilities, probabilities.argmax(dim=1)).item() == pytest.approx(8.0)


def test_a_model_of_ours_charges_each_layer():
    model = small_model().train()
    with torch.no_grad():
        for number, gate in enumerate(model.gates()):
            gate.register_forward_pre_hook(lambda _, given: (torch.ones_like(given[0]),))
            gate.weight.copy_(100.0 * torch.nn.functional.one_hot(torch.full((16,), number), 4).T)
    assert model(tokens(), labels=tokens()).load_balancing_loss.tolist() == pytest.approx([4.0, 4.0])


def switch_model(sparse):
    torch.manual_seed(0)
    return SwitchTransformersForConditionalGeneration(
        SwitchTransformersConfig(
            vocab_size=32,
            d_model=16,
            d_kv=8,
            d_ff=16,
            num_heads=2,
            num_layers=4,
            num_decoder_layers=4,
            num_sparse_encoder_layers=sparse,
            num_sparse_decoder_layers=sparse,
            num_experts=4,
        )
    )


@fact_of_transformers
def test_transformers_reports_a_loss_of_zero_for_a_switch_model_in_which_all_layers_are_sparse():
    batch = torch.arange(1, 11).view(2, 5)
    answer = switch_model(sparse=4)(input_ids=batch, decoder_input_ids=batch, output_router_logits=True)
    assert sum("experts.expert_0.wi" in name for name, _ in switch_model(sparse=4).named_parameters()) == 8
    assert (answer.encoder_aux_loss, answer.encoder_z_loss) == (0, 0)
    half = switch_model(sparse=2)(input_ids=batch, decoder_input_ids=batch, output_router_logits=True)
    assert half.encoder_aux_loss > 0.5


def test_ours_has_losses_of_every_layer_when_all_are_sparse_and_of_the_sparse_ones_when_some_are():
    answer = small_model().train()(tokens(), labels=tokens())
    assert (answer.load_balancing_loss > 0.5).all()
    assert (answer.router_z_loss > 0).all()
    some = small_model(decoder_sparse_step=2).train()(tokens(), labels=tokens())
    assert some.load_balancing_loss.shape == (1,)
    none = small_model(mlp_only_layers=[0, 1]).train()(tokens(), labels=tokens())
    assert none.load_balancing_loss is None
    assert torch.equal(none.loss, none.cross_entropy)


def switch_router(**settings):
    torch.manual_seed(0)
    return SwitchTransformersTop1Router(SwitchTransformersConfig(d_model=8, num_experts=2, **settings))


@fact_of_transformers
def test_transformers_takes_expert_capacity_as_a_count_per_sequence_in_order_of_position():
    router = switch_router(expert_capacity=2).eval()
    with torch.no_grad():
        router.classifier.weight.copy_(torch.tensor([[1.0] * 8, [-1.0] * 8]))
    sure = torch.linspace(0.1, 1.0, 6).view(1, 6, 1).expand(3, 6, 8)
    mask, probabilities, _ = router(sure)
    kept = mask[..., 0]
    assert kept.tolist() == [[1, 1, 0, 0, 0, 0]] * 3
    assert probabilities[0, :, 0].diff().min() > 0


def test_ours_takes_a_factor_over_the_batch_and_keeps_the_surest():
    gate = ExpertGate(8, 2, 1, capacity_factor=1.0)
    with torch.no_grad():
        gate.weight.copy_(torch.tensor([[1.0] * 8, [-1.0] * 8]))
    sure = torch.linspace(0.1, 1.0, 6).view(1, 6, 1).expand(3, 6, 8)
    gate(sure)
    assert gate.routing.kept.view(3, 6).int().tolist() == [[0, 0, 0, 1, 1, 1]] * 3


def mixtral_block(**settings):
    torch.manual_seed(0)
    config = MixtralConfig(hidden_size=8, intermediate_size=8, num_local_experts=4, num_experts_per_tok=1, **settings)
    config._experts_implementation = "eager"
    block = MixtralSparseMoeBlock(config)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    return block


def router_share_of_the_task_gradient(block):
    block(torch.randn(2, 5, 8)).square().sum().backward()
    return (block.gate.weight.grad.norm() / block.experts.down_proj.grad.norm()).item()


@fact_of_transformers
def test_transformers_gives_the_router_of_a_mixtral_with_one_choice_no_gradient_from_the_task():
    assert router_share_of_the_task_gradient(mixtral_block()) < 1e-5


def test_ours_learns_from_the_task_with_one_choice():
    block = mixtral_block()
    block.gate = ExpertGate(8, 4, 1)
    torch.nn.init.normal_(block.gate.weight)
    assert router_share_of_the_task_gradient(block) > 0.1
    model = small_model(router_aux_loss_coef=0.0, router_z_loss_coef=0.0).train()
    model(tokens(), labels=tokens()).loss.backward()
    assert all(gate.weight.grad.abs().max() > 0 for gate in model.gates())


@fact_of_transformers
def test_transformers_changes_the_input_of_the_experts_by_the_jitter_of_the_router():
    given = torch.ones(1, 4, 8)
    switch_router(router_jitter_noise=0.5).train()(given)
    assert not torch.equal(given, torch.ones(1, 4, 8))
    given = torch.ones(1, 4, 8)
    mixtral_block(router_jitter_noise=0.5).train()(given)
    assert not torch.equal(given, torch.ones(1, 4, 8))


def test_ours_jitters_a_copy():
    model = small_model(jitter=0.5).train()
    seen = {}
    block = model.model.layers[0].mlp
    block.register_forward_pre_hook(lambda _, given: seen.update(block=given[0].clone()))
    block.experts.register_forward_pre_hook(lambda _, given: seen.update(experts=given[0].clone()))
    model(tokens())
    assert torch.equal(seen["block"].view(-1, 16), seen["experts"])
    assert not torch.allclose(block.gate.routing.logits, seen["experts"] @ block.gate.weight.T)
