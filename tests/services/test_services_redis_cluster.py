"""A native Redis cluster of three nodes, through the cluster client of redis-py and through `aura status`."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from aura.services.recipe import MissingSoftwareError
from aura.services.redis_server import redis_binary
from aura.services.status import check_services
from aura.settings import Settings

pytestmark = pytest.mark.servers

KEYS = [f"component/{number}" for number in range(120)]


@pytest.fixture(scope="module")
def nodes(servers_home):
    try:
        redis_binary()
    except MissingSoftwareError as error:
        import os

        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
    from services_cluster import cluster

    with cluster(servers_home) as running:
        yield running


def connect(nodes):
    from redis import RedisCluster
    from redis.cluster import ClusterNode

    return RedisCluster(
        startup_nodes=[ClusterNode("127.0.0.1", node.place.port) for node in nodes],
        decode_responses=True,
        socket_timeout=2,
        socket_connect_timeout=2,
    )


def test_keys_spread_over_the_nodes_and_come_back_from_wherever_they_are(nodes):
    with connect(nodes) as client:
        for key in KEYS:
            client.set(key, f"value of {key}")
        assert [client.get(key) for key in KEYS] == [f"value of {key}" for key in KEYS]
        holders = {client.get_node_from_key(key).port for key in KEYS}
    assert holders == {node.place.port for node in nodes}


def test_a_killed_node_takes_its_slots_along_and_brings_them_back(nodes):
    from redis.exceptions import RedisError
    from services_cluster import wait_until_whole

    with connect(nodes) as client:
        for key in KEYS:
            client.set(key, "kept")
        lost = nodes[1]
        theirs = [key for key in KEYS if client.get_node_from_key(key).port == lost.place.port]
        others = [key for key in KEYS if key not in theirs]
        assert theirs
    lost.kill()
    try:
        with connect([nodes[0], nodes[2]]) as client:
            assert {client.get(key) for key in others} == {"kept"}
            with pytest.raises((RedisError, OSError)):
                client.get(theirs[0])
    finally:
        lost.start()
    wait_until_whole(nodes)
    with connect(nodes) as client:
        assert {client.get(key) for key in KEYS} == {"kept"}


def test_the_status_asks_a_cluster_through_any_of_its_nodes(nodes, tmp_path):
    for node in nodes:
        settings = Settings.model_validate({"home": tmp_path, "redis": {"url": node.address, "cluster": True}})
        report = check_services(settings, now=datetime(2026, 1, 1, tzinfo=UTC), call_seconds=30, total_seconds=60)
        found = next(service.finding for service in report.services if service.name == "redis")
        assert found.state == "ok", found.error
        assert found.version == node.answer()


def test_the_warm_pool_of_the_tiers_spreads_over_the_nodes_and_leaves_nothing_behind(nodes, tmp_path):
    from aura.tiers.budgets import RedisAddress, TierBudgets
    from aura.tiers.records import Tier
    from aura.tiers.store import open_store

    address = RedisAddress(nodes[0].address, cluster=True, timeout_seconds=2)
    budgets = TierBudgets(process_bytes=0, arena_bytes=2**20, warm_pool=address)
    objects = {f"object/{number}": bytes([number]) * 1000 for number in range(60)}
    with open_store(tmp_path, budgets=budgets) as store:
        store.write(objects)
        assert store.move(dict.fromkeys(objects, Tier.L2)).promoted == len(objects)
        assert store.get_many(list(objects)) == objects
        (pool,) = [state for state in store.tiers() if state.tier is Tier.L2]
        assert (pool.objects, pool.gets) == (len(objects), len(objects))
    with connect(nodes) as client:
        assert list(client.scan_iter(match="aura:*:object/*")) == []
