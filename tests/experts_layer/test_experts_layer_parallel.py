"""Experts over two gloo processes against the same model in one process."""

import json
import os
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

PROCESS = """
import json, sys
import torch
import torch.distributed as dist
import aura.experts.language.model
from transformers import AutoModelForCausalLM
from aura.experts.parallel import average_gradients, open_spread

home, rank, scenarios = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{home}/group", rank=rank, world_size=2)
told = {}
for name, (model, same_batch) in scenarios.items():
    spread = open_spread(f"{home}/{model}", same_batch=same_batch, experts_implementation="aura").train()
    whole = AutoModelForCausalLM.from_pretrained(f"{home}/{model}", experts_implementation="aura").train()
    batches = [torch.randint(0, 64, (3, 12), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    own = batches[0 if same_batch else rank]
    with torch.no_grad():
        answer = (spread.eval()(own).logits - whole.eval()(own).logits).abs().max().item()
    spread.train()(own, labels=own).loss.backward()
    if same_batch:
        whole.train()(own, labels=own).loss.backward()
    else:
        average_gradients(spread)
        for batch in batches:
            (whole.train()(batch, labels=batch).loss / 2).backward()
    gradient = max(
        ((ours.grad.full_tensor() if hasattr(ours.grad, "full_tensor") else ours.grad) - theirs.grad).abs().max().item()
        for ours, theirs in zip(spread.parameters(), whole.parameters())
    )
    held = sum(p.to_local().numel() for p in spread.parameters() if hasattr(p, "to_local"))
    told[name] = {"answer": answer, "gradient": gradient, "held": held}
print(json.dumps(told))
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    home = tmp_path_factory.mktemp("spread")
    small_model(num_experts_per_tok=2).save_pretrained(home / "ours")
    small_model(num_experts_per_tok=2, capacity_factor=0.75).save_pretrained(home / "drops")
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
    command = [sys.executable, "-c", PROCESS, str(home)]
    processes = [
        subprocess.Popen(
            [*command, str(rank), json.dumps(SCENARIOS)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs[0][1][-3000:] + outputs[1][1][-3000:]
    return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_two_processes_answer_and_learn_as_one(told, scenario):
    for process in told:
        assert process[scenario]["answer"] < 1e-5
        assert process[scenario]["gradient"] < 1e-5


def test_each_process_holds_half_of_the_experts(told):
    experts = sum(p.numel() for name, p in small_model().named_parameters() if ".experts." in name)
    assert [process["same batch"]["held"] for process in told] == [experts // 2, experts // 2]


def test_without_a_process_group_it_says_what_to_do():
    with pytest.raises(ParallelError, match="init_process_group"):
        spread_experts(small_model(), same_batch=True)
