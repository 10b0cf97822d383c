"""The slab of L0 keeps what it was given, over more than one staging buffer, from several threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from aura.tiers.budgets import TierBudgets
from aura.tiers.device import STAGING_BYTES, DeviceSlab
from aura.tiers.errors import CapacityError, TierAbsentError
from aura.tiers.records import Tier
from aura.tiers.store import open_store

CUDA = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")],
)


@pytest.fixture(params=["cpu", CUDA])
def slab(request):
    opened = DeviceSlab(request.param, 4 * STAGING_BYTES)
    yield opened
    opened.close()


@pytest.mark.parametrize("length", [0, 1, STAGING_BYTES - 1, STAGING_BYTES, STAGING_BYTES + 1, 3 * STAGING_BYTES + 7])
def test_what_was_written_is_read(slab, length):
    content = np.random.default_rng(length).bytes(length)
    slab.write(64, content)
    back = slab.read(64, length)
    assert bytes(back) == content
    assert back.readonly


def test_neighbours_are_left_alone(slab):
    slab.write(0, b"a" * 100)
    slab.write(200, b"c" * 100)
    slab.write(100, b"b" * 100)
    assert bytes(slab.read(0, 300)) == b"a" * 100 + b"b" * 100 + b"c" * 100


def test_threads_do_not_mix_their_bytes(slab):
    def work(number: int) -> None:
        start = number * STAGING_BYTES
        for turn in range(10):
            content = bytes([16 * number + turn]) * (STAGING_BYTES - turn)
            slab.write(start, content)
            if bytes(slab.read(start, len(content))) != content:
                mixed.append((number, turn))

    mixed: list[tuple[int, int]] = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mixed == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_objects_live_on_the_gpu(tmp_path):
    with open_store(tmp_path, budgets=TierBudgets(device_bytes=64 << 20)) as store:
        array = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
        store.put("w", {"w": array})
        assert store.move({"w": Tier.L0}).promoted == 1
        np.testing.assert_array_equal(store.get("w")["w"], array)
        assert store.tiers()[0].tier == Tier.L0


def test_an_unknown_device_is_refused():
    with pytest.raises(TierAbsentError, match="'warp-drive'"):
        DeviceSlab("warp-drive", 1 << 20)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_missing_is_refused_with_the_remedy():
    with pytest.raises(TierAbsentError, match="torch finds no CUDA device"):
        DeviceSlab("cuda", 1 << 20)


def test_a_slab_larger_than_the_memory_is_refused(slab):
    with pytest.raises(CapacityError, match="Lower device_bytes"):
        DeviceSlab(str(slab.device), 1 << 50)
