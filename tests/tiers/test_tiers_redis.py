"""L2 in a real Redis: what is held comes back verified, and a Redis that is gone costs time, never an object."""

from __future__ import annotations

import numpy as np
import pytest
from redis import RedisError

from aura.resilience.breaker import BreakerState, CircuitBreaker
from aura.tiers.budgets import RedisAddress, TierBudgets
from aura.tiers.codec import encode
from aura.tiers.errors import TierAbsentError
from aura.tiers.records import Tier
from aura.tiers.redis_pool import RedisTier
from aura.tiers.store import open_store

pytestmark = pytest.mark.servers

KIB = 1024


def opened(directory, server, **budgets):
    address = RedisAddress(server.address, timeout_seconds=0.2)
    return open_store(directory, budgets=TierBudgets(process_bytes=0, warm_pool=address, **budgets))


def held(store, tier):
    return next(state for state in store.tiers() if state.tier is tier)


def client(server):
    from redis import Redis

    return Redis.from_url(server.address)


def test_an_object_is_promoted_to_redis_and_read_from_there(tmp_path, redis):
    with opened(tmp_path, redis, arena_bytes=64 * KIB) as store:
        vector = np.arange(1000, dtype=np.float32)
        store.put("a", {"vector": vector})
        assert store.move({"a": Tier.L2}).promoted == 1
        np.testing.assert_array_equal(store.get("a")["vector"], vector)
        state = held(store, Tier.L2)
        assert (state.objects, state.gets) == (1, 1)
        assert state.used_bytes == store.entries()[0].bytes
        store.put("a", b"another")
        assert held(store, Tier.L2).used_bytes == 0
        assert store.get("a") == b"another"


def test_the_capacity_holds_and_what_does_not_fit_stays_where_it_is(tmp_path, redis):
    with opened(tmp_path, redis, arena_bytes=10 * KIB) as store:
        store.write({f"{number}": bytes(4 * KIB) for number in range(3)})
        report = store.move({f"{number}": Tier.L2 for number in range(3)})
        assert report.promoted == 2
        assert len(report.refused) == 1
        assert held(store, Tier.L2).used_bytes <= 10 * KIB


def test_a_copy_that_was_changed_or_evicted_is_dropped_and_the_object_read_from_the_disk(tmp_path, redis):
    with opened(tmp_path, redis, arena_bytes=64 * KIB) as store:
        store.write({"changed": b"1" * 100, "evicted": b"2" * 100})
        store.move({"changed": Tier.L2, "evicted": Tier.L2})
        server = client(redis)
        (changed,) = server.keys("aura:*:changed")
        server.set(changed, b"9" * 100)
        server.delete(*server.keys("aura:*:evicted"))
        assert store.get("changed") == b"1" * 100
        assert store.get("evicted") == b"2" * 100
        assert held(store, Tier.L2).objects == 0


def test_a_store_that_is_closed_leaves_nothing_in_redis_and_one_that_was_killed_is_cleaned_up_after(tmp_path, redis):
    server = client(redis)
    with opened(tmp_path, redis, arena_bytes=64 * KIB) as store:
        store.put("kept", b"1")
        store.move({"kept": Tier.L2})
        (key,) = server.keys("aura:*:kept")
    assert server.keys("aura:*:kept") == []
    server.set(key, b"left by an owner that was killed")
    with opened(tmp_path, redis, arena_bytes=64 * KIB):
        assert server.keys("aura:*:kept") == []


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_with_redis_killed_or_silent_every_object_is_still_read_and_written(tmp_path, servers, fault):
    server = servers("redis")
    with opened(tmp_path, server, arena_bytes=64 * KIB) as store:
        objects = {f"{number}": bytes([number]) * 100 for number in range(20)}
        store.write(objects)
        assert store.move(dict.fromkeys(objects, Tier.L2)).promoted == 20
        getattr(server, fault)()
        assert store.get_many(list(objects)) == objects
        store.put("new", b"written while Redis was down")
        report = store.move({"new": Tier.L2})
        assert report.promoted == 0
        assert "Redis" in report.refused[0][1]
        assert store.get("new") == b"written while Redis was down"


def test_while_the_breaker_is_open_redis_is_not_asked(tmp_path, servers):
    server, now = servers("redis"), [0.0]
    breaker = CircuitBreaker("Redis", failures=3, reset_seconds=10, clock=lambda: now[0], on=(RedisError,))
    pool = RedisTier(RedisAddress(server.address, timeout_seconds=0.1), tmp_path, 64 * KIB, breaker)
    encoded = encode(b"payload")
    record = pool.fill("a", encoded.header, pool.take("a", 7), encoded.payload)
    server.pause()
    assert [pool.read(record) for _ in range(3)] == [None] * 3
    assert breaker.reading().state is BreakerState.OPEN
    with pytest.raises(TierAbsentError, match="not asked at present"):
        pool.fill("b", encoded.header, pool.take("b", 7), encoded.payload)
    server.resume()
    assert pool.read(record) is None
    now[0] += 11
    assert pool.read(record) == b"payload"
    pool.close()


def test_a_cluster_that_is_not_there_costs_its_tier_and_not_the_store(tmp_path):
    address = RedisAddress("redis://127.0.0.1:1/0", cluster=True, timeout_seconds=0.2)
    with open_store(tmp_path, budgets=TierBudgets(arena_bytes=64 * KIB, warm_pool=address)) as store:
        store.put("a", b"1")
        assert "Redis" in store.move({"a": Tier.L2}).refused[0][1]
        assert store.get("a") == b"1"
