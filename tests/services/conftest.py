"""Homes for commands that are run as a person runs them, in processes of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aura.services.recipes import RECIPES
from aura.services.server import Server

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    """Settings of the person who runs the tests do not reach them."""
    for name in list(os.environ):
        if name.startswith("AURA_") or name == "DAGSTER_HOME":
            monkeypatch.delenv(name)


@pytest.fixture
def reachable_home() -> Iterator[Path]:
    """A home that PostgreSQL's account can reach; what `aura services up` leaves running there is killed."""
    home = Path(tempfile.mkdtemp(prefix="aura-home-"))
    home.chmod(0o755)
    yield home
    for name, recipe in RECIPES.items():
        Server(recipe, home / "services" / name, tethered=False).kill()
    shutil.rmtree(home)


@pytest.fixture
def aura(reachable_home, tmp_path) -> Run:
    """Runs `aura` with these arguments and variables; returns the finished process."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).parent / "aura", *arguments],
            env={**os.environ, "AURA_HOME": str(reachable_home), "COLUMNS": "200", **variables},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run
