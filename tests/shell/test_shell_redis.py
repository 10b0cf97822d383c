"""With the warm pool in Redis the graph runs, and a Redis that goes silent fails no run."""

from __future__ import annotations

import dataclasses

import pytest
from shell_graph import changed

from aura.tiers.catalog import Catalog
from aura.tiers.opening import open_configured_store
from aura.tiers.records import Tier

pytestmark = [pytest.mark.servers, pytest.mark.slow]


def test_a_silent_redis_fails_no_run(graph, servers):
    server = servers("redis")
    settings = changed(graph.settings, tiers={"warm_pool": "redis"}, redis={"url": server.address})
    graph = dataclasses.replace(graph, settings=settings)
    assert graph.run("corpus").success
    assert graph.run("tiers").success
    with open_configured_store(graph.settings) as store:
        keys = Catalog(store).find("text_embeddings", graph.source).keys
        assert store.move(dict.fromkeys(keys, Tier.L2)).promoted == len(keys)
        server.pause()
        assert graph.run("corpus").success
        assert graph.run("tiers").success
        assert {entry.tier for entry in store.entries() if entry.key in keys} <= {Tier.L1, Tier.L3}
