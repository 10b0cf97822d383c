"""What routers did with the tokens of a batch, as plain arrays; loads no heavy library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Stack = Literal["encoder", "decoder"]
"""Which stack of a model a layer belongs to; "decoder" in a model with one stack."""


@dataclass(frozen=True, eq=False)
class LayerRouting:
    """What one router did with T tokens.

    Attributes:
        probabilities: Router probabilities [T, E], float32; rows sum to one.
        experts: The chosen experts [T, k], int64, in the router's order, whether or not they had a place.
        weights: What the experts' outputs are multiplied by [T, k], float32; 0 where dropped.
        kept: Whether each choice had a place [T, k], bool.
    """

    probabilities: np.ndarray
    experts: np.ndarray
    weights: np.ndarray
    kept: np.ndarray


@dataclass(frozen=True, eq=False)
class RoutedBatch:
    """The routing of the T tokens of some texts, padding left out.

    Attributes:
        texts: Position of each token's text in the sequence that was given [T], int64.
        tokens: Ids that the tokens have for each stack [T], int64; empty where tokens have no ids.
        layers: One routing per sparse layer.
        truncated: Texts of this batch whose end was cut off.
    """

    texts: np.ndarray
    tokens: Mapping[Stack, np.ndarray]
    layers: tuple[LayerRouting, ...]
    truncated: int = 0
