"""Whoever is killed in a backup or a restore leaves what was there or what was to be, and never a mixture."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys

import pytest
from test_tiers_backup import filled, opened, read_all, some_objects

from aura.tiers.backup import ASIDE, CHECKPOINT, back_up, restore, verify_backup

KILLED = """
import os, signal, sys
from pathlib import Path
from aura.tiers import backup
from aura.tiers.budgets import TierBudgets
from aura.tiers.store import open_store

STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "ctypes.dlsym"}

def die_at(step):
    seen = 0
    def watch(event, arguments):
        nonlocal seen
        if event in STEPS:
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)

for line in sys.stdin:
    action, source, target, step = line.split()
    child = os.fork()
    if child == 0:
        if action == "restore":
            die_at(int(step))
            backup.restore(Path(source), Path(target), replace=True)
        else:
            with open_store(Path(source), budgets=TierBudgets(arena_bytes=0)) as store:
                die_at(int(step))
                backup.back_up(store, Path(target))
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""
"""Runs an action in a child per line, which is killed just before its n-th step on the file system; prints how it
ended."""


@pytest.fixture
def killed():
    """Runs an action that is killed at a step; whether it was."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def run(action, source, target, step):
            process.stdin.write(f"{action} {source} {target} {step}\n")
            process.stdin.flush()
            ended = int(process.stdout.readline())
            assert ended in (0, signal.SIGKILL)
            return ended != 0

        yield run
        process.stdin.close()


def test_a_restore_that_is_killed_at_any_step_leaves_the_old_store_or_the_new_one(tmp_path, killed):
    old, new = some_objects(12), some_objects(13, count=50)
    filled(tmp_path / "old", old)
    with opened(tmp_path / "t") as store:
        store.write(new)
        back_up(store, tmp_path / "b")
    found = []
    for step in range(1, 200):
        shutil.rmtree(tmp_path / "s", ignore_errors=True)
        shutil.copytree(tmp_path / "old", tmp_path / "s")
        if not killed("restore", tmp_path / "b", tmp_path / "s", step):
            break
        content = read_all(tmp_path / "s")
        assert content in (old, new)
        found.append(content == new)
        if step % 4 == 0:
            restore(tmp_path / "b", tmp_path / "s", replace=True)
            assert read_all(tmp_path / "s") == new
            assert not list((tmp_path / "s").glob(f"{ASIDE}*"))
    assert found == sorted(found)
    assert set(found) == {False, True}


def test_a_restore_into_nothing_that_is_killed_leaves_nothing_or_everything(tmp_path, killed):
    objects = some_objects(14)
    with opened(tmp_path / "t") as store:
        store.write(objects)
        back_up(store, tmp_path / "b")
    found = []
    for step in range(1, 200, 3):
        shutil.rmtree(tmp_path / "s", ignore_errors=True)
        if not killed("restore", tmp_path / "b", tmp_path / "s", step):
            break
        found.append(read_all(tmp_path / "s"))
        assert found[-1] in ({}, objects)
    assert {} in found


def test_a_backup_that_is_killed_leaves_a_whole_one_or_none_and_the_next_one_succeeds(tmp_path, killed):
    objects = some_objects(15)
    filled(tmp_path / "s", objects)
    steps = 0
    for step in range(1, 200, 2):
        shutil.rmtree(tmp_path / "b", ignore_errors=True)
        if not killed("backup", tmp_path / "s", tmp_path / "b", step):
            break
        steps += 1
        if (tmp_path / "b").exists():
            assert verify_backup(tmp_path / "b").objects == len(objects)
        else:
            with opened(tmp_path / "s") as store:
                back_up(store, tmp_path / "b")
        assert not (tmp_path / "b.partial").exists()
    assert steps > 10
    assert not (tmp_path / "s" / CHECKPOINT).exists()
    assert read_all(tmp_path / "s") == objects
