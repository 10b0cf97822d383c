"""Which modules of a `transformers` model are experts, and an expert's weights as arrays and back.

Belongs here: finding experts, their tensors by name, dtypes that numpy lacks. Does not: files (`checkpoint`), keys and
objects (`store`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch  # noqa: TID253 - what needs no model does not import this module
from numpy.typing import NDArray
from torch import nn  # noqa: TID253

from aura.experts.offload.errors import ModelFilesError
from aura.experts.offload.kernel import SwitchExperts

SWITCH_NAMES = {"wi": "up_proj", "wo": "down_proj"}
"""What Switch calls the two matrices of an expert."""
_CARRIERS = {torch.bfloat16: torch.uint16, torch.float8_e4m3fn: torch.uint8, torch.float8_e5m2: torch.uint8}
"""Dtypes that numpy lacks, and those whose bits are theirs."""


@dataclass(frozen=True, slots=True)
class ExpertLayer:
    """The experts of one layer.

    Attributes:
        name: Path of their module in the model.
        module: The module.
        experts: Their number.
    """

    name: str
    module: nn.Module
    experts: int


def expert_layers(model: nn.Module) -> list[ExpertLayer]:
    """The experts of a model, from the first layer to the last.

    Raises:
        ModelFilesError: It has none that are stacked or Switch's.
    """
    found = [
        ExpertLayer(name, module, int(cast("Any", module).num_experts))
        for name, module in model.named_modules()
        if isinstance(module, SwitchExperts) or is_switch(module) or _is_stacked(module)
    ]
    if not found:
        raise ModelFilesError(
            f"{type(model).__name__} has no experts that can live in the tiers; models of transformers with stacked"
            " experts (gate_up_proj, down_proj) and Switch have"
        )
    return found


def is_switch(module: nn.Module) -> bool:
    """Whether this is a module of experts that are modules of their own, with the matrices `wi` and `wo`."""
    return isinstance(module, nn.ModuleDict) and all(
        name.startswith("expert_") and hasattr(expert, "wi") and hasattr(expert, "wo")
        for name, expert in module.items()
    )


def stacked_names(module: nn.Module) -> list[str]:
    """Names of the parameters that hold one slice for each expert."""
    experts = cast("Any", module).num_experts
    return [
        name
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim >= 2 and parameter.shape[0] == experts
    ]


def expert_weights(module: nn.Module, expert: int) -> dict[str, torch.Tensor]:
    """The weights of one expert, by the names that the kernel knows; views where they are stacked."""
    if is_switch(module):
        own = cast("Any", module)[f"expert_{expert}"]
        return {name: getattr(own, theirs).weight.detach() for theirs, name in SWITCH_NAMES.items()}
    return {name: getattr(module, name).detach()[expert] for name in stacked_names(module)}


def strip(model: nn.Module) -> None:
    """Take the weights of all experts out of a model; Switch's become the form that the kernel is called for."""
    for layer in expert_layers(model):
        if is_switch(layer.module):
            _replace(model, layer.name, SwitchExperts(cast("Any", model).config))
        else:
            for name in stacked_names(layer.module):
                delattr(layer.module, name)


def stack_switch(model: nn.Module) -> None:
    """Bring Switch's experts, with their weights, into the form that the kernel is called for."""
    for layer in expert_layers(model):
        if is_switch(layer.module):
            stacked = SwitchExperts(cast("Any", model).config)
            every = [expert_weights(layer.module, expert) for expert in range(layer.experts)]
            for name in every[0]:
                stacked.register_parameter(name, nn.Parameter(torch.stack([own[name] for own in every])))
            _replace(model, layer.name, stacked)


def to_array(tensor: torch.Tensor) -> NDArray[Any]:
    """A tensor as an array of the same bits; of unsigned integers where numpy lacks the dtype."""
    own = tensor.detach().cpu().contiguous()
    carrier = _CARRIERS.get(own.dtype)
    return (own if carrier is None else own.view(carrier)).numpy()


def from_array(array: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
    """The tensor that an array carries, a view of it: it must not be changed."""
    # DLPack knows that the memory is read-only; from_numpy would warn of it.
    tensor = torch.utils.dlpack.from_dlpack(array)
    return tensor if tensor.dtype == dtype else tensor.view(dtype)


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as it is written down, such as "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def named_dtype(name: str) -> torch.dtype:
    """The dtype of that name."""
    return cast("torch.dtype", getattr(torch, name))


def to_arrays(weights: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """An expert's weights as an object of the store."""
    return {name: to_array(tensor) for name, tensor in weights.items()}


def _is_stacked(module: nn.Module) -> bool:
    return hasattr(module, "_is_expert_parallel") and hasattr(module, "num_experts")


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)
