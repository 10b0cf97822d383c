"""Neo4j that is killed or hangs under writes: they are kept, and afterwards the graph is as if nothing had been."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from graph_states import batches

from aura.graph.errors import GraphError, GraphUnavailableError, MissingNodeError
from aura.graph.guarded_graph import FAILURES, GuardedGraph, decode, encode
from aura.graph.model import DeleteNode, Edge, EdgeType, GraphCounts, Label, Node, NodeId
from aura.graph.neo4j_graph import Neo4jGraph
from aura.resilience.breaker import BreakerState, CircuitBreaker, CircuitOpenError
from aura.resilience.outbox import Outbox, OutboxFullError

pytestmark = pytest.mark.servers

RESET_SECONDS = 30.0
A, B = NodeId(Label.ASSET, "a"), NodeId(Label.ASSET, "b")
EDGE = Edge(EdgeType.FEEDS, A, B)


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock() -> HandClock:
    """The clock of the breaker."""
    return HandClock()


def guarded(address: str, path, clock: HandClock, *, limit: int = 10_000, timeout_seconds: float = 20) -> GuardedGraph:
    """A guarded graph on an outbox in this directory."""
    return GuardedGraph(
        Neo4jGraph(address, timeout_seconds=timeout_seconds),
        Outbox(path / "outbox.db", limit),
        CircuitBreaker("Neo4j", FAILURES, RESET_SECONDS, clock, on=(GraphUnavailableError,)),
        timeout_seconds=timeout_seconds,
    )


@pytest.fixture
def graph(neo4j, neo4j_graph, tmp_path, clock) -> Iterator[GuardedGraph]:
    """A guarded graph on the session's Neo4j, emptied."""
    with guarded(neo4j.address, tmp_path, clock) as graph:
        yield graph


@pytest.fixture
def unreachable(tmp_path, clock) -> Iterator[GuardedGraph]:
    """A guarded graph on the same outbox whose server is not there."""
    with guarded("bolt://127.0.0.1:1", tmp_path, clock, limit=2, timeout_seconds=1) as graph:
        yield graph


def drain_at_last(graph: GuardedGraph, clock: HandClock) -> None:
    """Drain a graph whose server has just come back and may still be busy with that."""
    for _ in range(10):
        clock.now += RESET_SECONDS
        try:
            graph.drain()
        except (GraphError, CircuitOpenError):
            continue
        return


def test_with_the_server_there_writes_arrive_at_once_and_nothing_waits(graph, sqlite_graph) -> None:
    for batch in batches(30, seed=1):
        graph.apply(batch)
        sqlite_graph.apply(batch)
    assert graph.digest() == sqlite_graph.digest()
    status = graph.status()
    assert (status.waiting, status.waiting_seconds, status.refused) == (0, None, 0)
    assert status.breaker.state is BreakerState.CLOSED


@pytest.mark.slow
def test_a_server_killed_under_writes_and_again_in_mid_drain_has_every_write_once_afterwards(
    graph, sqlite_graph, neo4j, clock
) -> None:
    count, before = 500, 20
    try:
        for number, batch in enumerate(batches(count, seed=2)):
            if number == before:
                neo4j.kill()
            graph.apply(batch)
            sqlite_graph.apply(batch)
        status = graph.status()
        assert status.waiting == count - before
        assert (status.breaker.state, status.breaker.failures) == (BreakerState.OPEN, FAILURES)

        neo4j.start()
        drainer = threading.Thread(target=drain_at_last, args=(graph, clock))
        drainer.start()
        while graph.status().waiting == count - before and drainer.is_alive():
            time.sleep(0.01)
        neo4j.kill()
        drainer.join(120)
        assert 0 < graph.status().waiting < count - before, "it was drained before the server could be killed"
    finally:
        if not neo4j.running:
            neo4j.start()
    drain_at_last(graph, clock)
    assert graph.status().waiting == graph.status().refused == 0
    assert graph.digest() == sqlite_graph.digest()


@pytest.mark.slow
def test_a_server_that_hangs_costs_a_few_timeouts_and_then_nothing(
    neo4j, neo4j_graph, sqlite_graph, tmp_path, clock
) -> None:
    with guarded(neo4j.address, tmp_path, clock, timeout_seconds=3) as graph:
        graph.counts()
        neo4j.pause()
        try:
            for batch in batches(40, seed=3):
                graph.apply(batch)
                sqlite_graph.apply(batch)
            reading = graph.status().breaker
            assert (reading.state, reading.failures) == (BreakerState.OPEN, FAILURES)
            assert "did not answer within 3 s" in reading.reason
            with pytest.raises(GraphUnavailableError, match=r"not asked at present.*40 writes wait for it"):
                graph.node(A)
        finally:
            neo4j.resume()
        drain_at_last(graph, clock)
        assert graph.status().waiting == graph.status().refused == 0
    assert neo4j_graph.digest() == sqlite_graph.digest()


def test_reads_say_why_they_fail_and_how_many_writes_wait(unreachable, graph, caplog) -> None:
    with pytest.raises(GraphUnavailableError, match=r"cannot be used: Couldn't connect.*No write waits for it"):
        unreachable.counts()
    unreachable.apply([Node(A)])
    assert "1 writes wait for Neo4j at" in caplog.text
    with pytest.raises(GraphUnavailableError, match="1 writes wait for it on this disk"):
        unreachable.digest()
    assert graph.node(A) == Node(A)


def test_past_its_bound_the_outbox_refuses_a_write_and_keeps_the_others(unreachable, graph) -> None:
    unreachable.apply([Node(A)])
    unreachable.apply([Node(B)])
    with pytest.raises(OutboxFullError, match="takes at most 2"):
        unreachable.apply([EDGE])
    graph.apply([EDGE])
    assert graph.counts() == GraphCounts({Label.ASSET: 2}, {EdgeType.FEEDS: 1})


def test_writes_wait_through_the_end_of_the_process_that_made_them(unreachable, graph) -> None:
    unreachable.apply([Node(A), Node(B)])
    unreachable.apply([EDGE])
    unreachable.close()
    assert graph.status().waiting == 2
    assert graph.counts() == GraphCounts({Label.ASSET: 2}, {EdgeType.FEEDS: 1})
    assert graph.status().waiting == 0


def test_a_batch_the_graph_can_never_take_is_set_aside_and_the_ones_around_it_arrive(
    neo4j, neo4j_graph, tmp_path, clock, caplog
) -> None:
    with guarded("bolt://127.0.0.1:1", tmp_path, clock, timeout_seconds=1) as graph:
        for batch in ([Node(A)], [Node(A, {"half": True}), EDGE], [Node(B)], [EDGE]):
            graph.apply(batch)
    with Outbox(tmp_path / "outbox.db", 10_000) as outbox:
        outbox.append([b"no batch", encode([Node(B, {"last": 1})])])
    with guarded(neo4j.address, tmp_path, clock) as graph:
        assert graph.drain() == 4
        assert graph.status().refused == 2
        assert graph.node(A) == Node(A)
        assert graph.node(B) == Node(B, {"last": 1})
        assert graph.counts() == GraphCounts({Label.ASSET: 2}, {EdgeType.FEEDS: 1})
    assert "There is no node Asset:b" in caplog.text


def test_a_batch_whose_acknowledgement_was_lost_is_not_made_again(neo4j_graph, tmp_path) -> None:
    numbered = [(1, [Node(A, {"n": 1}), Node(B)]), (2, [EDGE, Node(B, {"n": 2})]), (3, [DeleteNode(A)])]
    origin = str(tmp_path)
    neo4j_graph.apply_once(origin, numbered[:1])
    neo4j_graph.apply_once(origin, numbered[1:])
    after = neo4j_graph.digest()
    neo4j_graph.apply_once(origin, numbered[1:])
    neo4j_graph.apply_once(origin, numbered)
    assert neo4j_graph.digest() == after
    with pytest.raises(MissingNodeError):
        neo4j_graph.apply_once(f"{origin}, another sequence", numbered[1:])


def test_every_write_is_the_same_after_its_way_through_the_outbox() -> None:
    for batch in batches(30, seed=4):
        assert decode(encode(batch)) == batch
    odd = [Node(NodeId(Label.ITEM, "a:b -> c\n🎯"), {"whole": 1.0, "count": 1, "yes": True, "text": "\0"})]
    read = decode(encode(odd))
    assert read == odd
    assert {name: type(value) for name, value in read[0].properties.items()} == {
        "whole": float,
        "count": int,
        "yes": bool,
        "text": str,
    }
