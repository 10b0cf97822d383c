"""The state of a training between two epochs, in one safetensors file: tensors, and JSON in its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch  # noqa: TID253 - holds the state of torch networks; nothing light imports this module
from pydantic import TypeAdapter, ValidationError

from aura.experts.card import EpochRecord
from aura.experts.config import ExpertConfig
from aura.experts.model import ExpertModelError, read_safetensors, write_safetensors

STATE_KEY = "aura.training"
NETWORKS = ("switch", "dense")


@dataclass(frozen=True)
class Progress:
    """The part of a state that is not tensors.

    Attributes:
        config: The configuration of the training.
        data_digest: The digest of its data.
        history: One record per epoch done.
    """

    config: ExpertConfig
    data_digest: str
    history: tuple[EpochRecord, ...]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything that a training needs to go on.

    Attributes:
        progress: Configuration, data and epochs done.
        networks: The state of the Switch classifier and of the dense twin, by tensor name.
        optimizers: Of each of the two, the optimizer's tensors by number of the parameter and name.
    """

    progress: Progress
    networks: tuple[Mapping[str, torch.Tensor], ...]
    optimizers: tuple[Mapping[int, Mapping[str, torch.Tensor]], ...]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the state; the file appears complete or not at all."""
    tensors: dict[str, torch.Tensor] = {}
    for name, network, optimizer in zip(NETWORKS, checkpoint.networks, checkpoint.optimizers, strict=True):
        tensors.update({f"{name}/{tensor}": value for tensor, value in network.items()})
        for number, moments in optimizer.items():
            tensors.update({f"{name}.optimizer/{number}/{moment}": value for moment, value in moments.items()})
    arrays = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    write_safetensors(path, arrays, {STATE_KEY: TypeAdapter(Progress).dump_json(checkpoint.progress).decode()})


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a state back; raises ExpertModelError for a file that is none."""
    arrays, metadata = read_safetensors(path)
    try:
        progress = TypeAdapter(Progress).validate_json(metadata.get(STATE_KEY, ""))
    except ValidationError as error:
        raise ExpertModelError(f"{path} is not the state of a training; remove it or give another path") from error
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    networks = tuple(_below(tensors, f"{name}/") for name in NETWORKS)
    optimizers = tuple(_moments(_below(tensors, f"{name}.optimizer/")) for name in NETWORKS)
    return Checkpoint(progress, networks, optimizers)


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _moments(tensors: Mapping[str, torch.Tensor]) -> dict[int, dict[str, torch.Tensor]]:
    grouped: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, moment = name.partition("/")
        grouped.setdefault(int(number), {})[moment] = tensor
    return grouped
