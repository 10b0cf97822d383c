"""What tests of several folders need: real servers and a browser.

Servers are started when the first test asks, one of each kind for the whole session.

`kafka`, `neo4j`, `redis` and `postgres` are shared: a test that stops or kills one starts it again. A test that needs a
server in an extraordinary state takes one of its own from `servers`. Every server dies with the test process.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aura.services.recipe import MissingSoftwareError
from aura.services.recipes import RECIPES
from aura.services.server import Server

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def started(name: str, directory: Path) -> Server:
    """A running server. What is not installed is a skip with its reason, and a failure in CI."""
    server = Server(RECIPES[name], directory, tethered=True)
    try:
        server.start()
    except MissingSoftwareError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    return server


@pytest.fixture(scope="session")
def servers_home() -> Iterator[Path]:
    """A temporary home that the account of PostgreSQL can reach too; pytest's own directories are private."""
    home = Path(tempfile.mkdtemp(prefix="aura-servers-"))
    home.chmod(0o755)
    yield home
    shutil.rmtree(home, ignore_errors=True)


def _shared(name: str, home: Path) -> Iterator[Server]:
    server = started(name, home / "services" / name)
    yield server
    # Its data goes with the home: there is nothing that a clean stop would save.
    server.kill()


@pytest.fixture(scope="session")
def kafka(servers_home) -> Iterator[Server]:
    """Apache Kafka; `address` is its bootstrap server."""
    yield from _shared("kafka", servers_home)


@pytest.fixture(scope="session")
def neo4j(servers_home) -> Iterator[Server]:
    """Neo4j without authentication; `address` is bolt://."""
    yield from _shared("neo4j", servers_home)


@pytest.fixture(scope="session")
def redis(servers_home) -> Iterator[Server]:
    """Redis; `address` is redis://."""
    yield from _shared("redis", servers_home)


@pytest.fixture(scope="session")
def postgres(servers_home) -> Iterator[Server]:
    """PostgreSQL; `address` is postgresql://, and user and password are in `variables`."""
    yield from _shared("postgres", servers_home)


@pytest.fixture
def servers(servers_home) -> Iterator[Callable[[str], Server]]:
    """Starts a server of the test's own by its name, with fresh data; it ends with the test."""
    mine: list[Server] = []

    def start(name: str) -> Server:
        directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=servers_home))
        directory.chmod(0o755)
        server = started(name, directory)
        mine.append(server)
        return server

    yield start
    for server in mine:
        server.kill()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's executable. Without one the tests are skipped, except in CI, which has to have it."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    if own.is_file():
        return str(own)
    missing = "no Chromium here: deploy/chromium.sh installs it"
    if "CI" in os.environ:
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="module")
def browser(chromium) -> Iterator[object]:
    """A Chromium that asks nobody outside."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        yield started
        started.close()
