"""Experts over two gloo processes against the same model in one process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from layer_models import small_model
from transformers import MixtralConfig, MixtralForCausalLM

from aura.experts.parallel import ParallelError, spread_experts

SCENARIOS = {
    "same batch": ("ours", True),
    "own batches": ("ours", False),
    "same batch with drops": ("drops", True),
    "own batches with drops": ("drops", False),
    "mixtral, same batch": ("mixtral", True),
}

PROCESSES = """
import json, os, sys
import torch
import torch.distributed as dist
import aura.experts.language.model
from transformers import AutoModelForCausalLM
from aura.experts.parallel import average_gradients, open_spread

home, scenarios = sys.argv[1], json.loads(sys.argv[2])
torch.set_num_threads(1)
other = os.fork()
rank = 0 if other else 1
dist.init_process_group("gloo", init_method=f"file://{home}/group", rank=rank, world_size=2)


def both(model, same_batch):
    spread = open_spread(f"{home}/{model}", same_batch=same_batch, experts_implementation="aura").train()
    whole = AutoModelForCausalLM.from_pretrained(f"{home}/{model}", experts_implementation="aura").train()
    return spread, whole


def batches(step):
    seeds = (2 * step, 2 * step + 1)
    return [torch.randint(0, 64, (3, 12), generator=torch.Generator().manual_seed(seed)) for seed in seeds]


def learn(spread, whole, step, same_batch):
    given = batches(step)
    own = given[0 if same_batch else rank]
    spread(own, labels=own).loss.backward()
    if same_batch:
        whole(own, labels=own).loss.backward()
    else:
        average_gradients(spread)
        for batch in given:
            (whole(batch, labels=batch).loss / 2).backward()


def scenario(model, same_batch):
    spread, whole = both(model, same_batch)
    own = batches(0)[0 if same_batch else rank]
    with torch.no_grad():
        answer = (spread.eval()(own).logits - whole.eval()(own).logits).abs().max().item()
    learn(spread.train(), whole.train(), 0, same_batch)
    gradient = max(
        ((ours.grad.full_tensor() if hasattr(ours.grad, "full_tensor") else ours.grad) - theirs.grad).abs().max().item()
        for ours, theirs in zip(spread.parameters(), whole.parameters())
    )
    held = sum(p.to_local().numel() for p in spread.parameters() if hasattr(p, "to_local"))
    return {"answer": answer, "gradient": gradient, "held": held}


def balanced():
    spread, whole = both("bias", False)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1, foreach=False) for model in (spread, whole)]
    alone = [torch.zeros(4) for _ in spread.gates()]
    for step in range(4):
        learn(spread, whole, step, same_batch=False)
        for bias, gate in zip(alone, spread.gates()):
            bias += 0.001 * torch.sign(gate.assigned.double().mean() - gate.assigned)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        spread.update_balance()
        # The whole model needs no other process: what it was given is known everywhere, twice.
        whole.update_balance()
    biases = [torch.stack([gate.bias for gate in model.gates()]) for model in (spread, whole)]
    return {"spread": biases[0].tolist(), "whole": biases[1].tolist(), "alone": torch.stack(alone).tolist()}


told = {name: scenario(*settings) for name, settings in scenarios.items()}
told["bias"] = balanced()
with open(f"{home}/told-{rank}.json", "w") as file:
    json.dump(told, file)
dist.destroy_process_group()
if other:
    _, status = os.waitpid(other, 0)
    sys.exit(os.waitstatus_to_exitcode(status))
"""
"""One start of Python for both processes, because importing takes longer than all that they do."""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    home = tmp_path_factory.mktemp("spread")
    small_model(num_experts_per_tok=2).save_pretrained(home / "ours")
    small_model(num_experts_per_tok=2, capacity_factor=0.75).save_pretrained(home / "drops")
    small_model(num_experts_per_tok=2, balancing="bias").save_pretrained(home / "bias")
    torch.manual_seed(0)
    mixtral = MixtralConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
    )
    MixtralForCausalLM(mixtral).save_pretrained(home / "mixtral")
    with subprocess.Popen(
        [sys.executable, "-c", PROCESSES, str(home), json.dumps(SCENARIOS)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    ) as process:
        try:
            _, errors = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, errors[-3000:]
    return [json.loads((home / f"told-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_two_processes_answer_and_learn_as_one(told, scenario):
    for process in told:
        assert process[scenario]["answer"] < 1e-5
        assert process[scenario]["gradient"] < 1e-5


@pytest.mark.slow
def test_each_process_moves_the_bias_by_what_all_were_given(told):
    first, second = (process["bias"] for process in told)
    assert first["spread"] == second["spread"] == first["whole"] == second["whole"]
    assert first["alone"] != second["alone"]
    assert max(max(layer) for layer in first["spread"]) > 0


@pytest.mark.slow
def test_each_process_holds_half_of_the_experts(told):
    experts = sum(p.numel() for name, p in small_model().named_parameters() if ".experts." in name)
    assert [process["same batch"]["held"] for process in told] == [experts // 2, experts // 2]


def test_without_a_process_group_it_says_what_to_do():
    with pytest.raises(ParallelError, match="init_process_group"):
        spread_experts(small_model(), same_batch=True)
