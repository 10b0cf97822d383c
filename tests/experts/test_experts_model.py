"""The model as a stored value, its card and its file."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from aura.experts.card import Accuracy, ModelCard, ModelCardError
from aura.experts.checks import better_than_majority
from aura.experts.model import ExpertModel, ExpertModelError
from aura.experts.plots import plot_training
from aura.tiers.values import StoredValue


def test_a_model_comes_back_from_its_parts_bit_for_bit(digit_model, digits):
    assert isinstance(digit_model, StoredValue)
    parts = digit_model.to_parts()
    assert sorted(parts) == ["card", "dense", "expert-000", "expert-001", "expert-002", "expert-003", "router"]
    back = ExpertModel.from_parts(parts)
    assert back.card == digit_model.card
    vectors = torch.from_numpy(digits.vectors)
    with torch.no_grad():
        assert torch.equal(back.to_module()(vectors)[0], digit_model.to_module()(vectors)[0])
        assert torch.equal(back.dense_module()(vectors), digit_model.dense_module()(vectors))


def test_the_file_is_the_same_each_time_and_loads_to_the_same_parts(digit_model, tmp_path):
    digit_model.save_safetensors(tmp_path / "one.safetensors")
    digit_model.save_safetensors(tmp_path / "two.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    parts, loaded = digit_model.to_parts(), ExpertModel.load(tmp_path / "one.safetensors").to_parts()
    assert parts["card"] == loaded["card"]
    for name in parts.keys() - {"card"}:
        assert all(np.array_equal(parts[name][key], loaded[name][key]) for key in parts[name])


def test_the_experts_hold_all_parameters_that_one_item_does_not_use(digit_model):
    cost = digit_model.card.switch_cost
    one_expert = sum(array.size for array in digit_model.experts[0].values())
    assert cost.parameters - cost.active_parameters == 3 * one_expert
    everything = [*digit_model.experts, digit_model.router]
    buffers = 2 * digit_model.card.dimension
    assert cost.parameters == sum(array.size for part in everything for array in part.values()) - buffers
    assert (
        cost.active_parameters - digit_model.card.dense_cost.parameters
        == digit_model.router["switch.router.weight"].size
    )


def test_the_twin_does_the_same_arithmetic_but_for_the_router(digit_model):
    from torch.utils.flop_counter import FlopCounterMode

    vectors = torch.zeros(1, digit_model.card.dimension)
    counts = []
    for module in (digit_model.to_module(), digit_model.dense_module()):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(vectors)
        counts.append(counter.get_total_flops())
    card = digit_model.card
    assert counts[1] == card.dense_cost.active_flops
    assert card.switch_cost.active_flops - card.dense_cost.active_flops == 2 * card.config.width * card.config.experts
    assert counts[0] == card.switch_cost.active_flops


def test_a_missing_expert_is_named(digit_model):
    parts = {name: part for name, part in digit_model.to_parts().items() if name != "expert-002"}
    with pytest.raises(ExpertModelError, match="expert-002"):
        ExpertModel.from_parts(parts)


def test_weights_of_another_shape_are_refused(digit_model):
    parts = dict(digit_model.to_parts())
    parts["router"] = {**parts["router"], "head.bias": np.zeros(3, np.float32)}
    with pytest.raises(ExpertModelError, match=r"head\.bias"):
        ExpertModel.from_parts(parts).to_module()


def test_a_file_that_is_cut_short_is_refused(digit_model, tmp_path):
    path = tmp_path / "model.safetensors"
    digit_model.save_safetensors(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ExpertModelError, match="not a whole safetensors file"):
        ExpertModel.load(path)


def test_a_card_survives_json_and_anything_else_is_refused(digit_model):
    text = digit_model.card.to_json()
    assert ModelCard.from_json(text) == digit_model.card
    assert ModelCard.from_json(text).to_json() == text
    with pytest.raises(ModelCardError, match="fields are wrong"):
        ModelCard.from_json(b'{"labels": 3}')


@pytest.mark.parametrize(("correct", "items"), [(0, 10), (10, 10), (81, 263), (1, 1)])
def test_the_interval_holds_exactly_the_shares_that_a_score_test_accepts(correct, items):
    accuracy = Accuracy.of(correct, items)
    assert 0 <= accuracy.low <= accuracy.value <= accuracy.high <= 1
    for end in (accuracy.low, accuracy.high):
        if 0 < end < 1:
            z = (accuracy.value - end) / math.sqrt(end * (1 - end) / items)
            assert abs(z) == pytest.approx(1.959964, rel=1e-5)


def test_the_model_beats_the_majority_and_the_check_says_by_how_much(digit_model):
    result = better_than_majority(digit_model)
    assert result.passed
    assert result.figures["switch_accuracy_low"] > result.figures["majority_accuracy"]


def test_training_curves_are_a_small_png(digit_model):
    picture = plot_training(digit_model)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 60_000


def test_the_types_load_without_torch():
    code = (
        "import sys, aura.experts.model, aura.experts.routing.tabulate, aura.experts.routing.vectors, "
        "aura.experts.config, aura.experts.checks, aura.experts.plots, aura.experts.registration\n"
        "print(sorted({'torch', 'mlflow', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
