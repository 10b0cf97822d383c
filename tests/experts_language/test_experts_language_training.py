"""Training: the same bits each time and after an interruption, equal size of both networks, what is measured."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, AutoTokenizer

import aura.experts.language.model  # noqa: F401 - makes the type known
from aura.experts.language.batches import Batches
from aura.experts.language.checkpoint import read_checkpoint
from aura.experts.language.evaluation import bits_per_byte
from aura.experts.language.models import LanguageModels, LanguageModelsError
from aura.experts.language.pair import PairError, build_pair
from aura.experts.language.presets import PRESETS, LanguageConfig, PairCost
from aura.experts.language.training import CheckpointPlan, DivergedError, train_language_models

VOCABULARY = 300


class Interrupted(Exception):  # noqa: N818 - what a person does, not an error
    """Somebody stopped the training."""


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one) and one.keys() == other.keys()


def levels(curve):
    return [(point.step, point.training_loss, point.held_out) for point in curve.points], curve.held_out


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(small_text, tiny, tiny_models):
    again = train_language_models(small_text, tiny)
    assert same(again.moe, tiny_models.moe)
    assert same(again.dense, tiny_models.dense)
    assert levels(again.card.moe) == levels(tiny_models.card.moe)
    other = train_language_models(small_text, tiny.with_seed(1))
    assert not same(other.moe, tiny_models.moe)


@pytest.mark.parametrize("balancing", ["bias", "loss"])
def test_a_training_interrupted_at_any_step_goes_on_to_the_same_bits(small_text, tiny, tmp_path, balancing):
    config = replace(tiny, balancing=balancing)
    whole = train_language_models(small_text, config)
    plan = CheckpointPlan(tmp_path / "state.safetensors", every_steps=5)
    done = []

    def interrupt(at):
        def report(steps, _):
            done.append(steps)
            if steps >= at:
                raise Interrupted

        return report

    for at in (2, 14, 20, 27):
        with pytest.raises(Interrupted):
            train_language_models(small_text, config, checkpoint=plan, progress=interrupt(at))
    resumed = train_language_models(small_text, config, checkpoint=plan, progress=lambda steps, _: done.append(steps))
    assert same(resumed.moe, whole.moe)
    assert same(resumed.dense, whole.dense)
    assert levels(resumed.card.moe) == levels(whole.card.moe)
    assert levels(resumed.card.dense) == levels(whole.card.dense)
    assert [p.seconds for p in resumed.card.moe.points] == sorted(p.seconds for p in resumed.card.moe.points)
    assert any(later < earlier for earlier, later in pairwise(done)), "it did not go back to a state"


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_to_the_same_bits(text_directory, small_text, tiny, tiny_models, tmp_path):
    state = tmp_path / "state.safetensors"
    script = f"""
import os, signal, sys
from pathlib import Path
from aura.experts.language.presets import PRESETS
from aura.experts.language.text import read_text
from aura.experts.language.tokens import tokenize
from aura.experts.language.training import CheckpointPlan, train_language_models
config = PRESETS["tiny"]
text = tokenize(read_text({str(text_directory)!r}, domain_bytes=config.domain_bytes), config.vocabulary)
def report(done, total):
    if done == 14:
        os.kill(os.getpid(), signal.SIGKILL)
train_language_models(text, config, checkpoint=CheckpointPlan(Path({str(state)!r}), every_steps=3), progress=report)
"""
    killed = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    resumed = train_language_models(small_text, tiny, checkpoint=CheckpointPlan(state))
    assert same(resumed.moe, tiny_models.moe)
    assert same(resumed.dense, tiny_models.dense)


def test_a_state_of_other_settings_is_not_gone_on_with(small_text, tiny, tiny_models, tmp_path, caplog):
    plan = CheckpointPlan(tmp_path / "state.safetensors")
    train_language_models(small_text, replace(tiny, learning_rate=0.01), checkpoint=plan)
    again = train_language_models(small_text, tiny, checkpoint=plan)
    assert same(again.moe, tiny_models.moe)
    assert "starts from nothing" in caplog.text


def test_both_networks_begin_alike_in_what_both_have(tiny):
    pair = build_pair(tiny, VOCABULARY)
    moe, dense = pair.moe.state_dict(), pair.dense.state_dict()
    shared = moe.keys() & dense.keys()
    assert {name for name in dense if "mlp" not in name} == shared
    assert all(torch.equal(moe[name], dense[name]) for name in shared)


SIZES = st.builds(
    lambda heads, head, layers, expert, k, experts: replace(
        PRESETS["tiny"],
        heads=heads,
        width=2 * heads * head,
        layers=layers,
        hidden=expert * k,
        experts=k + experts,
        experts_per_token=k,
    ),
    *(st.integers(1, high) for high in (2, 4, 2, 6, 3, 4)),
)


@settings(max_examples=10, deadline=None)
@given(SIZES)
def test_the_costs_that_are_counted_are_those_of_the_networks(config):
    pair = build_pair(config, VOCABULARY)
    cost = PairCost.of(config, VOCABULARY)
    counted = [sum(p.numel() for p in network.parameters()) for network in (pair.moe, pair.dense)]
    assert counted == [cost.moe.parameters, cost.dense.parameters]
    one_expert = 3 * config.width * config.expert_hidden
    idle = config.layers * (config.experts - config.experts_per_token) * one_expert
    assert cost.moe.active_parameters == counted[0] - idle
    assert cost.moe.active_parameters - cost.router_parameters == cost.dense.active_parameters
    assert cost.moe.active_flops - cost.router_flops == cost.dense.active_flops


def test_the_operations_of_the_twin_are_those_that_torch_counts(tiny):
    pair = build_pair(tiny, VOCABULARY)
    tokens = torch.zeros((2, 16), dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        pair.dense(input_ids=tokens)
    by_operation = counter.get_flop_counts()["Global"]
    products = sum(flops for operation, flops in by_operation.items() if "attention" not in str(operation))
    assert products == tokens.numel() * PairCost.of(tiny, VOCABULARY).dense.active_flops


def test_networks_of_unequal_active_size_are_refused(tiny, monkeypatch):
    monkeypatch.setattr(LanguageConfig, "expert_hidden", property(lambda self: self.hidden))
    with pytest.raises(PairError, match="more than the router"):
        build_pair(tiny, VOCABULARY)


def test_every_sequence_is_read_once_in_a_pass_and_in_another_order_in_the_next(small_text, tiny):
    batches = Batches(small_text, tiny)
    count = len(batches.sequences)
    read = torch.cat([batches.of(step) for step in range(-(-2 * count // tiny.batch))]).tolist()
    first, second = read[:count], read[count : 2 * count]
    assert sorted(first) == sorted(second) == sorted(batches.sequences.tolist())
    assert first != second
    assert torch.equal(Batches(small_text, tiny).of(count + 3), batches.of(count + 3))


def test_what_a_training_measures(small_text, tiny, tiny_models):
    card = tiny_models.card
    assert [point.step for point in card.moe.points] == [6, 12]
    assert card.moe.seconds > 0
    assert card.dense_longer.steps == round(tiny.steps * card.step_cost_ratio)
    assert "prove nothing" in card.proves_nothing
    moe = tiny_models.moe_network()
    found = bits_per_byte(moe, small_text, sequence=tiny.sequence)
    assert found == card.moe.held_out
    tokens = sum(len(held_out) // tiny.sequence * tiny.sequence for held_out in small_text.held_out.values())
    assert [sum(layer.load) for layer in card.balance] == [tokens * tiny.experts_per_token] * tiny.layers
    assert card.moe.held_out.mean < bits_per_byte(build_pair(tiny, VOCABULARY).moe, small_text, sequence=16).mean


def test_parts_and_directories_there_and_back(tiny_models, tmp_path):
    parts = tiny_models.to_parts()
    back = LanguageModels.from_parts(parts)
    assert back.card == tiny_models.card
    assert back.to_parts()["card"] == parts["card"]
    moe, dense = back.save(tmp_path)
    ids = torch.tensor([[1, 2, 3, 4]])
    for directory, network in ((moe, back.moe_network()), (dense, back.dense_network())):
        opened = AutoModelForCausalLM.from_pretrained(directory, use_safetensors=True)
        with torch.no_grad():
            torch.testing.assert_close(opened(input_ids=ids).logits, network(input_ids=ids).logits, rtol=0, atol=0)
        assert AutoTokenizer.from_pretrained(directory)("The market").input_ids
    before = torch.get_rng_state()
    back.moe_network(), back.dense_network()
    assert torch.equal(torch.get_rng_state(), before), "opening a model draws no random numbers from anyone"
    with pytest.raises(LanguageModelsError, match="train them again"):
        LanguageModels.from_parts({"card": parts["card"]})
    with pytest.raises(PairError, match="do not fit"):
        replace(back, dense=back.moe).dense_network()


def test_a_held_out_text_that_is_too_short_is_refused_before_the_first_step(small_text, tiny):
    short = replace(small_text, held_out={**small_text.held_out, "cities": np.arange(1, 10, dtype=np.uint16)})
    done = []
    with pytest.raises(ValueError, match="'cities' has 9 tokens, fewer than a sequence of 16"):
        train_language_models(short, tiny, progress=lambda steps, _: done.append(steps))
    assert done == []


def test_a_training_that_diverges_says_so_and_keeps_the_state_from_before(small_text, tiny, tmp_path):
    plan = CheckpointPlan(tmp_path / "state.safetensors", every_steps=1)
    with pytest.raises(
        DivergedError, match=r"step 3 its cross-entropy is nan; give a smaller learning_rate than 1e\+12"
    ):
        train_language_models(small_text, replace(tiny, learning_rate=1e12, warmup_steps=0), checkpoint=plan)
    assert {run.done for run in read_checkpoint(plan.path).progress.runs.values()} == {2}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_preset_for_a_gpu_is_refused_where_there_is_none(small_text):
    with pytest.raises(ValueError, match="no such device here: take 'small'"):
        train_language_models(small_text, PRESETS["medium"])


def test_wrong_settings_are_named():
    for wrong in ({"experts_per_token": 32}, {"hidden": 255}, {"heads": 3}, {"sequence": 1}, {"seed": -1}):
        with pytest.raises(ValueError, match=f"LanguageConfig.{'width' if 'heads' in wrong else next(iter(wrong))} is"):
            LanguageConfig(**wrong)


def test_a_training_that_is_short_or_reads_little_text_over_and_over_says_that_it_proves_nothing():
    small = PRESETS["small"]
    assert small.proves_nothing(small.tokens) is None
    assert small.proves_nothing(1_000_000) is None
    assert "a text of 999,999 prove nothing" in small.proves_nothing(999_999)
    assert "768 tokens prove nothing" in PRESETS["tiny"].proves_nothing(small.tokens)
    assert replace(small, steps=900).proves_nothing(small.tokens) is not None
