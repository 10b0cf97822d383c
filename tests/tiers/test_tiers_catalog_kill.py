"""A publisher that is killed at any moment leaves the old value or the new one, whole."""

import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pyarrow as pa
import pytest

from aura.tiers.budgets import TierBudgets
from aura.tiers.catalog import Catalog
from aura.tiers.planning.profile import COSTS, SAMPLES, SKIPPED, TierProfile
from aura.tiers.store import open_store

BUDGETS = TierBudgets(process_bytes=1 << 20, arena_bytes=1 << 20)

PUBLISHER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_tiers_catalog_kill import BUDGETS, versioned
from aura.tiers.catalog import Catalog
from aura.tiers.store import open_store
with open_store(Path({directory!r}), budgets=BUDGETS) as store:
    catalog = Catalog(store)
    for number in range({first}, 10**9):
        catalog.publish("versioned", versioned(number), partition="p", provenance={{"number": str(number)}})
        print(number, flush=True)
"""


def versioned(number):
    """A value of a type of the package with its number in all of its parts."""
    rows = 20_000
    samples = {name: np.full(rows, number) for name in SAMPLES.names[3:]}
    samples |= {name: [str(number)] * rows for name in SAMPLES.names[:3]}
    skipped = {name: [str(number)] for name in SKIPPED.names if name != "bytes"} | {"bytes": [number]}
    return TierProfile(
        COSTS.empty_table(),
        pa.table(samples, schema=SAMPLES),
        pa.table(skipped, schema=SKIPPED),
        machine=str(number),
        rounds=number,
        seed=number,
    )


def numbers_of(value):
    return {value.rounds, *value.samples["bytes"].unique().to_pylist(), *value.skipped["bytes"].to_pylist()}


def publish_until_killed(directory, tests, first, wait_seconds):
    """Publish in another process until it is killed; return the last number that it acknowledged."""
    code = textwrap.dedent(PUBLISHER).format(tests=tests, directory=str(directory), first=first)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        acknowledged = int(process.stdout.readline())
        time.sleep(wait_seconds)
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
    return int(rest[-1]) if rest else acknowledged


def read_whole(store):
    """The number of the published value, after checking that it is whole and that sweeping leaves only its blocks."""
    catalog = Catalog(store)
    value, published = catalog.load("versioned", "p"), catalog.find("versioned", "p")
    assert numbers_of(value) == {value.rounds}
    assert published.provenance == {"number": str(value.rounds)}
    catalog.sweep()
    assert {entry.key for entry in store.entries("values/")} == set(published.keys)
    return value.rounds


def kill_repeatedly(directory, tests, times, seed):
    random_wait = random.Random(seed)
    first = 0
    for _ in range(times):
        acknowledged = publish_until_killed(directory, tests, first, random_wait.uniform(0, 0.15))
        with open_store(directory, budgets=BUDGETS) as store:
            found = read_whole(store)
        assert acknowledged <= found <= acknowledged + 1
        first = found + 1


def test_a_killed_owner_that_published_loses_nothing_acknowledged_and_mixes_nothing(tmp_path, request):
    kill_repeatedly(tmp_path / "store", str(request.path.parent), times=2, seed=1)


@pytest.mark.slow
def test_ten_killed_owners_lose_nothing_acknowledged_and_mix_nothing(tmp_path, request):
    kill_repeatedly(tmp_path / "store", str(request.path.parent), times=10, seed=2)


def test_a_killed_client_leaves_its_owner_a_whole_value_and_no_lock(tmp_path, request):
    with open_store(tmp_path / "store", budgets=BUDGETS) as store:
        acknowledged = publish_until_killed(tmp_path / "store", str(request.path.parent), 0, 0.05)
        assert read_whole(store) >= acknowledged
        Catalog(store).publish("versioned", versioned(99), partition="p", provenance={"number": "99"})
        assert read_whole(store) == 99
