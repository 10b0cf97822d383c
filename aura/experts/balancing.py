"""Balancing by a bias on the selection, without a loss of its own (Wang et al. 2024, arXiv 2408.15664).

Belongs here: how far a bias moves, and moving the correction biases of `transformers`' routers (DeepSeek-V3, GLM-4 MoE,
Ernie 4.5 MoE, MiniMax-M2 and others), which `transformers` holds and never updates. Does not: choosing by a bias
(`gating`).

E experts, T tokens, k choices of a token.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch  # noqa: TID253 - counts in tensors; nothing light imports this module
import torch.distributed as dist  # noqa: TID253
from torch import nn  # noqa: TID253

CORRECTION_BIAS = "e_score_correction_bias"
"""What `transformers` calls the bias, in every architecture that has one."""


def bias_step(assigned: torch.Tensor, rate: float) -> torch.Tensor:
    """How far the bias of each expert moves: `rate` times the sign of the mean load less its own (algorithm 1).

    In a process group of `torch.distributed` the assignments of all its processes count together, so that the same bias
    stays the same everywhere; all of them call this at the same time.

    Args:
        assigned: Assignments to each expert in this process [E], int64.
        rate: 0.001 in the paper.

    Returns:
        [E], float32.
    """
    load = assigned.clone()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(load)
    return rate * torch.sign(load.double().mean() - load).float()


class CorrectionBias:
    """The correction biases of a model, and what its routers chose since the last update; see `correction_bias`.

    Attributes:
        assigned: Assignments to each expert since the last update [E], int64, by the name of the bias.
    """

    def __init__(self, biases: Mapping[str, torch.Tensor]) -> None:
        self._biases = dict(biases)
        # Steps are lost in half precision: they add up here.
        self._precise = {name: bias.detach().float() for name, bias in biases.items()}
        self.assigned = {
            name: torch.zeros(bias.numel(), dtype=torch.int64, device=bias.device) for name, bias in biases.items()
        }
        self._present: torch.Tensor | None = None

    @torch.no_grad()
    def update(self, rate: float = 0.001) -> None:
        """Move every bias by `bias_step`; to be called after each optimizer step."""
        for name, bias in self._biases.items():
            precise, assigned = self._precise[name], self.assigned[name]
            precise += bias_step(assigned, rate).view_as(precise)
            bias.copy_(precise)
            assigned.zero_()

    def _read_padding(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = inspect.signature(model.forward).bind_partial(*args, **kwargs).arguments
        mask = given.get("attention_mask")
        self._present = mask.flatten().bool() if isinstance(mask, torch.Tensor) and mask.dim() == 2 else None

    def _count(self, name: str, chosen: torch.Tensor) -> None:
        if self._present is not None and len(self._present) == len(chosen):
            chosen = chosen[self._present]
        assigned = self.assigned[name]
        assigned += torch.bincount(chosen.flatten(), minlength=len(assigned))[: len(assigned)]


@contextmanager
def correction_bias(model: nn.Module) -> Iterator[CorrectionBias]:
    """Count what a model's routers choose in training, to move their correction biases.

    ::

        with correction_bias(model) as bias:
            for batch in batches:
                model(**batch).loss.backward()
                optimizer.step()
                bias.update(0.001)

    Tokens that a 2-D `attention_mask` leaves out are not counted. Forwards in evaluation are not, either.

    Args:
        model: Any model of `transformers` whose routers have an `e_score_correction_bias`. It has to be in the device
            and dtype in which it is trained.

    Raises:
        ValueError: It has no such bias, or the experts of one cannot be told.
    """
    pairs = dict(_pairs(model))
    if not pairs:
        raise ValueError(
            f"{type(model).__name__} has no {CORRECTION_BIAS}: give a model that chooses by one, such as DeepSeek-V3; "
            "a model of the type aura_moe has `update_balance`"
        )
    bias = CorrectionBias({name: tensor for name, (tensor, _) in pairs.items()})
    with ExitStack() as hooks:
        hooks.callback(model.register_forward_pre_hook(bias._read_padding, with_kwargs=True).remove)  # noqa: SLF001
        for name, (_, experts) in pairs.items():

            def called(experts: nn.Module, args: tuple[Any, ...], name: str = name) -> None:
                if experts.training:
                    bias._count(name, args[1])  # noqa: SLF001 - of this module

            hooks.callback(experts.register_forward_pre_hook(called).remove)
        yield bias


def _pairs(model: nn.Module) -> Iterator[tuple[str, tuple[torch.Tensor, nn.Module]]]:
    """Each correction bias by name, with the experts of the same block, which are called with what was chosen."""
    modules = dict(model.named_modules())
    for name, tensor in [*model.named_buffers(), *model.named_parameters()]:
        holder, _, own = name.rpartition(".")
        if own != CORRECTION_BIAS:
            continue
        beside: list[nn.Module] = []
        while not beside:
            beside = [module for module in modules[holder].modules() if hasattr(module, "is_concatenated")]
            if not holder:
                break
            holder = holder.rpartition(".")[0]
        if len(beside) != 1:
            raise ValueError(
                f"{name} has {len(beside)} modules of stacked experts beside it, so that its choices cannot be told; "
                "give a model with one for each router"
            )
        yield name, (tensor, beside[0])
