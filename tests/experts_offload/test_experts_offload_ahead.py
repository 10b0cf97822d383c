"""The loader fetches what is needed first and never twice; the way that takes least time is the one that is used."""

from __future__ import annotations

import logging
import threading

from aura.experts.offload.ahead import BLOCK, EXPLORE_EVERY, FEWEST_BLOCKS, Loader, Ways
from aura.tiers.errors import StoreError


class Fetches:
    """Fetches that go on one by one, when they are let."""

    def __init__(self):
        self.done = []
        self.gate = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)

    def __call__(self, number):
        self.begun.release()
        self.gate.acquire()
        self.done.append(number)


def test_what_is_needed_comes_before_what_is_wanted():
    fetches = Fetches()
    loader = Loader(fetches)
    loader.want([1, 2, 3])
    fetches.begun.acquire()  # the first is under way
    loader.need([7, 3])
    for _ in range(3):
        fetches.gate.release()
        fetches.begun.acquire()
    fetches.gate.release()
    loader.idle()
    loader.close()
    assert fetches.done == [1, 7, 3, 2]


def test_what_has_not_begun_is_taken_back_and_what_has_is_waited_for():
    fetches = Fetches()
    loader = Loader(fetches)
    loader.need([4, 5])
    fetches.begun.acquire()
    assert loader.take(5)  # the caller fetches it now
    threading.Timer(0.01, fetches.gate.release).start()
    assert not loader.take(4)
    assert fetches.done == [4]
    assert not loader.take(9)  # nobody asked for it
    loader.close()


def test_a_new_wish_takes_the_place_of_the_old():
    fetches = Fetches()
    loader = Loader(fetches)
    loader.need([0])
    fetches.begun.acquire()
    loader.want([1, 2])
    loader.want([3])
    fetches.gate.release(4)
    fetches.begun.acquire()
    loader.idle()
    loader.close()
    assert fetches.done == [0, 3]


def test_a_fetch_that_fails_ends_nothing():
    done = []

    def fetch(number):
        if number == 1:
            raise StoreError("the disk is gone")
        if number == 2:
            raise RuntimeError("a mistake")
        done.append(number)

    loader = Loader(fetch)
    loader.need([1, 2, 3])
    loader.take(3) and done.append(3)
    loader.idle()
    loader.close()
    assert done == [3]


def test_a_store_that_fails_is_warned_of_once(caplog):
    begun = threading.Semaphore(0)

    def fetch(number):
        begun.release()
        raise StoreError(f"the disk is gone, {number}")

    loader = Loader(fetch)
    with caplog.at_level(logging.DEBUG):
        loader.need([1, 2, 3])
        for _ in range(3):
            begun.acquire()
        loader.idle()
    loader.close()
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "DEBUG", "DEBUG"]
    assert "the disk is gone, 1" in caplog.text


def run(ways, cost, steps):
    used = []
    for _ in range(steps):
        used.append(ways.current)
        ways.step(cost(ways.current))
    return used


def test_every_way_is_tried_and_the_fastest_is_used():
    seconds = {"inline": 3.0, "beside": 1.0, "ahead": 2.0}
    ways = Ways(list(seconds))
    used = run(ways, seconds.__getitem__, 100 * BLOCK)

    assert ways.seconds == seconds
    trial = len(seconds) * FEWEST_BLOCKS * BLOCK
    assert {used.count(name) >= FEWEST_BLOCKS * BLOCK for name in seconds} == {True}
    late = used[trial:]
    assert late.count("beside") / len(late) >= 1 - 1.5 / EXPLORE_EVERY


def test_prefetching_that_no_longer_pays_is_given_up_and_taken_up_again():
    ways = Ways(["inline", "ahead"])
    blocks = 20 * EXPLORE_EVERY
    for ahead, best in ((1.0, "ahead"), (5.0, "inline"), (1.0, "ahead")):
        used = run(ways, {"inline": 2.0, "ahead": ahead}.__getitem__, blocks * BLOCK)
        late = used[-blocks * BLOCK // 4 :]
        assert late.count(best) / len(late) >= 1 - 1.5 / EXPLORE_EVERY


def test_the_first_step_of_a_block_is_not_counted():
    ways = Ways(["inline", "ahead"])
    for _ in range(FEWEST_BLOCKS * 2):
        ways.step(100.0)
        for _ in range(BLOCK - 1):
            ways.step(1.0 if ways.current == "inline" else 2.0)
    assert ways.seconds == {"inline": 1.0, "ahead": 2.0}
