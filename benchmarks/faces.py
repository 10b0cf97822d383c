"""What looking costs: CPU time of the dashboard and of `aura top`, and how long it takes to say that something is down.

A home is materialized from docstrings of the standard library, its store's owner and the dashboard run as processes of
their own, the visitor is a real Chromium. Shares are of one core, in CPU time of the looking process alone.

    python benchmarks/faces.py [--seconds N] [--home DIR] [--json]
"""

from __future__ import annotations

import argparse
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import psutil
from report import PROJECT, Figure, as_json, figure, table, tell

from aura.corpus.python_docs import Module, documents

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BIN = Path(sys.executable).parent
LABELS = ("ipaddress", "statistics", "tarfile")
"""Modules whose docstrings are the corpus."""

PAGES = ("", "corpus", "topology", "experts", "tiers", "events", "system")
IDLE_GOAL, LIVE_GOAL, TOP_GOAL = 0.02, 0.10, 0.02
PANEL_GOAL_SECONDS = 1.0
SETTLE_SECONDS = 20.0


def materialized(directory: Path) -> Path:
    """A home with a small real corpus, taken through the whole graph."""
    for label in LABELS:
        module = import_module(label)
        folder = directory / "texts" / label
        folder.mkdir(parents=True)
        for number, row in enumerate(documents(Module(label, Path(str(module.__file__))))[:40]):
            (folder / f"{number:02d}.txt").write_text(row.text, encoding="utf-8")
    home = directory / "home"
    command = [sys.executable, "-m", "aura_assets.demo", "--source", str(directory / "texts")]
    subprocess.run(command, cwd=PROJECT, env=environment(home), stdout=sys.stderr, check=True)
    return home


def environment(home: Path) -> dict[str, str]:
    """Of a process that works on the home."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AURA_")}
    return {**inherited, "AURA_HOME": str(home), "PYTHONUNBUFFERED": "1"}


@contextmanager
def running(command: list[str], home: Path) -> Iterator[psutil.Process]:
    """A process that is ended at the end."""
    process = subprocess.Popen(
        command, cwd=PROJECT, env=environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def visited(home: Path) -> Iterator[tuple[psutil.Process, Browser, str]]:
    """A dashboard, the browser of its visitors, and its address."""
    from playwright.sync_api import sync_playwright

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [str(BIN / "streamlit"), "run", "app/main.py", "--server.port", str(port)]
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with running(command, home) as process, sync_playwright() as playwright:
        wait_for(f"{address}/_stcore/health")
        with playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]) as browser:
            yield process, browser, address


def share(process: psutil.Process, seconds: float) -> float:
    """CPU seconds that a process takes in a while, over the while."""

    def used() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    before, started = used(), time.monotonic()
    time.sleep(seconds)
    return (used() - before) / (time.monotonic() - started)


def dashboard_figures(home: Path, seconds: float) -> list[Figure]:
    """The dashboard without a visitor, and with one on each page."""
    with running([str(BIN / "aura"), "tiers", "serve"], home), visited(home) as (process, browser, address):
        live = {}
        for name in PAGES:
            page = browser.new_page()
            page.goto(f"{address}/{name}")
            page.locator(".au-note").first.wait_for(timeout=120_000)
            page.wait_for_timeout(SETTLE_SECONDS * 1000)
            tell(f"a visitor on /{name}")
            live[name] = share(process, seconds)
            page.close()
        time.sleep(SETTLE_SECONDS)
        tell("no visitor")
        idle = share(process, seconds)
    return [
        figure("dashboard without a visitor", [idle], "of a core", goal=IDLE_GOAL),
        *(
            figure(f"dashboard with a visitor on {name or 'overview'}", [value], "of a core", goal=LIVE_GOAL)
            for name, value in live.items()
        ),
    ]


def absence_figure(home: Path) -> Figure:
    """How long a visitor waits for the panel with the remedy while the store has no owner."""
    with visited(home) as (_, browser, address):
        # The first visit imports what the others find imported.
        waits = [panel_seconds(browser, address, "The memory tiers are not known") for _ in range(4)][1:]
    return figure("from the head of a page to the remedy of a store that is down", waits, "s", goal=PANEL_GOAL_SECONDS)


def hanging_figure(home: Path) -> Figure:
    """The same while the owner is there and does not answer, each time of a dashboard that has just lost it."""
    waits = []
    with running([str(BIN / "aura"), "tiers", "serve"], home) as owner, visited(home) as (_, browser, address):
        for _ in range(3):
            page = browser.new_page()
            page.goto(f"{address}/tiers")
            page.locator("[data-tier=L3]").wait_for(timeout=120_000)
            page.close()
            owner.suspend()
            try:
                waits.append(panel_seconds(browser, address, f"Reading {home / 'store'}"))
            finally:
                owner.resume()
    return figure("from the head of a page to the remedy of a store that hangs", waits, "s", goal=PANEL_GOAL_SECONDS)


def panel_seconds(browser: Browser, address: str, said: str) -> float:
    """From the head of the page of the tiers to the first panel that says this."""
    page = browser.new_page()
    page.goto(f"{address}/tiers")
    page.get_by_text("AURA", exact=True).first.wait_for(timeout=120_000)
    started = time.monotonic()
    page.locator(".au-remedy", has_text=said).first.wait_for(timeout=120_000)
    waited = time.monotonic() - started
    page.close()
    return waited


def top_figure(home: Path, seconds: float) -> Figure:
    """`aura top` at one look a second in a terminal of its own."""
    with running([str(BIN / "aura"), "tiers", "serve"], home):
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(PROJECT)
            os.execve(BIN / "aura", ["aura", "top", "--interval", "1"], {**environment(home), "TERM": "xterm-256color"})
        try:
            threading.Thread(target=drain, args=(terminal,), daemon=True).start()
            time.sleep(2 * SETTLE_SECONDS)
            tell("aura top")
            value = share(psutil.Process(pid), seconds)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return figure("aura top at one look a second", [value], "of a core", goal=TOP_GOAL)


def drain(terminal: int) -> None:
    """Read what a terminal shows until it is closed."""
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        return


def wait_for(address: str) -> None:
    """Wait until a server answers."""
    for _ in range(600):
        try:
            with urlopen(address, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise SystemExit(f"{address} did not answer within two minutes")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each is watched")
    parser.add_argument("--home", type=Path, help="a home that is materialized; by default one is made")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aura-benchmark-") as directory:
        home = chosen.home or materialized(Path(directory))
        figures = [
            *dashboard_figures(home, chosen.seconds),
            absence_figure(home),
            hanging_figure(home),
            top_figure(home, chosen.seconds),
        ]
    if chosen.json:
        as_json("faces", figures)
    else:
        table(figures)


if __name__ == "__main__":
    main()
