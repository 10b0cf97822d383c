"""The Switch layer: a top-1 router over stacked experts, with capacity (Fedus et al. 2021, arXiv 2101.03961).

T tokens, E experts, C slots per expert, d model width, h hidden width. Tokens are copied into an [E, C, d] buffer, all
experts run as two batched products, and the results are copied back scaled by the gate. There is no loop over tokens
or experts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch  # noqa: TID253 - a module of neural networks; nothing light imports it
from torch import nn  # noqa: TID253

from aura.experts.gating import expert_capacity, queue_positions

INITIALISATION_SCALE = 0.1
"""The paper's reduced initialisation, a tenth of the usual scale (section 2.4)."""


@dataclass(frozen=True)
class Routing:
    """Who was sent where, and who got a place.

    Attributes:
        logits: Router logits [T, E], float32 (float64 for a float64 layer).
        probabilities: Softmax of the logits [T, E], the same dtype.
        expert: The chosen expert of each token [T], int64.
        gate: The probability of the chosen expert [T].
        position: The place of each token in its expert's queue [T], int64, from 0.
        capacity: The number of places C that each expert has.
    """

    logits: torch.Tensor
    probabilities: torch.Tensor
    expert: torch.Tensor
    gate: torch.Tensor
    position: torch.Tensor
    capacity: int

    @property
    def kept(self) -> torch.Tensor:
        """Whether each token got a place [T], bool."""
        return self.position < self.capacity

    def load(self) -> torch.Tensor:
        """Tokens sent to each expert, before capacity [E], int64."""
        return torch.bincount(self.expert, minlength=self.logits.shape[1])

    def kept_load(self) -> torch.Tensor:
        """Tokens that each expert processed, after capacity [E], int64."""
        return self.load().clamp(max=self.capacity)


class SwitchLayer(nn.Module):
    """Router and experts. A dropped token comes out as zeros, so that the residual around the layer carries it on.

    Args:
        width: Model width d.
        hidden: Hidden width h of one expert.
        experts: The number of experts E.
        batch_priority: Give out places by gate, highest first, in place of by arrival; see `queue_positions`.
        dtype: The dtype of all weights; the router computes in float32 or wider whatever it is.
    """

    def __init__(
        self, width: int, hidden: int, experts: int, *, batch_priority: bool, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.experts = experts
        self.batch_priority = batch_priority
        self.router = nn.Parameter(torch.empty(experts, width, dtype=dtype))
        self.w_in = nn.Parameter(torch.empty(experts, width, hidden, dtype=dtype))
        self.b_in = nn.Parameter(torch.zeros(experts, hidden, dtype=dtype))
        self.w_out = nn.Parameter(torch.empty(experts, hidden, width, dtype=dtype))
        self.b_out = nn.Parameter(torch.zeros(experts, width, dtype=dtype))
        initialise(self.router, width)
        initialise(self.w_in, width)
        initialise(self.w_out, hidden)

    def route(self, tokens: torch.Tensor, capacity_factor: float | None) -> Routing:
        """Choose one expert per token and give out the places.

        Args:
            tokens: Hidden states [T, d].
            capacity_factor: Places per expert over the fair share T/E; None gives every token a place (dropless).

        Returns:
            The routing of these tokens.
        """
        precision = torch.promote_types(tokens.dtype, torch.float32)
        logits = tokens.to(precision) @ self.router.to(precision).T
        probabilities = torch.softmax(logits, dim=1)
        gate, expert = probabilities.max(dim=1)
        priority = gate.detach() if self.batch_priority else None
        position = queue_positions(expert.unsqueeze(1), self.experts, priority).squeeze(1)
        if capacity_factor is None:
            capacity = int(torch.bincount(expert, minlength=self.experts).max())
        else:
            capacity = expert_capacity(tokens.shape[0], self.experts, capacity_factor)
        return Routing(logits, probabilities, expert, gate, position, capacity)

    def forward(self, tokens: torch.Tensor, capacity_factor: float | None) -> tuple[torch.Tensor, Routing]:
        """The experts' outputs times their gates [T, d], zeros where dropped, and the routing. See `route`."""
        routing = self.route(tokens, capacity_factor)
        kept = torch.nonzero(routing.kept).squeeze(1)
        slot = routing.expert[kept] * routing.capacity + routing.position[kept]
        places = self.experts * routing.capacity
        buffer = tokens.new_zeros(places, tokens.shape[1]).index_copy(0, slot, tokens.index_select(0, kept))
        outputs = self._run_experts(buffer.view(self.experts, routing.capacity, -1)).view(places, -1)
        gated = outputs.index_select(0, slot) * routing.gate.index_select(0, kept).unsqueeze(1).to(tokens.dtype)
        return torch.zeros_like(tokens).index_copy(0, kept, gated), routing

    def _run_experts(self, buffer: torch.Tensor) -> torch.Tensor:
        hidden = torch.baddbmm(self.b_in.unsqueeze(1), buffer, self.w_in).relu()
        return torch.baddbmm(self.b_out.unsqueeze(1), hidden, self.w_out)


def initialise(weight: torch.Tensor, fan_in: int) -> None:
    """Truncated normal of variance 0.1 / fan_in, cut at two standard deviations (section 2.4)."""
    deviation = math.sqrt(INITIALISATION_SCALE / fan_in)
    nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)
