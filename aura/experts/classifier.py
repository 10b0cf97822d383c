"""The two networks that are compared: a classifier with one Switch block, and its dense twin.

n items, d input dimensions, w width, h hidden width, L labels. Both standardise the input, project it to the width, add
one residual feed-forward block, and read the label off with a linear head. The twin's block has the hidden width of one
expert, so per item both do the same arithmetic, apart from the w * E products of the router.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch  # noqa: TID253 - a module of neural networks; nothing light imports it
from torch import nn  # noqa: TID253

from aura.experts.gating import Routing
from aura.experts.switch import SwitchLayer, initialise


@dataclass(frozen=True)
class Shape:
    """The sizes of a classifier.

    Attributes:
        dimension: Input dimensions d.
        width: Model width w.
        hidden: Hidden width h of one expert, and of the dense block.
        experts: Number of experts E.
        labels: Number of labels L.
    """

    dimension: int
    width: int
    hidden: int
    experts: int
    labels: int

    def dense_flops(self) -> int:
        """Floating-point operations of the dense twin for one item, forward: two per multiply-add of a matrix."""
        return 2 * (self.dimension * self.width + 2 * self.width * self.hidden + self.width * self.labels)

    def switch_flops(self) -> int:
        """The same of the Switch classifier: one expert and the router."""
        return self.dense_flops() + 2 * self.width * self.experts


class ResidualClassifier(nn.Module):
    """What both networks share: standardised input, projection, norms and head."""

    input_mean: torch.Tensor
    input_scale: torch.Tensor

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.register_buffer("input_mean", torch.zeros(shape.dimension))
        self.register_buffer("input_scale", torch.ones(shape.dimension))
        self.projection = nn.Linear(shape.dimension, shape.width)
        self.head_norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.labels)
        self.norm = nn.LayerNorm(shape.width)
        self.dropout = nn.Dropout(dropout)

    def standardise(self, vectors: torch.Tensor) -> None:
        """Take the mean and the standard deviation of each dimension from these vectors [n, d], float32."""
        self.input_mean.copy_(vectors.mean(dim=0))
        self.input_scale.copy_(vectors.std(dim=0, correction=0).clamp(min=1e-6))

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        """Hidden states [n, w] of vectors [n, d]."""
        hidden: torch.Tensor = self.projection((vectors - self.input_mean) / self.input_scale)
        return hidden

    def classify(self, hidden: torch.Tensor) -> torch.Tensor:
        """Label logits [n, L] of hidden states [n, w]."""
        logits: torch.Tensor = self.head(self.dropout(self.head_norm(hidden)))
        return logits


class SwitchClassifier(ResidualClassifier):
    """The classifier whose feed-forward block is a Switch layer."""

    def __init__(self, shape: Shape, *, batch_priority: bool, dropout: float = 0.0) -> None:
        super().__init__(shape, dropout)
        self.switch = SwitchLayer(shape.width, shape.hidden, shape.experts, batch_priority=batch_priority)

    def forward(self, vectors: torch.Tensor, capacity_factor: float | None = None) -> tuple[torch.Tensor, Routing]:
        """Label logits [n, L] and the routing of vectors [n, d]; without a capacity factor nothing is dropped."""
        hidden = self.project(vectors)
        outputs, routing = self.switch(self.norm(hidden), capacity_factor)
        return self.classify(hidden + self.dropout(outputs)), routing

    def route(self, vectors: torch.Tensor, capacity_factor: float | None) -> Routing:
        """The routing of vectors [n, d] alone; no expert runs."""
        return self.switch.route(self.norm(self.project(vectors)), capacity_factor)


class DenseTwin(ResidualClassifier):
    """The classifier whose feed-forward block is dense and as wide as one expert."""

    def __init__(self, shape: Shape, *, dropout: float = 0.0) -> None:
        super().__init__(shape, dropout)
        self.w_in = nn.Linear(shape.width, shape.hidden)
        self.w_out = nn.Linear(shape.hidden, shape.width)
        initialise(self.w_in.weight, shape.width)
        initialise(self.w_out.weight, shape.hidden)
        nn.init.zeros_(self.w_in.bias)
        nn.init.zeros_(self.w_out.bias)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Label logits [n, L] of vectors [n, d]."""
        hidden = self.project(vectors)
        return self.classify(hidden + self.dropout(self.w_out(self.w_in(self.norm(hidden)).relu())))
