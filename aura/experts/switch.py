"""The Switch layer: a gate of one choice and stacked experts with capacity (Fedus et al. 2021, arXiv 2101.03961).

T tokens, E experts, d model width, h hidden width. The gate is `ExpertGate`; the experts run by the same function as
those of a language model (`aura.experts.kernels`).
"""

from __future__ import annotations

import math

import torch  # noqa: TID253 - a module of neural networks; nothing light imports it
from torch import nn  # noqa: TID253

from aura.experts.gating import ExpertGate, Routing
from aura.experts.kernels import aura_experts_forward

INITIALISATION_SCALE = 0.1
"""The paper's reduced initialisation, a tenth of the usual scale (section 2.4)."""


class SwitchLayer(nn.Module):
    """Router and experts. A dropped token comes out as zeros, so that the residual around the layer carries it on.

    Args:
        width: Model width d.
        hidden: Hidden width h of one expert.
        experts: The number of experts E.
        batch_priority: Give out places by gate, highest first, in place of by arrival; see `ExpertGate`.
        dtype: The dtype of all weights; the router computes in float32 or wider whatever it is.
    """

    is_transposed, has_bias, has_gate, has_post_expert_norm = True, True, False, False
    _is_expert_parallel = True
    """What `transformers`' functions need to know to leave out the expert E."""

    def __init__(
        self, width: int, hidden: int, experts: int, *, batch_priority: bool, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.num_experts = experts
        self.act_fn = nn.ReLU()
        self.router = ExpertGate(width, experts, 1, batch_priority=batch_priority).to(dtype)
        self.w_in = nn.Parameter(torch.empty(experts, width, hidden, dtype=dtype))
        self.b_in = nn.Parameter(torch.zeros(experts, hidden, dtype=dtype))
        self.w_out = nn.Parameter(torch.empty(experts, hidden, width, dtype=dtype))
        self.b_out = nn.Parameter(torch.zeros(experts, width, dtype=dtype))
        initialise(self.router.weight, width)
        initialise(self.w_in, width)
        initialise(self.w_out, hidden)

    up_proj = property(lambda self: self.w_in)
    up_proj_bias = property(lambda self: self.b_in)
    down_proj = property(lambda self: self.w_out)
    down_proj_bias = property(lambda self: self.b_out)

    def route(self, tokens: torch.Tensor, capacity_factor: float | None) -> Routing:
        """Choose one expert per token [T, d] and give out the places; None gives every token a place (dropless)."""
        return self.router.route(tokens, capacity_factor)

    def forward(self, tokens: torch.Tensor, capacity_factor: float | None) -> tuple[torch.Tensor, Routing]:
        """The experts' outputs times their gates [T, d], zeros where dropped, and the routing. See `route`."""
        routing = self.route(tokens, capacity_factor)
        return aura_experts_forward(self, tokens, routing.experts, routing.weights), routing


def initialise(weight: torch.Tensor, fan_in: int) -> None:
    """Truncated normal of variance 0.1 / fan_in, cut at two standard deviations (section 2.4)."""
    deviation = math.sqrt(INITIALISATION_SCALE / fan_in)
    nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)
