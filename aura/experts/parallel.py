"""Experts spread over the processes of `torch.distributed`: each holds a part of every layer's experts.

Belongs here: which process holds which experts, and how tokens reach them. The exchange itself is `transformers`'
expert parallelism (`transformers.distributed.expert_parallel`), here for any of its mixtures of experts and any backend
(gloo on CPUs, NCCL on GPUs), with gates that drop. Does not: starting the processes (torchrun does, or
`torch.distributed.init_process_group`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch  # noqa: TID253 - exchanges tensors; nothing light imports this module
import torch.distributed as dist  # noqa: TID253
from torch import nn  # noqa: TID253
from torch.distributed.device_mesh import init_device_mesh  # noqa: TID253
from torch.distributed.tensor import DTensor  # noqa: TID253
from transformers import AutoModelForCausalLM  # noqa: TID253
from transformers.distributed.expert_parallel import (  # noqa: TID253
    AutoEP,
    EPImplementationInterface,
    apply_expert_parallelism,
)

from aura.experts.kernels import NAME


class ParallelError(RuntimeError):
    """Experts that cannot be spread over these processes."""


class ExchangeWithDrops(AutoEP):
    """The exchange that `transformers` would choose, for gates that mark a choice without a place by the expert E.

    Such a choice has the weight 0; it is sent to an expert of its own process, so that it does not travel.
    """

    def __call__(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        """Weighted outputs [T, d] of the tokens [T, d] that this process was given; see `aura_experts_forward`."""
        held: int = self.num_local_experts  # type: ignore[assignment]
        own = held * self.ep_mesh.get_local_rank()
        kept = top_k_index.masked_fill(top_k_index >= held * self.ep_mesh.size(), own)
        output: torch.Tensor = super().__call__(hidden_states, kept, top_k_weights)  # type: ignore[no-untyped-call]
        return output


EPImplementationInterface.register(NAME, ExchangeWithDrops)


def open_spread(directory: str, *, same_batch: bool, **options: Any) -> Any:  # noqa: ANN401 - what transformers takes
    """Open a causal language model with its experts spread over all processes of the default group.

    Each process reads the whole model, then keeps its part. With `accelerate` installed,
    `from_pretrained(directory, distributed_config=DistributedConfig(ep_size=...))` reads only the part.

    Args:
        directory: A model of `transformers` with safetensors.
        same_batch: See `spread_experts`.
        options: Passed to `AutoModelForCausalLM.from_pretrained`.

    Returns:
        The model.
    """
    model = AutoModelForCausalLM.from_pretrained(directory, use_safetensors=True, trust_remote_code=False, **options)
    spread_experts(model, same_batch=same_batch)
    return model


def spread_experts(model: nn.Module, *, same_batch: bool, device_type: str = "cpu") -> None:
    """Leave to each process of the default group its part of the experts of every layer; the rest stays everywhere.

    To be called by all processes, which hold the same weights. Process r of n keeps experts r E/n to (r + 1) E/n - 1.
    Gates with a capacity give out the places of the batch of their own process; those with a bias move it by the load
    of all processes, which all call `update_balance` after the step.

    Args:
        model: Any mixture of experts of `transformers` whose experts are stacked.
        same_batch: All processes are given the same batch and have the same answer; otherwise each has its own batch,
            and `average_gradients` belongs between backward and step.
        device_type: Where the model lies.

    Raises:
        ParallelError: There is no process group, the model has no stacked experts, or their number cannot be divided.
    """
    if not dist.is_initialized():
        raise ParallelError("there is no process group; call torch.distributed.init_process_group, or use torchrun")
    processes = dist.get_world_size()
    plan = dict(_plan(model, processes))
    if not plan:
        raise ParallelError(f"{type(model).__name__} has no stacked experts; give a mixture of experts of transformers")
    mesh = init_device_mesh(device_type, (processes, 1), mesh_dim_names=("experts", "batch"))
    batch = mesh["experts"] if same_batch else mesh["batch"]
    apply_expert_parallelism(model, mesh["experts"], batch, plan, ep_implementation=NAME)


def _plan(model: nn.Module, processes: int) -> Iterator[tuple[str, str]]:
    """Names of stacked matrices and of their modules, with the style of each; matrices first."""
    modules = [(name, module) for name, module in model.named_modules() if hasattr(module, "is_concatenated")]
    for name, module in modules:
        number = int(module.num_experts)
        if number % processes:
            raise ParallelError(
                f"{name} has {number} experts for {processes} processes; take a number of processes that divides it"
            )
        for parameter, tensor in module.named_parameters(recurse=False):
            if tensor.shape[0] == number:
                yield f"{name}.{parameter}", "grouped_gemm"
    yield from ((name, "ep_dispatch_experts") for name, _ in modules)


@torch.no_grad()
def average_gradients(model: nn.Module) -> None:
    """Turn the gradients of each process's own batch into those of the mean loss over all processes.

    Experts have met the tokens of all processes already; everything else is summed over them here.
    """
    processes = dist.get_world_size()
    for parameter in model.parameters():
        if parameter.grad is None:
            continue
        if not isinstance(parameter.grad, DTensor):
            dist.all_reduce(parameter.grad)
        parameter.grad.div_(processes)
