"""The commands `aura tiers`: what they print, what they refuse, and all of them on a served store."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from aura.cli import app
from aura.settings import load_settings
from aura.tiers.errors import (
    CorruptStoreError,
    ObjectNotFoundError,
    StorageError,
    StoreError,
    StoreUnavailableError,
)
from aura.tiers.opening import open_configured_store
from aura.tiers.records import Tier

AURA = Path(sys.executable).with_name("aura")
OBJECTS = {"a": b"1" * 1000, "a/1": b"2" * 2000, "b": b"3" * 3000, "big": b"4" * 100_000}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with small tiers; the store in it holds nothing yet."""
    for name, value in {
        "AURA_HOME": tmp_path / "home",
        "AURA_TIERS__PROCESS_BYTES": 1 << 14,
        "AURA_TIERS__ARENA_BYTES": 1 << 16,
        "AURA_TIERS__TIMEOUT_SECONDS": 10,
        "COLUMNS": 160,
    }.items():
        monkeypatch.setenv(name, str(value))
    # The one of the module took its width when it was imported.
    monkeypatch.setattr("aura.tiers.cli.console", Console(width=160))
    return tmp_path


@pytest.fixture
def store(home):
    """The open store of that home with some objects."""
    with open_configured_store(load_settings()) as opened:
        opened.write(OBJECTS)
        yield opened


def run(*arguments, code=0):
    """What `aura tiers` printed; it has to end with this exit code."""
    done = CliRunner().invoke(app, ["tiers", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def rows(output):
    return [json.loads(line) for line in output.splitlines()]


def test_stat_prints_what_each_tier_holds(store):
    store.move({"a": Tier.L1, "a/1": Tier.L2})
    store.get_many(["a/1", "b", "b"])
    table = run("stat")
    assert re.search(r"L1 .*process memory .*│ 1 +│ 0\.0 +│ 0\.0 ", table)
    assert re.search(r"L3 .*RocksDB .*│ 4 +│ 0\.1 +│ disk ", table)
    assert "The warm pool is in shared memory" in table
    found = {row["tier"]: row for row in rows(run("stat", "--json")) if "tier" in row}
    assert set(found) == {"L1", "L2", "L3"}
    assert found["L2"]["memory"].startswith("shared memory")
    assert (found["L1"]["capacity_bytes"], found["L1"]["used_bytes"]) == (1 << 14, 1000)
    assert found["L3"]["objects"] == 4
    assert found["L3"]["gets"] == 2
    assert found["L3"]["mean_get_seconds"] == pytest.approx(found["L3"]["get_seconds"] / 2)


def test_stat_and_move_need_an_owner(home):
    for command in (["stat"], ["move", "a", "L1"]):
        with pytest.raises(StoreUnavailableError, match=r"no owner that answers.*`aura tiers serve`"):
            run(*command)


def test_what_needs_a_store_says_that_there_is_none(home):
    for command in (["ls"], ["verify"], ["backup", home / "b"]):
        with pytest.raises(StorageError, match=r"There is no store yet.*make demo"):
            run(*command)


def test_ls_lists_by_prefix_and_tier(store):
    store.move({"b": Tier.L1})
    assert re.search(r"big +│ bytes │ 97\.7 +│ L3", run("ls"))
    assert "4 objects, 0.1 MiB" in run("ls")
    assert [row["key"] for row in rows(run("ls", "a", "--json"))] == ["a", "a/1"]
    assert [row["key"] for row in rows(run("ls", "--tier", "l1", "--json"))] == ["b"]
    assert "0 objects" in run("ls", "nothing")
    store.pin("b", Tier.L1)
    assert "L1, pinned" in run("ls", "b")


def test_ls_works_without_an_owner(store):
    store.close()
    assert len(rows(run("ls", "--json"))) == 4


def test_move_takes_a_key_or_a_prefix(store):
    assert "1 promoted, 0 demoted" in run("move", "a", "L1")
    assert {entry.key: entry.tier for entry in store.entries()}["a/1"] == Tier.L3
    assert json.loads(run("move", "a/", "L2", "--json"))["promoted"] == 1
    assert json.loads(run("move", "", "L3", "--json"))["demoted"] == 2
    with pytest.raises(ObjectNotFoundError, match=r"'c'.*aura tiers ls"):
        run("move", "c", "L1")


def test_move_prints_what_was_refused_and_fails_if_that_is_all(store):
    said = run("move", "big", "L1", code=1)
    assert "0 promoted" in said
    assert re.search(r"big stays: \S+", said)
    assert "big stays" in run("move", "b", "L0", code=1).replace("b stays", "big stays")
    part = run("move", "b", "L1")
    assert "1 promoted" in part
    refused = json.loads(run("move", "", "L1", "--json"))["refused"]
    assert [key for key, _ in refused] == ["big"]


def test_a_tier_that_does_not_exist_is_a_mistake_in_the_command(store):
    assert "L9" in run("move", "a", "L9", code=2)


def test_verify_lists_every_corrupt_object_and_the_remedy(store):
    assert "4 objects, 0.1 MiB as they were written, none corrupt" in run("verify")
    store.disk._payloads.put(b"a/1", b"changed")
    store.disk._payloads.put(b"b", b"changed")
    said = run("verify", code=1)
    assert re.search(r"a/1: .*'a/1' is corrupt.*Write it again", said)
    assert re.search(r"b: .*'b' is corrupt.*Write it again", said)
    assert "2 objects, 0.1 MiB as they were written, 2 corrupt" in said
    found = json.loads(run("verify", "--json", code=1))
    assert [each["key"] for each in found["corrupt"]] == ["a/1", "b"]


def test_backup_verify_and_restore(store, home):
    said = run("backup", home / "backup")
    assert re.search(r"Backed up: 4 objects, 0\.1 MiB, all verified; [\d.]+ MiB of files in [\d.]+ s\. .*backup", said)
    assert "none corrupt" in run("verify", home / "backup")
    with pytest.raises(StoreError, match="it exists"):
        run("backup", home / "backup")
    with pytest.raises(StoreUnavailableError, match="has an owner"):
        run("restore", home / "backup")
    store.put("later", b"5")
    store.close()
    with pytest.raises(StoreError, match=r"not empty.*--replace"):
        run("restore", home / "backup")
    report = json.loads(run("restore", home / "backup", "--replace", "--json"))
    assert report["manifest"]["objects"] == 4
    assert [row["key"] for row in rows(run("ls", "--json"))] == sorted(OBJECTS)


def test_a_damaged_backup_is_an_error_in_a_sentence(store, home):
    run("backup", home / "backup")
    current = home / "backup" / "rocksdb" / "CURRENT"
    current.write_text("MANIFEST-999999\n")
    with pytest.raises((CorruptStoreError, StorageError)) as caught:
        run("verify", home / "backup")
    assert str(home / "backup") in str(caught.value)


@pytest.mark.slow
def test_every_command_on_a_served_store(home):
    """A real owner process, and every command as a process of its own."""

    def aura(*arguments, code=0):
        done = subprocess.run([AURA, "tiers", *map(str, arguments)], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    with subprocess.Popen(
        [AURA, "tiers", "serve"], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as server:
        try:
            assert "Serving" in server.stdout.readline()
            with open_configured_store(load_settings()) as client:
                client.write(OBJECTS)
                client.get("b")
            assert "1 promoted" in aura("move", "b", "L1")
            *tiers, online = rows(aura("stat", "--json"))
            assert {row["tier"]: row["objects"] for row in tiers}["L1"] == 1
            assert online["online"]["following"] == "lru"
            assert [row["key"] for row in rows(aura("ls", "--tier", "L1", "--json"))] == ["b"]
            assert "none corrupt" in aura("verify")
            assert "4 objects" in aura("backup", home / "backup")
            assert "has an owner" in aura("restore", home / "backup", "--replace", code=1)
        finally:
            server.send_signal(signal.SIGTERM)
    assert server.returncode == 0
    assert "not empty" in aura("restore", home / "backup", code=1)
    assert "4 objects" in aura("restore", home / "backup", "--replace")
    assert "no owner that answers" in aura("stat", code=1)
    with open_configured_store(load_settings()) as again:
        assert again.get_many(OBJECTS) == OBJECTS
