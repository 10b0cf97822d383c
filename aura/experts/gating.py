"""Gates: which experts a token is sent to, with which weight, and who gets a place.

Belongs here: top-k gating (Switch k = 1, GShard k = 2, any k), capacity and its queues, balancing by a bias. Does not:
the experts themselves (`kernels`), the losses (`losses`).

T tokens of a whole batch, E experts, k choices of a token, C places of an expert, d model width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import torch  # noqa: TID253 - a module of neural networks; nothing light imports it
from torch import nn  # noqa: TID253

from aura.experts.balancing import bias_step

Balancing = Literal["loss", "bias"]
"""How the load is evened out: by the load-balancing loss, or by a bias on the selection without such a loss."""


@dataclass(frozen=True)
class Routing:
    """Who was sent where by one layer, and who got a place.

    Attributes:
        logits: Router logits [T, E], float32 (float64 for a float64 layer).
        probabilities: Softmax of the logits [T, E], the same dtype.
        choices: The chosen experts of each token, best first [T, k], int64, whether or not there was a place; E for
            padding.
        weights: The weight of each choice [T, k], the same dtype; 0 for a choice without a place and for padding.
        kept: Whether each choice got a place [T, k], bool.
        present: Which tokens are not padding [T], bool; None: all of them.
    """

    logits: torch.Tensor
    probabilities: torch.Tensor
    choices: torch.Tensor
    weights: torch.Tensor
    kept: torch.Tensor
    present: torch.Tensor | None = None

    @property
    def experts(self) -> torch.Tensor:
        """Where each choice is sent [T, k], int64: the expert, or E for a choice without a place and for padding."""
        return self.choices.masked_fill(~self.kept, self.logits.shape[1])

    def load(self) -> torch.Tensor:
        """Assignments to each expert before capacity, without padding [E], int64."""
        experts = self.logits.shape[1]
        return torch.bincount(self.choices.flatten(), minlength=experts)[:experts]

    def kept_load(self) -> torch.Tensor:
        """Assignments that each expert processed, after capacity [E], int64."""
        return torch.bincount(self.choices[self.kept], minlength=self.logits.shape[1])

    def detach(self) -> Routing:
        """The same without the graph of the gradients."""
        return replace(
            self,
            logits=self.logits.detach(),
            probabilities=self.probabilities.detach(),
            weights=self.weights.detach(),
        )


def expert_capacity(assignments: int, experts: int, capacity_factor: float) -> int:
    """ceil(capacity_factor * assignments / experts), the factor taken as the decimal number it was written as.

    Switch, arXiv 2101.03961, eq. 3, with one assignment per token; V-MoE, arXiv 2106.05974, section 2.3, with k.
    """
    return math.ceil(Fraction(str(capacity_factor)) * assignments / experts)


def queue_positions(choices: torch.Tensor, experts: int, priority: torch.Tensor | None = None) -> torch.Tensor:
    """The place of each choice in the queue of its expert.

    The first choices of all tokens come before any second choice (GShard, arXiv 2006.16668, algorithm 1). Among choices
    of one rank, tokens come in the order of arrival or of priority.

    Args:
        choices: The chosen experts of each token, best first [T, k], int64; E for those that queue nowhere.
        experts: The number of experts.
        priority: One number per token [T], highest first and ties by arrival; None for the order of arrival.

    Returns:
        Places from 0 [T, k], int64.
    """
    tokens, ranks = choices.shape
    order = None if priority is None else torch.argsort(priority, descending=True, stable=True)
    line = (choices if order is None else choices[order]).T.reshape(-1)
    grouped = torch.argsort(line, stable=True)
    load = torch.bincount(line, minlength=experts)
    first = load.cumsum(0) - load
    position = torch.empty_like(line)
    position[grouped] = torch.arange(line.shape[0], device=line.device) - first[line[grouped]]
    in_line = position.view(ranks, tokens).T
    return in_line if order is None else torch.empty_like(choices).index_copy_(0, order, in_line.contiguous())


class ExpertGate(nn.Module):
    """A linear router that sends each token to its k best experts, in the place of `Qwen3MoeTopKRouter`.

    Args:
        width: Model width d.
        experts: The number of experts E.
        top_k: Choices per token k.
        normalise: Divide the k weights by their sum. Not with k = 1: the weight would always be 1 and the router would
            learn nothing from the task.
        capacity_factor: Places per expert over the fair share k T / E of the whole batch; None gives every choice a
            place (dropless).
        batch_priority: Give out places by the largest probability of the token, highest first (batch priority routing,
            V-MoE, arXiv 2106.05974, section 4.1), in place of in the order of arrival.
        jitter: In training, the router sees its input times uniform noise from [1 - jitter, 1 + jitter] (Switch,
            section 2.4). The experts see the input itself.
        balancing: "bias": choose by probability + bias, weigh by probability alone, and let `update_bias` even out the
            load (arXiv 2408.15664).

    Attributes:
        weight: [E, d].
        bias: [E] float32 whatever the dtype of the module, for balancing "bias".
        assigned: Assignments to each expert in training since the last `update_bias` [E], int64, likewise.
        present: Which tokens of the next forward are not padding [T], bool; None: all of them. Padding is sent to no
            expert, takes no place and counts in no load.
        routing: What the last forward decided; None before the first.
    """

    bias: torch.Tensor
    assigned: torch.Tensor

    def __init__(
        self,
        width: int,
        experts: int,
        top_k: int,
        *,
        normalise: bool = False,
        capacity_factor: float | None = None,
        batch_priority: bool = True,
        jitter: float = 0.0,
        balancing: Balancing = "loss",
    ) -> None:
        super().__init__()
        if not 1 <= top_k <= experts:
            raise ValueError(f"top_k is {top_k} with {experts} experts; give a number from 1 to {experts}")
        if normalise and top_k == 1:
            raise ValueError(
                "the weight of a single choice is not normalised: it would always be 1 and the router would get no "
                "gradient from the task; give normalise=False or top_k of 2 and more"
            )
        self.hidden_dim = width
        self.num_experts = experts
        self.top_k = top_k
        self.normalise = normalise
        self.capacity_factor = capacity_factor
        self.batch_priority = batch_priority
        self.jitter = jitter
        self.balancing = balancing
        self.weight = nn.Parameter(torch.zeros(experts, width))
        if balancing == "bias":
            self.register_buffer("bias", torch.zeros(experts, dtype=torch.float32))
            self.register_buffer("assigned", torch.zeros(experts, dtype=torch.int64), persistent=False)
        self.present: torch.Tensor | None = None
        self.routing: Routing | None = None

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> ExpertGate:  # noqa: FBT001, FBT002 - as torch declares it
        """Take the module to another device or dtype, but leave the bias in float32: in less, its steps vanish."""
        before = self.bias if self.balancing == "bias" else None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if before is not None and self.bias.dtype != before.dtype:
            self.bias = before.to(self.bias.device)
        return self

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Choose the experts of tokens [..., d].

        Returns:
            Router logits [T, E] in float32 or wider; weights [T, k] in the dtype of the tokens; experts [T, k], int64.
            A choice without a place has the expert E and the weight 0, and so has padding.
        """
        present, self.present = self.present, None
        self.routing = self.route(hidden_states.reshape(-1, self.hidden_dim), self.capacity_factor, present)
        if self.training and self.balancing == "bias":
            self.assigned += self.routing.load()
        experts = self.routing.choices if self.capacity_factor is None else self.routing.experts
        return self.routing.logits, self.routing.weights.to(hidden_states.dtype), experts

    def route(
        self, tokens: torch.Tensor, capacity_factor: float | None, present: torch.Tensor | None = None
    ) -> Routing:
        """Choose the experts of tokens [T, d] and give out the places of this capacity; nothing is remembered.

        `present` [T], bool, is False for padding; the capacity is that of the other tokens.
        """
        tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
        if self.training and self.jitter > 0:
            tokens = tokens * torch.empty_like(tokens).uniform_(1 - self.jitter, 1 + self.jitter)
        with torch.autocast(tokens.device.type, enabled=False):
            # By columns, because a softmax over few experts is quick only across tokens.
            columns = self.weight.to(tokens.dtype) @ tokens.T
            logits, probabilities = columns.T, torch.softmax(columns, dim=0).T
        weights, choices = self._choose(probabilities)
        if self.normalise:
            weights = weights / weights.sum(dim=1, keepdim=True)
        assignments = choices.numel()
        kept = torch.ones_like(choices, dtype=torch.bool)
        if present is not None:
            assignments = int(present.sum()) * self.top_k
            kept = present.unsqueeze(1).expand_as(choices)
            choices = choices.masked_fill(~kept, self.num_experts)
        if capacity_factor is not None:
            priority = probabilities.detach().amax(dim=1) if self.batch_priority else None
            capacity = expert_capacity(assignments, self.num_experts, capacity_factor)
            kept = kept & (queue_positions(choices, self.num_experts, priority) < capacity)
        if capacity_factor is not None or present is not None:
            weights = weights.masked_fill(~kept, 0)
        return Routing(logits, probabilities, choices, weights, kept, present)

    def _choose(self, probabilities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.balancing == "bias":
            choices = torch.topk(probabilities.detach() + self.bias, self.top_k, dim=1).indices
            return probabilities.gather(1, choices), choices
        weights, choices = torch.topk(probabilities, self.top_k, dim=1)
        return weights, choices

    @torch.no_grad()
    def update_bias(self, rate: float) -> None:
        """Move the bias of each expert by `rate` towards the mean load, see `bias_step`.

        Call it after each optimizer step, in all processes: it takes the assignments of all forwards in training since
        the last call. With balancing "loss" there is no bias, and nothing happens.
        """
        if self.balancing != "bias":
            return
        self.bias += bias_step(self.assigned, rate)
        self.assigned.zero_()
