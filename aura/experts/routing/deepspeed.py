"""Reads the experts and gates of a DeepSpeed-MoE checkpoint; DeepSpeed itself is not needed.

Belongs here: the layout of the files, and the gate's routing. Does not: running the rest of the model, whose code is
the checkpoint owner's.

The layout (DeepSpeed, `DeepSpeedEngine._save_moe_checkpoint`): in `<directory>/<tag>`, where the file `latest` names
the tag, `mp_rank_00_model_states.pt` holds under "module" everything but the experts, gates among it as
`<layer>.deepspeed_moe.gate.wg.weight` [E, d]. Each expert has a file `layer_<l>_expert_<e>_mp_rank_00_model_states.pt`,
l counting the sparse layers, with `<layer>.deepspeed_moe.experts.deepspeed_experts.<e>.<parameter>`; older checkpoints
have one file `expert_<e>_mp_rank_00_model_states.pt` for all layers.

These files are pickles. They are opened by torch's restricted unpickler alone (`weights_only=True`), which builds
tensors and plain containers and refuses everything else, so that reading a checkpoint cannot run code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - reads tensors; nothing light imports it

from aura.experts.routing.batch import LayerRouting
from aura.experts.routing.errors import ExpertLayoutError

MODEL_FILE = "mp_rank_00_model_states.pt"
GATE = "deepspeed_moe.gate.wg.weight"
_EXPERT_FILE = re.compile(r"(?:layer_(?P<layer>\d+)_)?expert_(?P<expert>\d+)_mp_rank_(?P<rank>\d+)_model_states\.pt")
_EXPERT_KEY = re.compile(r"(?P<layer>.*?)\.?deepspeed_moe\.experts\.deepspeed_experts\.(?P<expert>\d+)\.(?P<name>.+)")


@dataclass(frozen=True, eq=False)
class DeepSpeedLayer:
    """The sparse part of one layer.

    Attributes:
        name: The layer's name in the model, such as "transformer.layers.1.mlp".
        gate: Weight of the gate [E, d].
        experts: The parameters of all experts stacked by name, each [E, ...]: "fc1.weight", ...
    """

    name: str
    gate: torch.Tensor
    experts: Mapping[str, torch.Tensor]

    def route(self, hidden: torch.Tensor, top_k: int) -> LayerRouting:
        """What the gate decides about hidden states [T, d], nothing dropped.

        In float32, as DeepSpeed computes it: a single choice weighs its probability, several are divided by their sum
        (GShard, arXiv 2006.16668).

        Raises:
            ExpertLayoutError: The hidden states have another width than the gate, or top_k is not from 1 to E.
        """
        experts, width = self.gate.shape
        if hidden.ndim != 2 or hidden.shape[1] != width or not 1 <= top_k <= experts:
            raise ExpertLayoutError(
                f"{self.name} routes [T, {width}] to 1 to {experts} experts; got {list(hidden.shape)} to {top_k}"
            )
        probabilities = torch.softmax(hidden.float() @ self.gate.float().T, dim=1)
        weights, chosen = probabilities.topk(top_k, dim=1)
        if top_k > 1:
            weights = weights / weights.sum(dim=1, keepdim=True)
        kept = torch.ones_like(chosen, dtype=torch.bool)
        return LayerRouting(probabilities.numpy(), chosen.numpy(), weights.numpy(), kept.numpy())


def read_deepspeed_moe(directory: Path, tag: str | None = None) -> tuple[DeepSpeedLayer, ...]:
    """The sparse layers of a DeepSpeed-MoE checkpoint in their order, on the CPU, in the dtypes that were stored.

    Args:
        directory: What `save_checkpoint` was given, or the directory of one tag.
        tag: Which checkpoint; by default the one that `latest` names.

    Raises:
        ExpertLayoutError: There is none, it is laid out otherwise, experts are missing, or a file holds more than
            tensors and plain values.
    """
    place = _place(directory, tag)
    files = sorted((found, path) for path in place.glob("*.pt") if (found := _expert_file(path)) is not None)
    if not files:
        raise ExpertLayoutError(
            f"{place} has no experts: expected files layer_<l>_expert_<e>_mp_rank_00_model_states.pt, as DeepSpeed "
            "writes a model with deepspeed.moe.layer.MoE"
        )
    parts: dict[str, dict[int, dict[str, torch.Tensor]]] = {}
    for _, path in files:
        for key, tensor in _load(path).items():
            parsed = _EXPERT_KEY.fullmatch(key)
            if parsed is None:
                raise ExpertLayoutError(
                    f"{path.name} has the key {key!r}; expected one of the form "
                    "<layer>.deepspeed_moe.experts.deepspeed_experts.<e>.<parameter>"
                )
            parts.setdefault(parsed["layer"], {}).setdefault(int(parsed["expert"]), {})[parsed["name"]] = tensor
    gates = _gates(place / MODEL_FILE)
    layers = (DeepSpeedLayer(name, *_checked(name, gates, experts, place)) for name, experts in parts.items())
    order = {name: number for number, name in enumerate(gates)}
    return tuple(sorted(layers, key=lambda layer: order[_gate_of(layer.name, gates)]))


def _place(directory: Path, tag: str | None) -> Path:
    latest = directory / "latest"
    if tag is None and latest.is_file():
        tag = latest.read_text(encoding="utf-8").strip()
    place = directory if tag is None else directory / tag
    if not place.is_dir():
        raise ExpertLayoutError(f"there is no DeepSpeed checkpoint in {place}; give the directory it was saved to")
    if not (place / MODEL_FILE).is_file():
        found = ", ".join(sorted(path.name for path in place.iterdir())[:5]) or "nothing"
        raise ExpertLayoutError(
            f"{place} has no {MODEL_FILE} (but {found}): a checkpoint of ZeRO stage 3 keeps its parameters in parts; "
            "save it with stage 0 to 2, or name the tag's directory"
        )
    return place


def _expert_file(path: Path) -> tuple[int, int] | None:
    """Layer and expert of an expert's file; -1 for the layer where the file is for all."""
    found = _EXPERT_FILE.fullmatch(path.name)
    if found is None:
        return None
    if int(found["rank"]) > 0:
        raise ExpertLayoutError(
            f"{path.name} is a part of an expert that was split over ranks (tensor parallelism), which is not read"
        )
    return int(found["layer"] or -1), int(found["expert"])


def _load(path: Path) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise ExpertLayoutError(
            f"{path} is not read, since it is damaged or holds more than tensors and plain values, and loading that "
            f"could run code; save it again without its client state. ({str(error).splitlines()[0]})"
        ) from error
    return loaded


def _gates(path: Path) -> dict[str, torch.Tensor]:
    """The gates by the names of their layers, in the model's order."""
    everything = _flat("", _load(path).get("module", {}))
    return {key.removesuffix(GATE).removesuffix("."): value for key, value in everything if key.endswith(GATE)}


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors of nested dictionaries, such as Megatron's, under dotted keys."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        elif isinstance(value, torch.Tensor):
            yield f"{prefix}{key}", value


def _gate_of(layer: str, gates: Mapping[str, torch.Tensor]) -> str:
    """The name that the gates have for a layer: the model in a wrapper has a longer one."""
    for name in gates:
        if layer == name or layer.endswith(f".{name}") or name.endswith(f".{layer}"):
            return name
    raise ExpertLayoutError(f"the layer {layer} has experts and no gate {layer}.{GATE} in {MODEL_FILE}")


def _checked(
    name: str, gates: Mapping[str, torch.Tensor], experts: Mapping[int, Mapping[str, torch.Tensor]], place: Path
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    gate = gates[_gate_of(name, gates)]
    missing = sorted(set(range(len(gate))) - experts.keys())
    if missing or len(experts) != len(gate):
        raise ExpertLayoutError(
            f"the gate of {name} chooses among {len(gate)} experts, and {place} has {len(experts)}; missing: {missing}"
        )
    shapes = {
        number: {key: tuple(tensor.shape) for key, tensor in expert.items()} for number, expert in experts.items()
    }
    other = [number for number, shape in shapes.items() if shape != shapes[0]]
    if other:
        raise ExpertLayoutError(
            f"the experts {other} of {name} have other parameters than expert 0: {shapes[other[0]]}"
        )
    stacked = {key: torch.stack([experts[number][key] for number in range(len(gate))]) for key in experts[0]}
    return gate, stacked
