"""Directories of small models, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from offload_models import save


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Callable[[str], Path]:
    """Directory of a model of this name; only to be read."""
    directories: dict[str, Path] = {}

    def directory(name: str) -> Path:
        if name not in directories:
            directories[name] = save(name, tmp_path_factory.mktemp("models") / name)
        return directories[name]

    return directory


@pytest.fixture(autouse=True)
def _one_thread():
    """As many threads as the machine has would round otherwise from run to run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
