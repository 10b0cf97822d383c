"""Memory that runs short is answered by demotion: read from real files, and once with a real limit of the kernel."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch

from aura.tiers.budgets import TierBudgets
from aura.tiers.copies import ProcessTier
from aura.tiers.errors import TierAbsentError
from aura.tiers.pressure import CONTROL_GROUPS, MemoryWatch, Room, rooms
from aura.tiers.records import Tier
from aura.tiers.relief import with_relief
from aura.tiers.store import open_store

MIB = 1 << 20


def version_2(directory, limit, used, cache=0):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "memory.max").write_text(f"{limit}\n")
    (directory / "memory.current").write_text(f"{used}\n")
    (directory / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")


def version_1(directory, limit, used, cache=0):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (directory / "memory.usage_in_bytes").write_text(f"{used}\n")
    (directory / "memory.stat").write_text(f"cache 7\ntotal_inactive_file {cache}\n")


def groups_of(tmp_path, text):
    own = tmp_path / "own"
    own.write_text(text)
    return {room.where: (room.limit_bytes, room.used_bytes) for room in rooms(tmp_path / "groups", own)[1:]}


def test_every_group_with_a_limit_counts_and_cache_that_can_be_dropped_does_not(tmp_path):
    top = tmp_path / "groups"
    version_2(top / "a", "100000", 60000, cache=10000)
    version_2(top / "a" / "b", "max", 50000)
    version_2(top / "a" / "b" / "c", "80000", 40000)
    assert groups_of(tmp_path, "0::/a/b/c\n") == {
        str(top / "a" / "b" / "c"): (80000, 40000),
        str(top / "a"): (100000, 50000),
    }


def test_a_path_of_the_host_that_is_not_mounted_means_the_mount_itself(tmp_path):
    version_1(tmp_path / "groups" / "memory", 100000, 60000, cache=1000)
    text = "9:cpu,cpuacct:/x\n4:memory:/docker/0123\n0::/\n"
    assert groups_of(tmp_path, text) == {str(tmp_path / "groups" / "memory"): (100000, 59000)}


def test_a_limit_above_the_machines_memory_is_none_and_damaged_files_are_left_out(tmp_path):
    version_1(tmp_path / "groups" / "memory", 1 << 62, 60000)
    assert groups_of(tmp_path, "4:memory:/\n") == {}
    (tmp_path / "groups" / "memory" / "memory.usage_in_bytes").write_text("many")
    assert groups_of(tmp_path, "4:memory:/\n") == {}
    assert [room.where for room in rooms(tmp_path, tmp_path / "none")] == ["machine"]


def test_the_machine_itself_is_always_there():
    machine = rooms()[0]
    assert machine.limit_bytes == psutil.virtual_memory().total
    assert 0 < machine.used_bytes < machine.limit_bytes


def test_what_was_taken_counts_until_the_next_look():
    now, used = [0.0], [50]
    watch = MemoryWatch(lambda: [Room("machine", 100, used[0])], clock=lambda: now[0])
    assert watch.admits(30)
    assert watch.admits(10)
    used[0] = 90
    assert not watch.admits(1)
    used[0] = 50
    assert watch.admits(40)
    used[0] = 96
    assert watch.excess().excess_bytes == 6
    used[0] = 94
    assert watch.excess() is None


def test_a_store_that_is_short_of_memory_demotes_what_was_not_read_for_longest_and_takes_it_back_later(tmp_path):
    used = [0]
    with open_store(tmp_path, budgets=TierBudgets(process_bytes=100_000, arena_bytes=0)) as store:
        store.fast[Tier.L1] = ProcessTier(100_000, MemoryWatch(lambda: [Room("group", 200_000, used[0])]))
        store.write({f"{number}": bytes(10_000) for number in range(10)})
        assert store.move({f"{number}": Tier.L1 for number in range(6)}).promoted == 6
        store.pin("0")
        for number in range(6):
            store.get(f"{number}")
        used[0] = 195_000
        store.upkeep.round()
        assert [entry.key for entry in store.entries() if entry.tier is Tier.L1] == ["0", "3", "4", "5"]
        assert store.tiers()[0].capacity_bytes == 40_000
        assert (
            "short of memory" in store.move({"9": Tier.L1}).refused[0][1] or store.tiers()[0].capacity_bytes == 40_000
        )
        assert store.get("1") == bytes(10_000)
        used[0] = 100_000
        store.upkeep.round()
        assert store.tiers()[0].capacity_bytes == 100_000
        assert store.move({"9": Tier.L1}).promoted == 1


@pytest.mark.parametrize("who", ["owner", "client"])
def test_memory_is_given_back_when_it_is_asked_for(tmp_path, who):
    budgets = TierBudgets(device_bytes=64 << 10, process_bytes=64 << 10, arena_bytes=0)
    with (
        open_store(tmp_path, budgets=budgets, device="cpu") as owner,
        open_store(tmp_path, budgets=budgets, device="cpu") as client,
    ):
        store = owner if who == "owner" else client
        store.write({f"{number}": bytes([number]) * 10_000 for number in range(10)})
        store.move({f"{number}": Tier.L0 if number < 5 else Tier.L1 for number in range(10)})
        assert store.relieve(Tier.L1, 15_000) == 20_000
        assert store.relieve(Tier.L0, 1) == 32 << 10
        for number in range(10):
            assert store.get(f"{number}") == bytes([number]) * 10_000
        device, process, _ = store.tiers()
        assert device.capacity_bytes == 32 << 10
        assert device.used_bytes <= device.capacity_bytes
        assert process.used_bytes <= 30_000
        assert store.relieve(Tier.L0, 1 << 30) == 32 << 10
        assert "does not fit into L0" in store.move({"0": Tier.L0}).refused[0][1]
        with pytest.raises(TierAbsentError, match="L2"):
            store.relieve(Tier.L2, 1)


def test_a_device_with_less_memory_than_the_budget_gets_a_smaller_slab(tmp_path, caplog):
    with open_store(tmp_path, budgets=TierBudgets(device_bytes=1 << 50, arena_bytes=0), device="cpu") as store:
        state = store.tiers()[0]
        assert state.tier is Tier.L0
        assert (1 << 50) % state.capacity_bytes == 0
    assert f"L0 has {state.capacity_bytes} bytes instead of {1 << 50}" in caplog.text


def real_group(name):
    """A control group with a limit, or why there is none."""
    for top, limit in ((CONTROL_GROUPS / "memory", "memory.limit_in_bytes"), (CONTROL_GROUPS, "memory.max")):
        group = top / name
        with suppress(OSError):
            group.mkdir()
            if (group / limit).exists():
                return group, group / limit
            group.rmdir()
    return None, None


@pytest.mark.slow
def test_the_kernel_does_not_kill_an_owner_whose_budget_is_larger_than_its_control_group(tmp_path):
    group, limit = real_group(f"aura-test-{os.getpid()}")
    if group is None:
        pytest.skip("this account may not make a control group for memory")
    code = """
        import os, sys
        from pathlib import Path
        import numpy as np
        from aura.tiers.budgets import TierBudgets
        from aura.tiers.records import Tier
        from aura.tiers.store import open_store
        Path(sys.argv[2], "cgroup.procs").write_text(str(os.getpid()))
        with open_store(Path(sys.argv[1]), budgets=TierBudgets(process_bytes=4 << 30, arena_bytes=0)) as store:
            content = np.random.default_rng(0).bytes(4 << 20)
            for number in range(128):
                store.put(f"{number}", content)
            moved = store.move({f"{number}": Tier.L1 for number in range(128)})
            assert moved.promoted > 10, moved
            assert "short of memory" in moved.refused[0][1], moved
            ballast = []
            for _ in range(50):
                ballast.append(b"x" * (2 << 20))
                store.upkeep.round()
            assert all(store.get(f"{number}") == content for number in range(128))
            held = store.tiers()[0]
            print(moved.promoted, held.objects)
    """
    try:
        limit.write_text(str(400 * MIB))
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), tmp_path / "s", group],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
        before, after = map(int, done.stdout.split())
        assert after < before
    finally:
        Path(group).rmdir()


def test_work_that_runs_out_of_device_memory_is_tried_again_with_what_the_store_gives_back(tmp_path):
    budgets = TierBudgets(device_bytes=64 << 10, process_bytes=0, arena_bytes=0)
    with open_store(tmp_path, budgets=budgets, device="cpu") as store:
        store.write({"a": bytes(20_000), "b": bytes(20_000)})
        store.move({"a": Tier.L0, "b": Tier.L0})

        def needs(most):
            if store.tiers()[0].capacity_bytes > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return "done"

        assert with_relief(store, lambda: needs(20_000)) == "done"
        assert store.tiers()[0].capacity_bytes == 16 << 10
        assert store.get_many(["a", "b"]) == {"a": bytes(20_000), "b": bytes(20_000)}
        with pytest.raises(torch.OutOfMemoryError):
            with_relief(store, lambda: needs(-1))
        assert store.tiers()[0].capacity_bytes == 0
