"""Neo4j that is killed or hangs under writes: they are kept, and afterwards the graph is as if nothing had been."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest
from graph_states import batches

from aura.graph.errors import GraphError, GraphUnavailableError, MissingNodeError
from aura.graph.guarded_graph import BATCHES, FAILURES, GuardedGraph, decode, encode
from aura.graph.model import DeleteNode, Edge, EdgeType, GraphCounts, Label, Node, NodeId, Write
from aura.graph.neo4j_graph import Neo4jGraph
from aura.resilience.breaker import BreakerState, CircuitBreaker, CircuitOpenError
from aura.resilience.outbox import Outbox, OutboxFullError
from aura.services.server import Server

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


class KilledInMidDrain(Neo4jGraph):
    """A graph that kills its server during a transaction, when a test has asked for it."""

    _killer: threading.Thread | None = None
    _before = 0

    def kill_after(self, transactions: int, server: Server) -> None:
        """Let this many transactions arrive and kill the server while the next one is under way."""
        self._before = transactions
        self._killer = threading.Thread(target=server.kill)

    def apply_once(self, origin: str, batches: Sequence[tuple[int, Sequence[Write]]]) -> None:
        if self._killer is None or self._before:
            super().apply_once(origin, batches)
            self._before -= self._killer is not None
            return
        killer, self._killer = self._killer, None
        killer.start()
        try:
            super().apply_once(origin, batches)
        finally:
            killer.join()


def guarded(
    address: str,
    path,
    clock: HandClock,
    *,
    limit: int = 10_000,
    timeout_seconds: float = 20,
    kind: type[Neo4jGraph] = Neo4jGraph,
) -> GuardedGraph:
    """A guarded graph on an outbox in this directory."""
    return GuardedGraph(
        kind(address, timeout_seconds=timeout_seconds),
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


def drain_at_last(graph: GuardedGraph, clock: HandClock, server: Server) -> None:
    """Drain a graph whose server has just come back and may still be busy with that, unless it is gone again."""
    for _ in range(10):
        clock.now += RESET_SECONDS
        with suppress(GraphError, CircuitOpenError):
            graph.drain()
            return
        if not server.running:
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
    neo4j, neo4j_graph, sqlite_graph, tmp_path, clock
) -> None:
    count, before = 500, 20
    with guarded(neo4j.address, tmp_path, clock, kind=KilledInMidDrain) as graph:
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
            graph._inner.kill_after(1, neo4j)
            drain_at_last(graph, clock, neo4j)
            assert not neo4j.running
            # The transaction under way was acknowledged before the server died, or not.
            assert graph.status().waiting in (count - before - BATCHES, count - before - 2 * BATCHES)
        finally:
            if not neo4j.running:
                neo4j.start()
        drain_at_last(graph, clock, neo4j)
        assert graph.status().waiting == graph.status().refused == 0
    assert neo4j_graph.digest() == sqlite_graph.digest()


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
        drain_at_last(graph, clock, neo4j)
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


def test_past_its_bound_of_batches_the_outbox_refuses_the_next_and_keeps_the_others(unreachable, graph) -> None:
    unreachable.apply([Node(A), Node(B)])
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
