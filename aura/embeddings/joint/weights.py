"""Safetensors files of a joint model and of its training, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from aura.embeddings.joint.errors import JointModelError
from aura.tiers.values import Tensors


def write_whole(path: Path, content: bytes) -> None:
    """Write a file next to its place, flush it to the disk, then move it there; makes the directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_tensors(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file; the same tensors and metadata give the same bytes."""
    ordered = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    write_whole(path, save(ordered, metadata=dict(metadata)))


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Raises:
        FileNotFoundError: There is no such file.
        JointModelError: It is not a safetensors file, or it is cut short.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.offset_keys()}, dict(file.metadata() or {})
    except SafetensorError as error:
        raise JointModelError(f"{path} is not a whole safetensors file ({error}); write it again") from error
