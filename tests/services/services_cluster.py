"""Three real Redis nodes that form a cluster: masters without replicas, a third of the slots each."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from redis import Redis

from aura.services.recipe import Launch, Place
from aura.services.redis_server import REDIS
from aura.services.server import Server

SLOTS = 16384

# What the nodes that are left hold stays readable; a node finds the others again by itself after a restart.
_CLUSTER = """\
cluster-enabled yes
cluster-port {bus}
cluster-config-file nodes.conf
cluster-node-timeout 2000
cluster-require-full-coverage no
appendfsync always
"""


def _prepare(place: Place) -> Launch:
    launch = REDIS.prepare(place)
    with Path(launch.command[1]).open("a", encoding="utf-8") as configuration:
        configuration.write(_CLUSTER.format(bus=place.ports["bus"]))
    return launch


NODE = replace(REDIS, name="redis-node", ports=("client", "bus"), prepare=_prepare)


@contextmanager
def cluster(home: Path) -> Iterator[list[Server]]:
    """Three nodes that know each other and cover all slots; they end with the context."""
    nodes = [Server(NODE, Path(tempfile.mkdtemp(prefix="node-", dir=home)), tethered=True) for _ in range(3)]
    try:
        for node in nodes:
            node.start()
        _join(nodes)
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def _join(nodes: list[Server]) -> None:
    bounds = [SLOTS * number // len(nodes) for number in range(len(nodes) + 1)]
    for number, node in enumerate(nodes):
        with Redis.from_url(node.address) as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            if number:
                first = nodes[0].place.ports
                client.execute_command("CLUSTER MEET", "127.0.0.1", first["client"], first["bus"])
    wait_until_whole(nodes)


def wait_until_whole(nodes: list[Server]) -> None:
    """Return when every node says that all slots are served by reachable nodes."""
    waiting = threading.Event()
    for node in nodes:
        with Redis.from_url(node.address, decode_responses=True) as client:
            for _ in range(600):
                told = client.execute_command("CLUSTER INFO")
                if told["cluster_state"] == "ok" and int(told["cluster_slots_ok"]) == SLOTS:
                    break
                waiting.wait(0.1)
            else:
                raise AssertionError(f"{node.address} still sees {told}")
