"""DeepSpeed-MoE checkpoints, in files of the layout that DeepSpeed writes."""

import os

import pytest
import torch

from aura.experts.routing.deepspeed import read_deepspeed_moe
from aura.experts.routing.errors import ExpertLayoutError

WIDTH, HIDDEN, EXPERTS = 6, 10, 4
LAYERS = ("transformer.layers.1.mlp", "transformer.layers.10.mlp")
PREFIX = "deepspeed_moe.experts.deepspeed_experts"


def parameters(seed):
    generator = torch.Generator().manual_seed(seed)
    sizes = {"fc1.weight": (HIDDEN, WIDTH), "fc1.bias": (HIDDEN,), "fc2.weight": (WIDTH, HIDDEN)}
    return {name: torch.randn(size, generator=generator) for name, size in sizes.items()}


def gate(number):
    return torch.randn(EXPERTS, WIDTH, generator=torch.Generator().manual_seed(100 + number))


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of two sparse layers under the tag global_step5, as two ranks of expert parallelism leave it."""
    place = tmp_path / "global_step5"
    place.mkdir()
    (tmp_path / "latest").write_text("global_step5", encoding="utf-8")
    module = {"transformer.layers.0.mlp.fc1.weight": torch.zeros(HIDDEN, WIDTH)}
    for number, layer in enumerate(LAYERS):
        module[f"{layer}.deepspeed_moe.gate.wg.weight"] = gate(number)
        for expert in range(EXPERTS):
            state = {
                f"{layer}.{PREFIX}.{expert}.{name}": value for name, value in parameters(10 * number + expert).items()
            }
            torch.save(state, place / f"layer_{number}_expert_{expert}_mp_rank_00_model_states.pt")
    state = {"module": module, "num_experts": [EXPERTS, EXPERTS], "global_steps": 5, "ds_version": "0.19.8"}
    torch.save(state, place / "mp_rank_00_model_states.pt")
    return tmp_path


def test_experts_are_stacked_per_layer_beside_their_gates(checkpoint):
    layers = read_deepspeed_moe(checkpoint)
    assert [layer.name for layer in layers] == list(LAYERS)
    for number, layer in enumerate(layers):
        assert torch.equal(layer.gate, gate(number))
        for expert in range(EXPERTS):
            for name, value in parameters(10 * number + expert).items():
                assert torch.equal(layer.experts[name][expert], value)
    assert [layer.name for layer in read_deepspeed_moe(checkpoint, "global_step5")] == list(LAYERS)
    assert [layer.name for layer in read_deepspeed_moe(checkpoint / "global_step5")] == list(LAYERS)


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_the_gate_routes_as_computed_by_hand(checkpoint, top_k):
    layer = read_deepspeed_moe(checkpoint)[0]
    hidden = torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(3))
    routing = layer.route(hidden, top_k)
    for token in range(7):
        scores = [torch.dot(hidden[token], layer.gate[expert]).exp().item() for expert in range(EXPERTS)]
        shares = [score / sum(scores) for score in scores]
        best = sorted(range(EXPERTS), key=lambda expert: -shares[expert])[:top_k]
        total = sum(shares[expert] for expert in best) if top_k > 1 else 1
        assert routing.experts[token].tolist() == best
        assert routing.weights[token] == pytest.approx([shares[expert] / total for expert in best], rel=1e-5)
        assert routing.probabilities[token] == pytest.approx(shares, rel=1e-5)
    with pytest.raises(ExpertLayoutError, match=r"got \[7, 5\]"):
        layer.route(hidden[:, :5], top_k)


def test_older_checkpoints_with_one_file_per_expert_are_read(checkpoint):
    place = checkpoint / "global_step5"
    for expert in range(EXPERTS):
        files = [place / f"layer_{number}_expert_{expert}_mp_rank_00_model_states.pt" for number in range(2)]
        state = {}
        for file in files:
            state |= torch.load(file, weights_only=True)
            file.unlink()
        torch.save(state, place / f"expert_{expert}_mp_rank_00_model_states.pt")
    layers = read_deepspeed_moe(checkpoint)
    assert [layer.name for layer in layers] == list(LAYERS)
    assert torch.equal(layers[1].experts["fc1.bias"][2], parameters(12)["fc1.bias"])


def test_gates_in_nested_states_of_a_wrapped_model_are_found(checkpoint):
    path = checkpoint / "global_step5" / "mp_rank_00_model_states.pt"
    nested = {"transformer": {f"{layer.removeprefix('transformer.')}.deepspeed_moe.gate.wg.weight": gate(number)
                              for number, layer in enumerate(LAYERS)}}  # fmt: skip
    torch.save({"module": nested}, path)
    assert torch.equal(read_deepspeed_moe(checkpoint)[1].gate, gate(1))


class Payload:
    """What a hostile pickle runs when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["mp_rank_00_model_states.pt", "layer_0_expert_1_mp_rank_00_model_states.pt"])
def test_files_that_hold_more_than_tensors_are_refused_and_run_nothing(checkpoint, tmp_path, name):
    proof = tmp_path / "it ran"
    torch.save({"module": Payload(proof)}, checkpoint / "global_step5" / name)
    with pytest.raises(ExpertLayoutError, match="could run code"):
        read_deepspeed_moe(checkpoint)
    assert not proof.exists()


def test_the_error_says_what_is_missing(checkpoint, tmp_path):
    place = checkpoint / "global_step5"
    with pytest.raises(ExpertLayoutError, match="no DeepSpeed checkpoint"):
        read_deepspeed_moe(tmp_path / "nowhere")
    (place / "layer_1_expert_2_mp_rank_00_model_states.pt").rename(place / "kept")
    with pytest.raises(ExpertLayoutError, match=r"among 4 experts, .* has 3; missing: \[2\]"):
        read_deepspeed_moe(checkpoint)
    torch.save({f"{LAYERS[1]}.experts.w1.2": torch.zeros(2)}, place / "layer_1_expert_2_mp_rank_00_model_states.pt")
    with pytest.raises(ExpertLayoutError, match=r"has the key 'transformer.layers.10.mlp.experts.w1.2'"):
        read_deepspeed_moe(checkpoint)
    state = {f"{LAYERS[1]}.{PREFIX}.2.fc1.weight": torch.zeros(2)}
    torch.save(state, place / "layer_1_expert_2_mp_rank_00_model_states.pt")
    with pytest.raises(ExpertLayoutError, match=r"the experts \[2\] of .* have other parameters"):
        read_deepspeed_moe(checkpoint)
    (place / "kept").replace(place / "layer_1_expert_2_mp_rank_00_model_states.pt")
    (place / "layer_0_expert_0_mp_rank_01_model_states.pt").write_bytes(b"")
    with pytest.raises(ExpertLayoutError, match="tensor parallelism"):
        read_deepspeed_moe(checkpoint)
    (place / "mp_rank_00_model_states.pt").unlink()
    with pytest.raises(ExpertLayoutError, match="ZeRO stage 3"):
        read_deepspeed_moe(checkpoint)
