"""The state of a training between two steps, in one safetensors file: tensors, and JSON in its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch  # noqa: TID253 - holds the state of a torch network; nothing light imports this module
from pydantic import TypeAdapter, ValidationError

from aura.embeddings.joint.card import LossRecord
from aura.embeddings.joint.config import JointConfig
from aura.embeddings.joint.errors import JointModelError
from aura.embeddings.joint.weights import read_tensors, write_tensors

STATE_KEY = "aura.joint.training"

_NETWORK = "network/"
_AVERAGE = "average/"
_OPTIMIZER = "optimizer/"


@dataclass(frozen=True)
class Progress:
    """The part of a state that is not tensors.

    Attributes:
        config: The configuration of the training.
        data_digest: The digest of its data.
        steps: Steps done.
        pending: Losses of each pair, of the steps since the last record.
        history: The records.
        cpu_s: CPU seconds of the steps.
    """

    config: JointConfig
    data_digest: str
    steps: int
    pending: tuple[tuple[float, ...], ...]
    history: tuple[LossRecord, ...]
    cpu_s: float


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything that a training needs to go on.

    Attributes:
        progress: Configuration, data and steps done.
        network: The towers by tensor name.
        average: The running average of them.
        moments: The optimizer's tensors by number of the parameter and name.
    """

    progress: Progress
    network: Mapping[str, torch.Tensor]
    average: Mapping[str, torch.Tensor]
    moments: Mapping[int, Mapping[str, torch.Tensor]]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the state; the file appears complete or not at all."""
    tensors = {f"{_NETWORK}{name}": tensor for name, tensor in checkpoint.network.items()}
    tensors |= {f"{_AVERAGE}{name}": tensor for name, tensor in checkpoint.average.items()}
    for number, moments in checkpoint.moments.items():
        tensors.update({f"{_OPTIMIZER}{number}/{name}": tensor for name, tensor in moments.items()})
    arrays = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    write_tensors(path, arrays, {STATE_KEY: TypeAdapter(Progress).dump_json(checkpoint.progress).decode()})


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a state back; raises JointModelError for a file that is none."""
    arrays, metadata = read_tensors(path)
    try:
        progress = TypeAdapter(Progress).validate_json(metadata.get(STATE_KEY, ""))
    except ValidationError as error:
        raise JointModelError(f"{path} is not the state of a training; remove it or give another path") from error
    network: dict[str, torch.Tensor] = {}
    average: dict[str, torch.Tensor] = {}
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, array in arrays.items():
        if name.startswith(_NETWORK):
            network[name.removeprefix(_NETWORK)] = torch.from_numpy(array)
        elif name.startswith(_AVERAGE):
            average[name.removeprefix(_AVERAGE)] = torch.from_numpy(array)
        else:
            number, _, moment = name.removeprefix(_OPTIMIZER).partition("/")
            moments.setdefault(int(number), {})[moment] = torch.from_numpy(array)
    return Checkpoint(progress, network, average, moments)
