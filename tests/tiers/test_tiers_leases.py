"""A client that looks at the arena sees what it got, whatever the owner does meanwhile; and what it leaves is free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pyarrow as pa
import pytest

from aura.tiers.budgets import TierBudgets
from aura.tiers.errors import ObjectNotFoundError
from aura.tiers.records import Tier
from aura.tiers.store import open_store

MIB = 1 << 20
BUDGETS = TierBudgets(process_bytes=0, arena_bytes=2 * MIB)
WAIT_SECONDS = 20


@pytest.fixture
def owner(tmp_path):
    with open_store(tmp_path / "s", budgets=BUDGETS) as opened:
        yield opened


@pytest.fixture
def client(owner):
    with open_store(owner.directory, budgets=BUDGETS) as opened:
        yield opened


def weights(number, size=MIB // 2):
    return {"w": np.full(size // 8, number, dtype=np.int64)}


def used(store):
    return {state.tier: state.used_bytes for state in store.tiers()}[Tier.L2]


def wait_until_used(store, expected):
    end = time.monotonic() + WAIT_SECONDS
    while used(store) != expected and time.monotonic() < end:
        time.sleep(0.01)
    assert used(store) == expected


def test_what_a_client_looks_at_stays_as_it_is_while_the_object_is_written_and_moved(owner, client):
    owner.write({f"{number}": weights(number) for number in range(8)})
    owner.move({"0": Tier.L2})
    array = client.get("0")["w"]
    assert not array.flags.writeable
    owner.put("0", weights(100))
    moved = owner.move({f"{number}": Tier.L2 for number in range(8)})
    assert moved.promoted == 2
    assert client.get("0")["w"][0] == 100
    assert (array == 0).all()
    del array
    owner.move({f"{number}": Tier.L3 for number in range(8)})
    wait_until_used(owner, 0)


def test_a_table_is_a_view_too_and_small_objects_and_bytes_are_copies(owner, client):
    table = pa.table({"n": np.arange(30_000)})
    owner.write({"table": table, "small": {"w": np.arange(10)}, "bytes": b"x" * 100_000})
    owner.move(dict.fromkeys(["table", "small", "bytes"], Tier.L2))
    found = client.get_many(["table", "small", "bytes"])
    owner.move(dict.fromkeys(["table", "small", "bytes"], Tier.L3))
    assert 240_000 < used(owner) < 260_000
    owner.write({"other": weights(1, MIB)})
    owner.move({"other": Tier.L2})
    assert found["table"].equals(table)
    assert found["bytes"] == b"x" * 100_000
    np.testing.assert_array_equal(found["small"]["w"], np.arange(10))
    owner.move({"other": Tier.L3})
    del found
    wait_until_used(owner, 0)


def test_a_view_outlives_its_client_and_its_owner(owner):
    owner.write({"0": weights(0), "1": weights(1)})
    owner.move({"0": Tier.L2})
    with open_store(owner.directory, budgets=BUDGETS) as client:
        array = client.get("0")["w"]
    owner.move({"0": Tier.L3})
    owner.move({"1": Tier.L2})
    assert (array == 0).all()
    assert used(owner) > MIB
    owner.close()
    assert (array == 0).all()


def test_the_leases_of_a_client_that_was_killed_end(owner, tmp_path):
    owner.write({"0": weights(0)})
    owner.move({"0": Tier.L2})
    code = """
        import sys, time
        from pathlib import Path
        from aura.tiers.store import join_store
        store = join_store(Path(sys.argv[1]))
        kept = store.get("0")
        print("ready", flush=True)
        time.sleep(600)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), owner.directory], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        owner.move({"0": Tier.L3})
        assert used(owner) > 0
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until_used(owner, 0)


def test_a_forked_child_of_a_client_does_not_end_the_leases_of_its_parent(owner, client):
    owner.write({"0": weights(0), "1": weights(1, MIB + MIB // 2)})
    owner.move({"0": Tier.L2})
    array = client.get("0")["w"]
    child = os.fork()
    if child == 0:
        del array
        os._exit(0)
    os.waitpid(child, 0)
    owner.move({"0": Tier.L3})
    assert used(owner) > 0
    assert (array == 0).all()


def test_a_forked_child_that_reads_takes_no_lease_in_its_parents_name(owner, client):
    owner.write({"0": weights(7)})
    owner.move({"0": Tier.L2})
    child = os.fork()
    if child == 0:
        read = [(client.get("0")["w"] == 7).all() for _ in range(3)]
        os._exit(0 if all(read) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    owner.move({"0": Tier.L3})
    wait_until_used(owner, 0)


def test_damage_in_the_arena_is_noticed_and_its_lease_returned(owner, client):
    owner.write({"0": weights(7)})
    owner.move({"0": Tier.L2})
    owner.fast[Tier.L2]._arena.write(owner.records["0"].slot + 5000, b"damage")
    assert (client.get("0")["w"] == 7).all()
    assert owner.entries()[0].tier is Tier.L3
    wait_until_used(owner, 0)


def test_a_request_that_fails_leaves_no_lease(owner, client):
    owner.write({"0": weights(0), "1": weights(1)})
    owner.move({"0": Tier.L2, "1": Tier.L2})
    with pytest.raises(ObjectNotFoundError, match="'missing'"):
        client.get_many(["0", "1", "missing"])
    owner.write({}, ["0", "1"])
    wait_until_used(owner, 0)


def test_the_leases_of_a_killed_client_end_although_its_child_lives(owner):
    owner.write({"0": weights(0)})
    owner.move({"0": Tier.L2})
    code = """
        import os, sys, time
        from pathlib import Path
        from aura.tiers.store import join_store
        store = join_store(Path(sys.argv[1]))
        kept = store.get("0")
        child = os.fork()
        if child == 0:
            time.sleep(600)
        print(child, flush=True)
        time.sleep(600)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), owner.directory], stdout=subprocess.PIPE, text=True
    ) as process:
        child = int(process.stdout.readline())
        try:
            owner.move({"0": Tier.L3})
            process.kill()
            process.wait()
            wait_until_used(owner, 0)
        finally:
            os.kill(child, signal.SIGKILL)


def test_thousands_of_views_come_and_go(owner, client):
    owner.write({f"{number}": weights(number, 64 << 10) for number in range(16)})
    owner.move({f"{number}": Tier.L2 for number in range(16)})
    kept = []
    for turn in range(2000):
        kept.append((turn % 16, client.get(f"{turn % 16}")["w"]))
        kept = kept[-100:]
    assert all((array == number).all() for number, array in kept)
    del kept
    owner.move({f"{number}": Tier.L3 for number in range(16)})
    wait_until_used(owner, 0)
