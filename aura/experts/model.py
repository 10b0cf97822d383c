"""A trained expert model as a stored value: weights in parts, one per expert, and its card.

Light to import: the networks live in `aura.experts.classifier` and are built on request.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from aura.experts.card import ModelCard
from aura.tiers.values import Part, Tensors

if TYPE_CHECKING:
    from torch import nn

    from aura.experts.classifier import DenseTwin, Shape, SwitchClassifier

EXPERT_TENSORS = ("w_in", "b_in", "w_out", "b_out")
STACKED_PREFIX = "switch."
CARD_KEY = "aura.card"


class ExpertModelError(ValueError):
    """Parts or a file that do not make up an expert model."""


@dataclass(frozen=True, eq=False)
class ExpertModel:
    """A Switch classifier and its dense twin, trained on the same batches.

    Attributes:
        card: How it was made and how well it does.
        router: Every tensor of the Switch classifier that all items use: input scaling, projection, router, head.
        experts: The tensors of each expert: w_in [w, h], b_in [h], w_out [h, w], b_out [w], float32.
        dense: Every tensor of the dense twin.
    """

    card: ModelCard
    router: Tensors
    experts: tuple[Tensors, ...]
    dense: Tensors

    def __post_init__(self) -> None:
        if len(self.experts) != self.card.config.experts:
            raise ExpertModelError(
                f"the card says {self.card.config.experts} experts, the weights have {len(self.experts)}; "
                "load all parts of one and the same model"
            )
        for number, expert in enumerate(self.experts):
            if sorted(expert) != sorted(EXPERT_TENSORS):
                raise ExpertModelError(
                    f"expert {number} has tensors {sorted(expert)}; expected {sorted(EXPERT_TENSORS)}"
                )

    def shape(self) -> Shape:
        """The sizes of both networks."""
        from aura.experts.classifier import Shape

        config = self.card.config
        return Shape(self.card.dimension, config.width, config.hidden, config.experts, len(self.card.labels))

    def to_module(self) -> SwitchClassifier:
        """The Switch classifier in evaluation mode, on the CPU, with its own copy of the weights.

        Raises:
            ExpertModelError: A tensor is missing, too many or of another shape.
        """
        from aura.experts.classifier import SwitchClassifier

        module = SwitchClassifier(self.shape(), batch_priority=self.card.config.batch_priority)
        stacked = {
            f"{STACKED_PREFIX}{name}": np.stack([expert[name] for expert in self.experts]) for name in EXPERT_TENSORS
        }
        _fill(module, {**self.router, **stacked})
        return module

    def dense_module(self) -> DenseTwin:
        """The dense twin, likewise."""
        from aura.experts.classifier import DenseTwin

        module = DenseTwin(self.shape())
        _fill(module, self.dense)
        return module

    @classmethod
    def from_modules(cls, card: ModelCard, switch: SwitchClassifier, dense: DenseTwin) -> Self:
        """Take the weights out of two trained networks."""
        tensors = tensors_of(switch)
        stacked = {name: tensors.pop(f"{STACKED_PREFIX}{name}") for name in EXPERT_TENSORS}
        experts = tuple(
            {name: np.ascontiguousarray(stacked[name][number]) for name in EXPERT_TENSORS}
            for number in range(card.config.experts)
        )
        return cls(card, tensors, experts, tensors_of(dense))

    def to_parts(self) -> Mapping[str, Part]:
        """Tensors as "router", "expert-000" and on, and "dense"; canonical JSON as "card"."""
        experts: dict[str, Part] = {_expert_part(number): expert for number, expert in enumerate(self.experts)}
        return {"card": self.card.to_json(), "router": self.router, **experts, "dense": self.dense}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put a model together; raises ExpertModelError or ModelCardError when the parts are not one model."""
        card_bytes = parts.get("card")
        if not isinstance(card_bytes, bytes):
            raise ExpertModelError(f"an expert model has a part 'card' of bytes; got the parts {sorted(parts)}")
        card = ModelCard.from_json(card_bytes)
        names = [_expert_part(number) for number in range(card.config.experts)]
        unexpected = set(parts) ^ {"card", "router", "dense", *names}
        if unexpected:
            raise ExpertModelError(f"parts missing or too many for {card.config.experts} experts: {sorted(unexpected)}")
        experts = tuple(_tensors(parts, name) for name in names)
        return cls(card, _tensors(parts, "router"), experts, _tensors(parts, "dense"))

    def save_safetensors(self, path: Path) -> None:
        """Write all weights and the card to one safetensors file, which appears complete or not at all."""
        flat = {
            f"{part}/{name}": np.ascontiguousarray(array)
            for part, tensors in self.to_parts().items()
            if not isinstance(tensors, bytes) and isinstance(tensors, Mapping)
            for name, array in tensors.items()
        }
        write_safetensors(path, flat, {CARD_KEY: self.card.to_json().decode()})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file of `save_safetensors`; raises ExpertModelError when it is another kind of file."""
        tensors, metadata = read_safetensors(path)
        if CARD_KEY not in metadata:
            raise ExpertModelError(f"{path} has no model card; give a file that ExpertModel.save_safetensors wrote")
        parts: dict[str, Part] = {"card": metadata[CARD_KEY].encode()}
        grouped: dict[str, dict[str, np.ndarray]] = {}
        for name, array in tensors.items():
            part, _, tensor = name.partition("/")
            grouped.setdefault(part, {})[tensor] = array
        return cls.from_parts({**parts, **grouped})


def tensors_of(module: nn.Module) -> dict[str, np.ndarray]:
    """Copies of a network's parameters and buffers by name."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}


def write_safetensors(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file next to its place, flush it to the disk, then move it there; makes the directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        file.write(save(dict(sorted(tensors.items())), metadata=dict(metadata)))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Raises:
        FileNotFoundError: There is no such file.
        ExpertModelError: It is not a safetensors file, or it is cut short.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.offset_keys()}, dict(file.metadata() or {})
    except SafetensorError as error:
        raise ExpertModelError(f"{path} is not a whole safetensors file ({error}); write it again") from error


def _expert_part(number: int) -> str:
    return f"expert-{number:03d}"


def _tensors(parts: Mapping[str, Part], name: str) -> Tensors:
    part = parts[name]
    if not isinstance(part, Mapping):
        raise ExpertModelError(f"part {name!r} holds {type(part).__name__}; expected named tensors")
    return part


def _fill(module: nn.Module, tensors: Tensors) -> None:
    import torch

    try:
        module.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in tensors.items()})
    except RuntimeError as error:
        raise ExpertModelError(f"the weights do not fit the model card: {error}") from error
    module.eval()
