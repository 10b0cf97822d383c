"""The state of a language training between two steps, in one safetensors file: tensors, and JSON in its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch  # noqa: TID253 - holds the state of torch networks; nothing light imports this module
from pydantic import TypeAdapter, ValidationError

from aura.experts.language.card import CurvePoint
from aura.experts.language.presets import LanguageConfig
from aura.experts.model import ExpertModelError, read_safetensors, write_safetensors

STATE_KEY = "aura.language"


@dataclass(frozen=True)
class RunProgress:
    """How far one training is.

    Attributes:
        steps: Steps in all.
        done: Steps done.
        seconds: Time that they took.
        loss_sum: Sum of the cross-entropies since the last measurement, nats per token.
        points: Measurements so far.
    """

    steps: int
    done: int
    seconds: float
    loss_sum: float
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True)
class Progress:
    """The part of a state that is not tensors.

    Attributes:
        config: The settings of the training.
        text_digest: The digest of its text.
        runs: Each training that has begun, by name.
    """

    config: LanguageConfig
    text_digest: str
    runs: Mapping[str, RunProgress]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything that a training needs to go on.

    Attributes:
        progress: Settings, text, steps done.
        networks: The state of each network that has begun, by name of the training and of the tensor.
        optimizers: Of each, the optimizer's tensors by number of the parameter and name.
    """

    progress: Progress
    networks: Mapping[str, Mapping[str, torch.Tensor]]
    optimizers: Mapping[str, Mapping[int, Mapping[str, torch.Tensor]]]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the state; the file appears complete or not at all."""
    tensors: dict[str, torch.Tensor] = {}
    for name, network in checkpoint.networks.items():
        tensors.update({f"{name}/network/{tensor}": value for tensor, value in network.items()})
        for number, moments in checkpoint.optimizers[name].items():
            tensors.update({f"{name}/optimizer/{number}/{moment}": value for moment, value in moments.items()})
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    write_safetensors(path, arrays, {STATE_KEY: TypeAdapter(Progress).dump_json(checkpoint.progress).decode()})


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a state back; raises ExpertModelError for a file that is none."""
    arrays, metadata = read_safetensors(path)
    try:
        progress = TypeAdapter(Progress).validate_json(metadata.get(STATE_KEY, ""))
    except ValidationError as error:
        raise ExpertModelError(f"{path} is not the state of a training; remove it or give another path") from error
    networks: dict[str, dict[str, torch.Tensor]] = {name: {} for name in progress.runs}
    optimizers: dict[str, dict[int, dict[str, torch.Tensor]]] = {name: {} for name in progress.runs}
    for key, array in arrays.items():
        name, kind, rest = key.split("/", 2)
        if kind == "network":
            networks[name][rest] = torch.from_numpy(array)
        else:
            number, _, moment = rest.partition("/")
            optimizers[name].setdefault(int(number), {})[moment] = torch.from_numpy(array)
    return Checkpoint(progress, networks, optimizers)
