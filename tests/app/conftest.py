"""A small project that was really materialized, an empty one, and the processes that serve them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
import soundfile
import streamlit as st
from PIL import Image
from sklearn.datasets import load_digits
from visiting import PATIENCE_MS, SCREENS

from aura.tiers.store import TieredStore, join_store

PROJECT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SENTENCES = {
    "gardening": "The gardener waters the {colour} roses in row {number} before the sun rises over the beds.",
    "sailing": "The skipper trims the {colour} sail and holds course {number} while the tide turns in the bay.",
}
CONFIG = """
home = "{home}"
[experts]
experts = 2
epochs = 1
min_label_items = 5
[topology]
landmarks = 20
[measure]
energy = "modelled"
[services]
dagster_port = {dagster_port}
"""


@dataclass(frozen=True)
class Home:
    """A project's home with the settings file that names it."""

    path: Path
    config: Path

    @property
    def environment(self) -> dict[str, str]:
        """For a process that works on it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AURA_")}
        return {**inherited, "AURA_CONFIG": str(self.config), "PYTHONUNBUFFERED": "1"}

    @property
    def store_directory(self) -> Path:
        """Where its store is."""
        return self.path / "store"

    def compute(self, source: Path) -> None:
        """Take the directory through the whole graph by the real command."""
        command = [sys.executable, "-m", "aura_assets.demo", "--source", str(source)]
        run = subprocess.run(command, check=False, cwd=PROJECT, env=self.environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr

    def joined(self) -> TieredStore:
        """Its store, as a client."""
        return join_store(self.store_directory, timeout_seconds=10)

    @contextmanager
    def owner(self) -> Iterator[subprocess.Popen[str]]:
        """A dedicated process that owns the store."""
        command = [BIN / "aura", "tiers", "serve"]
        with _running(command, self.environment, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline().startswith("Serving")
            yield process

    @contextmanager
    def dashboard(self, **variables: str) -> Iterator[str]:
        """The pages, served as in the development stack with more variables; gives their address."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [BIN / "streamlit", "run", "app/main.py", "--server.port", str(port)]
        with _running(command, {**self.environment, **variables}) as process:
            address = f"http://127.0.0.1:{port}"
            _wait_for(process, f"{address}/_stcore/health")
            yield address


@contextmanager
def _running(command: list, environment: dict[str, str], stdout: int | None = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=stdout, text=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _wait_for(process: subprocess.Popen[str], address: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended by itself"
        try:
            with urlopen(address, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    pytest.fail(f"{address} did not answer within a minute")


def _home(directory: Path, dagster_port: int, more: str = "") -> Home:
    home = Home(directory / "home", directory / "aura.toml")
    home.config.write_text(CONFIG.format(home=home.path, dagster_port=dagster_port) + more)
    return home


@pytest.fixture(scope="session")
def closed_port() -> Iterator[int]:
    """A port on which nothing listens, kept so that nothing else comes to."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@pytest.fixture(scope="session")
def materialized(tmp_path_factory, closed_port) -> Home:
    """Thirty texts of two kinds, taken through the whole graph by the real command."""
    directory = tmp_path_factory.mktemp("materialized")
    home = _home(directory, closed_port)
    for label, sentence in SENTENCES.items():
        folder = directory / "letters" / label
        folder.mkdir(parents=True)
        for number in range(15):
            colour = ("red", "white", "old")[number % 3]
            (folder / f"{number:02d}.txt").write_text(sentence.format(colour=colour, number=number))
    home.compute(directory / "letters")
    return home


@pytest.fixture(scope="session")
def album(tmp_path_factory, closed_port) -> Home:
    """Handwritten digits, each with a note and a tone of its own, in a space that was trained on them."""
    directory = tmp_path_factory.mktemp("album")
    home = _home(directory, closed_port, "[joint]\nsteps = 30\nwidth = 32\nlayers = 1\n")
    digits = load_digits(n_class=2)
    times = np.arange(800) / 8000
    for number, (image, label) in enumerate(zip(digits.images[:40], digits.target[:40], strict=True)):
        folder = directory / "album" / ("zero", "one")[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).astype(np.uint8)).save(folder / f"{number:03d}.png")
        (folder / f"{number:03d}.txt").write_text(f"{folder.name}, number {number} by hand")
        tone = np.sin(2 * np.pi * (300 + 250 * label + number) * times)
        soundfile.write(folder / f"{number:03d}.wav", tone, 8000, subtype="PCM_16")
    home.compute(directory / "album")
    return home


@pytest.fixture
def empty(tmp_path, closed_port) -> Home:
    """A home that does not exist yet."""
    return _home(tmp_path, closed_port)


@pytest.fixture
def at_home(monkeypatch) -> Iterator[Callable[..., None]]:
    """Has what runs in this process use a home and further settings, without readers that were opened before."""

    def use(home: Home, **settings: str) -> None:
        for name in [name for name in os.environ if name.startswith("AURA_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AURA_CONFIG", str(home.config))
        for name, value in settings.items():
            monkeypatch.setenv(name, value)

    st.cache_resource.clear()
    yield use
    st.cache_resource.clear()


@pytest.fixture(scope="module")
def empty_address(tmp_path_factory, closed_port) -> Iterator[str]:
    """The dashboard of a home that does not exist yet."""
    with _home(tmp_path_factory.mktemp("empty"), closed_port).dashboard() as found:
        yield found


@pytest.fixture(scope="module")
def address(materialized):
    with materialized.dashboard() as found:
        yield found


@pytest.fixture
def owner(materialized):
    with materialized.owner() as process:
        yield process


@pytest.fixture
def opened(browser):
    """Opens an address as a new visitor; no page may leave loopback or raise an exception."""
    contexts = []

    def open_page(address, screen="desktop"):
        width, height, scheme = SCREENS[screen]
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        return page

    asked = []
    yield open_page
    for context in contexts:
        for page in context.pages:
            assert page.locator("[data-testid=stException]").count() == 0
        context.close()
    foreign = [url for url in asked if not re.match(r"(https?|wss?)://127\.0\.0\.1:|data:|blob:", url)]
    assert not foreign
