"""Owners are killed at random points, two hundred times: nothing acknowledged is lost, nothing wrong is read."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from killed_process import BUDGETS, batch

from aura.tiers.arena import SHARED_MEMORY
from aura.tiers.owner import read_address
from aura.tiers.records import Tier
from aura.tiers.store import open_store

KILLS = 200
LONGEST_SECONDS = 0.06
WHILE_OPENING = 0.25
"""Share of the writers that are killed as long after their start; the others as long after their first batch."""


class Writers:
    """Starts writers one after the other and kills them."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("killed_process.py")
        self.process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def killed(self, directory, first, seed, *, while_opening, seconds):
        """The number of the last batch that was acknowledged, first - 1 if none was."""
        self.process.stdin.write(f"{directory} {first} {seed}\n")
        self.process.stdin.flush()
        acknowledged, writer = first - 1, None
        while writer is None or (acknowledged < first and not while_opening):
            word, _, number = self.process.stdout.readline().partition(" ")
            if word == "writer":
                writer = int(number)
            else:
                acknowledged = int(word)
        time.sleep(seconds)
        os.kill(writer, signal.SIGKILL)
        for line in iter(self.process.stdout.readline, "ended\n"):
            acknowledged = int(line)
        return acknowledged

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)


@pytest.fixture
def writers():
    running = Writers()
    yield running
    running.close()


def applied(model, number):
    """The model after one more batch."""
    puts, gone = batch(number)
    after = model | puts
    for key in gone:
        after.pop(key, None)
    return after


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_and_nothing_wrong_is_read_in_two_hundred_kills(tmp_path, writers):
    rng = np.random.default_rng(0)
    model, following, idle = {}, 0, 0
    for turn in range(KILLS):
        acknowledged = writers.killed(
            tmp_path / "s",
            following,
            turn,
            while_opening=rng.random() < WHILE_OPENING,
            seconds=rng.uniform(0, LONGEST_SECONDS),
        )
        idle += acknowledged < following
        while following <= acknowledged:
            model = applied(model, following)
            following += 1
        in_flight = applied(model, following)
        with open_store(tmp_path / "s", budgets=BUDGETS) as store:
            found = {entry.key: store.get(entry.key) for entry in store.entries()}
            assert {entry.tier for entry in store.entries()} <= {Tier.L3}
            if found != model:
                assert found == in_flight
                model, following = in_flight, following + 1
        for checkpoint in tmp_path.glob("checkpoint-*[0-9]"):
            with open_store(checkpoint, budgets=BUDGETS) as store:
                assert all(store.get(entry.key) is not None for entry in store.entries())
            shutil.rmtree(checkpoint)
    assert following > KILLS
    assert idle < KILLS / 2
    name = Path(read_address(tmp_path / "s").socket).stem
    assert not list(SHARED_MEMORY.glob(f"aura-{name}-*"))
