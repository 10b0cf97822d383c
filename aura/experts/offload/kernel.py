"""One kernel for experts wherever their weights are: expert by expert, each as soon as its weights are there.

Belongs here: the function that `transformers` calls for a layer's experts, and the form of Switch's experts that it can
be called for. Does not: where weights come from (`runtime`), which experts a token goes to (the model's router).

What an expert answers is kept by token and rank and added up at the end, so the order in which experts are computed,
which is the order in which their weights arrive, changes no bit of the output.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

import torch  # noqa: TID253 - only inference imports this module
from torch import nn  # noqa: TID253
from torch.nn import functional  # noqa: TID253
from transformers import SwitchTransformersConfig  # noqa: TID253
from transformers.activations import ACT2FN  # noqa: TID253
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS  # noqa: TID253

KERNEL = "aura_each"
"""Name of the function among the experts implementations of `transformers`."""
ALIGNMENT = 16
"""Bytes. A product of one row with a matrix that begins elsewhere is rounded in another order by some libraries."""

Weights = Mapping[str, torch.Tensor]


class Source(Protocol):
    """Where a layer's experts come from."""

    def each(
        self, hidden: torch.Tensor, experts: Sequence[int], tokens: Sequence[int], dropped: int
    ) -> Iterable[tuple[int, Weights]]:
        """The weights of these experts in whichever order they become available; each is used before the next.

        Args:
            hidden: [T, d], what the layer is given.
            experts: Numbers of the experts, each once, in order.
            tokens: Number of tokens that each of them gets.
            dropped: Assignments that capacity has dropped.
        """
        ...


def each_expert(
    module: nn.Module, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """Compute the experts of one layer; see `transformers.integrations.moe` for the interface.

    Args:
        module: The layer's experts: stacked weights of its own, or a `Source` as its attribute `source`.
        hidden_states: [T, d].
        top_k_index: int64[T, k]; the number of experts, or more, stands for an assignment that was dropped.
        top_k_weights: [T, k].

    Returns:
        [T, d], of the dtype of `hidden_states`.
    """
    stacked = cast("Any", module)
    tokens, ranks = top_k_index.shape
    rows = _rows_by_expert(top_k_index, stacked.num_experts)
    experts = list(rows)
    answered = sum(len(chosen) for chosen in rows.values())
    make = hidden_states.new_empty if answered == tokens * ranks else hidden_states.new_zeros
    answers = make(tokens * ranks, hidden_states.shape[-1])
    source = getattr(module, "source", None)
    if source is None:
        weights: Iterable[tuple[int, Weights]] = resident(module, experts)
    else:
        counts = [len(rows[expert]) for expert in experts]
        weights = cast("Source", source).each(hidden_states, experts, counts, tokens * ranks - answered)
    for expert, own in weights:
        chosen = rows[expert]
        given = hidden_states if tokens == 1 else hidden_states[chosen // ranks]
        answer = _answer(module, own, given).to(answers.dtype)
        if tokens == 1:
            answers[int(chosen[0])] = answer[0]
        else:
            answers[chosen] = answer
    mixed = answers.view(tokens, ranks, -1) * top_k_weights.unsqueeze(-1)
    return mixed.sum(dim=1).to(hidden_states.dtype)


def register() -> None:
    """Make the kernel known to `transformers`."""
    ALL_EXPERTS_FUNCTIONS.register(KERNEL, each_expert)


class SwitchExperts(nn.Module):
    """The experts of a Switch layer, which `transformers` keeps as modules of their own, stacked for the kernel.

    Without weights it needs a `source`. Tokens beyond an expert's capacity come with an empty mask and get zeros.
    """

    def __init__(self, config: SwitchTransformersConfig) -> None:
        super().__init__()
        self.config = config
        self.num_experts: int = config.num_experts
        self.act_fn = ACT2FN[config.dense_act_fn]
        self.has_gate = self.has_bias = self.is_transposed = self.has_post_expert_norm = False

    def forward(
        self, hidden_states: torch.Tensor, selected_experts: torch.Tensor, routing_weights: torch.Tensor
    ) -> torch.Tensor:
        """As `SwitchTransformersExperts`: [T, d], one-hot int64[T, 1, E], [T, 1]."""
        mask = selected_experts[:, 0]
        dropped = torch.full_like(mask[:, 0], self.num_experts)
        index = torch.where(mask.any(dim=-1), mask.argmax(dim=-1), dropped)
        return each_expert(self, hidden_states, index[:, None], routing_weights)


def _rows_by_expert(top_k_index: torch.Tensor, experts: int) -> dict[int, torch.Tensor]:
    """By expert, which of the T * k assignments are its, ascending; without those that were dropped."""
    flat = top_k_index.reshape(-1)
    if top_k_index.shape[0] == 1:
        places = torch.arange(len(flat))
        found = {expert: places[place : place + 1] for place, expert in enumerate(flat.tolist()) if expert < experts}
        return dict(sorted(found.items()))
    order = torch.argsort(flat, stable=True)
    counts = torch.bincount(flat, minlength=experts)[:experts].tolist()
    rows, start = {}, 0
    for expert, count in enumerate(counts):
        if count:
            rows[expert] = order[start : start + count]
        start += count
    return rows


def resident(module: nn.Module, experts: Sequence[int]) -> Iterator[tuple[int, Weights]]:
    """The stacked weights of a module's own, in order of the experts."""
    stacked = dict(module.named_parameters(recurse=False))
    for expert in experts:
        yield expert, {name: parameter[expert] for name, parameter in stacked.items()}


def _answer(module: nn.Module, own: Weights, given: torch.Tensor) -> torch.Tensor:
    """[n, d], what one expert makes of [n, d]."""
    kind = cast("Any", module)
    up = "gate_up_proj" if kind.has_gate else "up_proj"
    inner = _linear(given, own[up], own.get(f"{up}_bias"), transposed=kind.is_transposed)
    inner = kind._apply_gate(inner) if kind.has_gate else kind.act_fn(inner)  # noqa: SLF001 - part of the interface
    answer = _linear(inner, own["down_proj"], own.get("down_proj_bias"), transposed=kind.is_transposed)
    return cast("torch.Tensor", kind.post_expert_norm(answer)) if kind.has_post_expert_norm else answer


def _linear(given: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *, transposed: bool) -> torch.Tensor:
    if weight.data_ptr() % ALIGNMENT:
        weight = weight.clone()
    return functional.linear(given, weight.T if transposed else weight, bias)
