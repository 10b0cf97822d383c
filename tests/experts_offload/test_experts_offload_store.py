"""Experts as objects of the store: losslessly, once, as views, beside published values, and away again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from offload_models import NAMES, build, save

from aura.experts.offload.checkpoint import open_complete, open_shell, read_layers
from aura.experts.offload.errors import ModelFilesError, NameTakenError, UnknownModelError
from aura.experts.offload.layout import expert_layers, from_array, to_array
from aura.experts.offload.store import ExpertStore, expert_key, weights_of
from aura.tiers.backup import back_up, verify_backup
from aura.tiers.budgets import TierBudgets
from aura.tiers.catalog import Catalog
from aura.tiers.records import Tier
from aura.tiers.store import open_store

MIB = 1 << 20


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "store", budgets=TierBudgets(process_bytes=MIB, arena_bytes=MIB)) as opened:
        yield opened


@pytest.mark.parametrize("name", NAMES)
def test_every_expert_of_every_architecture_is_kept_bit_by_bit(name, store, saved):
    model = ExpertStore(store).put(saved(name))

    complete = open_complete(saved(name))
    layers = expert_layers(complete)
    assert model.experts == tuple(layer.experts for layer in layers)
    for number, layer in enumerate(layers):
        for expert in range(layer.experts):
            kept = weights_of(store.get(expert_key(name, number, expert)), model.dtypes)
            own = {tensor: parameter[expert] for tensor, parameter in layer.module.named_parameters(recurse=False)}
            assert kept.keys() == own.keys()
            for tensor, weight in own.items():
                assert kept[tensor].dtype == weight.dtype
                assert torch.equal(kept[tensor], weight)


@pytest.mark.parametrize("name", NAMES)
def test_a_shell_has_everything_but_the_experts(name, saved):
    shell, complete = open_shell(saved(name)), open_complete(saved(name))

    assert all(not list(layer.module.parameters(recurse=False)) for layer in expert_layers(shell))
    theirs = dict(complete.named_parameters())
    experts = {f"{layer.name}.{own}" for layer in expert_layers(complete) for own, _ in layer.module.named_parameters()}
    assert dict(shell.named_parameters()).keys() == theirs.keys() - experts
    for parameter, weight in shell.named_parameters():
        assert torch.equal(weight, theirs[parameter])
    for (_, mine), (_, other) in zip(shell.named_buffers(), complete.named_buffers(), strict=True):
        assert torch.equal(mine, other)


def test_one_layer_at_a_time_is_in_memory(saved):
    layers, parts = [], []
    for layer, part in read_layers(saved("mixtral")):
        layers.append(layer)
        parts.append(part)
        assert not any(parameter.is_meta for parameter in layer.module.parameters())
        for other in layers[:-1]:
            assert all(parameter.is_meta for parameter in other.module.parameters())
    assert parts == [number / len(layers) for number in range(1, len(layers) + 1)]


def test_putting_again_writes_nothing(store, saved):
    experts = ExpertStore(store)
    first = experts.put(saved("qwen"))
    puts = store.tiers()[-1].puts
    assert puts == sum(first.experts) + 1

    assert experts.put(saved("qwen")) == first
    assert store.tiers()[-1].puts == puts


def test_other_weights_do_not_take_a_name(store, saved, tmp_path):
    experts = ExpertStore(store)
    first = experts.put(saved("qwen"), "mine")
    other = build("qwen")
    with torch.no_grad():
        other.model.layers[2].mlp.experts.down_proj[7, 0, 0] += 1
    other.save_pretrained(tmp_path / "other")

    with pytest.raises(NameTakenError, match="experts remove mine"):
        experts.put(tmp_path / "other", "mine")
    shorter = build("qwen", num_hidden_layers=2)
    shorter.load_state_dict(build("qwen").state_dict(), strict=False)
    shorter.save_pretrained(tmp_path / "shorter")
    with pytest.raises(NameTakenError, match="experts remove mine"):
        experts.put(tmp_path / "shorter", "mine")
    assert experts.model("mine") == first


def test_a_read_is_a_view_in_both_fast_tiers_and_warns_of_nothing(store, saved):
    model = ExpertStore(store).put(saved("qwen"))
    for tier in (Tier.L1, Tier.L2):
        store.move({model.keys[0]: tier})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            once, again = (weights_of(store.get(model.keys[0]), model.dtypes) for _ in range(2))
        assert [one.data_ptr() for one in once.values()] == [two.data_ptr() for two in again.values()]
        # The product of a vector and a matrix is rounded alike wherever the matrix begins at a multiple of this.
        assert all(weight.data_ptr() % 16 == 0 for weight in once.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float8_e4m3fn])
def test_dtypes_that_numpy_lacks_keep_their_bits(dtype):
    tensor = torch.linspace(-3, 3, 24).to(dtype).view(4, 6)

    array = to_array(tensor)

    array.flags.writeable = False
    assert torch.equal(from_array(array, dtype).view(torch.uint8), tensor.view(torch.uint8))


def test_removing_leaves_nothing(store, saved):
    experts = ExpertStore(store)
    store.write({"experts/other": b"{", "unrelated": b"1"})
    store.delete("experts/other")
    model = experts.put(saved("qwen"), "org/model 1")
    assert [known.name for known in experts.models()] == ["org/model 1"]

    assert experts.remove("org/model 1") == sum(model.experts)

    assert [entry.key for entry in store.entries()] == ["unrelated"]
    with pytest.raises(UnknownModelError, match="there are: none"):
        experts.remove("org/model 1")


def test_experts_live_beside_published_values(store, saved, tmp_path):
    model = ExpertStore(store).put(saved("qwen"))

    assert Catalog(store).sweep() == 0
    report = back_up(store, tmp_path / "backup")

    assert report.manifest.objects == sum(model.experts) + 1
    assert verify_backup(tmp_path / "backup").corrupt == ()
    assert ExpertStore(store).model("qwen") == model


def test_directories_that_are_no_models_are_refused(store, tmp_path, saved):
    experts = ExpertStore(store)
    with pytest.raises(ModelFilesError, match=r"lacks config\.json"):
        experts.put(tmp_path)
    directory = save("qwen", tmp_path / "half")
    (directory / "model.safetensors").unlink()
    with pytest.raises(ModelFilesError, match=r"model\.safetensors"):
        experts.put(directory)
    quantized = save("qwen", tmp_path / "quantized")
    config = json.loads((quantized / "config.json").read_text()) | {"quantization_config": {"quant_method": "mxfp4"}}
    (quantized / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFilesError, match="is quantized"):
        experts.put(quantized)
    foreign = save("qwen", tmp_path / "foreign")
    changes = {"model_type": "foreign", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (foreign / "config.json").write_text(json.dumps(json.loads((foreign / "config.json").read_text()) | changes))
    (foreign / "own.py").write_text(f"open({str(tmp_path / 'it ran')!r}, 'w')")
    with pytest.raises(ModelFilesError, match="code of the model's own, which is not run"):
        experts.put(foreign)
    assert not (tmp_path / "it ran").exists()
    damaged = save("qwen", tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"no tensors at all")
    with pytest.raises(ModelFilesError, match=r"model\.safetensors is damaged"):
        experts.put(damaged)
    import transformers as hf

    sizes = {"vocab_size": 8, "hidden_size": 16, "num_hidden_layers": 1, "head_dim": 8, "intermediate_size": 16}
    dense = hf.Qwen3ForCausalLM(hf.Qwen3Config(**sizes, num_attention_heads=2, num_key_value_heads=2))
    dense.save_pretrained(tmp_path / "dense")
    with pytest.raises(ModelFilesError, match="no experts"):
        experts.put(tmp_path / "dense")
    assert store.entries() == []


KILLED = """
import os, signal, sys
from pathlib import Path
from aura.experts.offload.store import ExpertStore
from aura.tiers.budgets import TierBudgets
from aura.tiers.store import open_store

with open_store(Path(sys.argv[1]), budgets=TierBudgets()) as store:
    told = []
    def tell(text, part):
        told.append(text)
        if len(told) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    ExpertStore(store).put(Path(sys.argv[2]), "killed", tell=tell)
"""


@pytest.mark.slow
def test_who_is_killed_while_putting_leaves_no_model_and_no_trouble(tmp_path, saved):
    arguments = [sys.executable, "-c", KILLED, str(tmp_path / "store"), str(saved("qwen"))]
    assert subprocess.run(arguments, env=os.environ, timeout=120, check=False).returncode == -signal.SIGKILL

    with open_store(tmp_path / "store", budgets=TierBudgets()) as store:
        experts = ExpertStore(store)
        assert experts.models() == []
        assert experts.entries("killed")
        # What is left belongs to a model of another shape.
        store.write({expert_key("killed", 90, 0): b"left over"})
        model = experts.put(saved("qwen"), "killed")
        assert [entry.key for entry in experts.entries("killed")] == model.keys
        assert np.all(store.time_gets(model.keys) > 0)


def test_what_a_killed_process_left_can_be_removed(store):
    store.write({expert_key("left", 0, 0): b"1"})
    assert ExpertStore(store).remove("left") == 1
    assert store.entries() == []


def test_keys_say_model_layer_and_expert():
    assert expert_key("org/m", 3, 12) == "experts/org%2Fm/003/0012"
    assert Path(expert_key("m", 3, 12)).parts == ("experts", "m", "003", "0012")
