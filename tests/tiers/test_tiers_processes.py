"""Owners are killed, clients take over, children fork: nothing acknowledged is lost, nothing stale is read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from aura.tiers.arena import SHARED_MEMORY
from aura.tiers.budgets import TierBudgets
from aura.tiers.errors import StorageError, StoreClosedError, StoreUnavailableError
from aura.tiers.local import LocalStore
from aura.tiers.owner import read_address, socket_path
from aura.tiers.records import Tier
from aura.tiers.store import open_store

SCRIPT = Path(__file__).with_name("store_process.py")
SMALL = TierBudgets(process_bytes=1 << 16, arena_bytes=1 << 16)


def start(action: str, directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, SCRIPT, action, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def kill(process: subprocess.Popen[str]) -> str:
    process.kill()
    rest, _ = process.communicate()
    return rest


def _name(directory: Path) -> str:
    address = read_address(directory)
    return Path(address.socket).stem


def test_a_client_takes_over_when_the_owner_is_killed(tmp_path):
    process = start("own", tmp_path)
    assert process.stdout.readline() == "ready\n"
    with (
        open_store(tmp_path, budgets=SMALL, timeout_seconds=20) as first,
        open_store(tmp_path, budgets=SMALL, timeout_seconds=20) as second,
    ):
        first.put("mine", b"before")
        second.move({"mine": Tier.L2, "from-owner": Tier.L1})
        assert first.get("mine") == b"before"
        kill(process)
        assert first.get("from-owner") == b"owner"
        assert first.owns
        assert second.get("mine") == b"before"
        assert not second.owns
        second.put("mine", b"after")
        assert first.get("mine") == b"after"
        first.close()
        assert second.get("mine") == b"after"
        assert second.owns
        assert {each.tier for each in second.tiers()} == {Tier.L1, Tier.L2, Tier.L3}


def test_a_client_that_finds_a_reused_slot_reads_again_through_the_owner(tmp_path):
    with open_store(tmp_path, budgets=SMALL) as owner, open_store(tmp_path, budgets=SMALL) as client:
        owner.put("k", b"right" * 100)
        owner.move({"k": Tier.L2})
        assert client.get("k") == b"right" * 100
        owner.fast[Tier.L2]._arena.write(owner.records["k"].slot, b"wrong" * 100)
        assert client.get("k") == b"right" * 100
        assert owner.entries()[0].tier == Tier.L3
        assert len(owner.access_log().ids) == 2


def test_the_access_log_and_the_ids_survive_a_restart(tmp_path):
    with open_store(tmp_path, budgets=SMALL) as store:
        store.write({"a": b"1", "b": b"2"})
        store.get_many(["b", "a", "b"])
        ids = {entry.key: entry.id for entry in store.entries()}
        store.delete("b")
    with open_store(tmp_path, budgets=SMALL) as store:
        store.put("c", b"3")
        assert {entry.key: entry.id for entry in store.entries()}["a"] == ids["a"]
        assert store.entries("c")[0].id not in ids.values()
        access = store.access_log()
        assert access.ids.tolist() == [ids["b"], ids["a"], ids["b"]]
        assert access.keys[ids["b"]] == ""


def test_a_forked_child_cannot_use_the_parents_store_nor_keep_its_lock(tmp_path):
    with open_store(tmp_path, budgets=SMALL) as store:
        store.put("k", b"v")
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read_end)
            try:
                store.get("k")
            except StoreClosedError:
                os.write(write_end, b"closed")
            os.close(write_end)
            time.sleep(60)
            os._exit(0)
        os.close(write_end)
        assert os.read(read_end, 10) == b"closed"
        os.close(read_end)
        assert store.get("k") == b"v"
    try:
        with open_store(tmp_path, budgets=SMALL, timeout_seconds=2) as again:
            assert isinstance(again, LocalStore)
            assert again.get("k") == b"v"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_an_owner_that_does_not_answer_is_reported(tmp_path):
    process = start("own", tmp_path)
    assert process.stdout.readline() == "ready\n"
    with open_store(tmp_path, budgets=SMALL, timeout_seconds=0.5) as client:
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        try:
            with pytest.raises(StoreUnavailableError, match=r"'get' in 0.5 seconds.*timeout_seconds"):
                client.get("from-owner")
        finally:
            process.send_signal(signal.SIGCONT)
        assert client.get("from-owner") == b"owner"
    process.communicate()
    assert process.returncode == 0


def test_a_process_that_ends_without_closing_leaves_no_shared_memory(tmp_path):
    code = """
        import sys
        from pathlib import Path
        from aura.tiers.budgets import TierBudgets
        from aura.tiers.store import open_store
        store = open_store(Path(sys.argv[1]), budgets=TierBudgets(arena_bytes=1 << 16))
        store.put("k", b"v")
        store.get("k")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), tmp_path], check=True)
    assert not list(SHARED_MEMORY.glob(f"aura-{_name(tmp_path)}-*"))
    with open_store(tmp_path, budgets=SMALL) as store:
        assert len(store.access_log().ids) == 1


def test_a_damaged_address_is_written_anew(tmp_path):
    (tmp_path / "owner.json").write_text("{")
    with open_store(tmp_path, budgets=SMALL) as owner, open_store(tmp_path, budgets=SMALL, timeout_seconds=5) as client:
        owner.put("k", b"v")
        assert client.get("k") == b"v"


def test_the_socket_is_private_and_its_path_short(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    with open_store(deep, budgets=SMALL):
        address = Path(read_address(deep).socket)
        assert len(str(address)) < 108
        assert address.stat().st_mode & 0o777 == 0o600
        assert address.parent.stat().st_mode & 0o777 == 0o700
    assert not address.exists()
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    with pytest.raises(StorageError, match="Set XDG_RUNTIME_DIR to a short path"):
        socket_path("name")
