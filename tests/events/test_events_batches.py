"""Each batch of events is acted on once, whatever fails or dies on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura.events.batches import Attempt, Done, Launch, OffsetRange, Outcome, RetryPolicy, Wait, decide

POLICY = RetryPolicy(attempts=3, first_wait_seconds=60)


def events(first: int, end: int) -> OffsetRange:
    return OffsetRange("corpus.items", 0, first, end)


def failed(number: int, at: float, first: int = 0, end: int = 5) -> Attempt:
    return Attempt(events(first, end), number, Outcome.FAILED, ended_at=at)


def test_without_new_events_nothing_is_done():
    assert decide(None, [], now=0, policy=POLICY) == Wait("no new events")


def test_new_events_are_tried_at_once():
    assert decide(events(0, 5), [], now=0, policy=POLICY) == Launch(events(0, 5), 1)


def test_nothing_is_launched_beside_an_attempt_that_goes_on_even_if_more_events_arrive():
    running = Attempt(events(0, 5), 1, Outcome.RUNNING)
    decision = decide(events(0, 9), [running], now=0, policy=POLICY)
    assert decision == Wait("attempt 1 at corpus.items-0:0-5 is going on")


def test_a_success_is_put_on_record_before_the_next_range_is_tried():
    succeeded = Attempt(events(0, 5), 1, Outcome.SUCCEEDED, ended_at=1)
    assert decide(events(0, 9), [succeeded], now=2, policy=POLICY) == Done(events(0, 5))
    assert decide(events(5, 9), [succeeded], now=2, policy=POLICY) == Launch(events(5, 9), 1)


def test_the_same_range_is_tried_again_after_a_wait_that_doubles():
    assert isinstance(decide(events(0, 9), [failed(1, at=100)], now=159, policy=POLICY), Wait)
    assert decide(events(0, 9), [failed(1, at=100)], now=160, policy=POLICY) == Launch(events(0, 5), 2)
    twice = [failed(1, at=100), failed(2, at=200)]
    assert isinstance(decide(events(0, 9), twice, now=319, policy=POLICY), Wait)
    assert decide(events(0, 9), twice, now=320, policy=POLICY) == Launch(events(0, 5), 3)


def test_a_range_that_failed_too_often_waits_for_further_events_and_is_part_of_the_next_range():
    attempts = [failed(n, at=n) for n in (1, 2, 3)]
    decision = decide(events(0, 5), attempts, now=10_000, policy=POLICY)
    assert isinstance(decision, Wait)
    assert decision.given_up
    assert isinstance(decide(events(0, 6), attempts, now=3 + 239, policy=POLICY), Wait)
    assert decide(events(0, 6), attempts, now=3 + 240, policy=POLICY) == Launch(events(0, 6), 1)


def test_a_lasting_fault_under_steady_traffic_is_tried_ever_more_rarely_up_to_a_longest_wait():
    attempts, now, waits = [], 0.0, []
    for end in range(1, 12):
        decision = decide(events(0, end), attempts, now=now, policy=POLICY)
        while isinstance(decision, Wait):
            now += 1
            decision = decide(events(0, end), attempts, now=now, policy=POLICY)
        waits.append(now - attempts[-1].ended_at if attempts else 0.0)
        attempts.append(Attempt(decision.events, decision.number, Outcome.FAILED, ended_at=now))
    assert waits[:5] == [0.0, 60.0, 120.0, 240.0, 480.0]
    assert waits[-1] == POLICY.longest_wait_seconds


def test_attempts_at_another_partition_do_not_count():
    elsewhere = Attempt(OffsetRange("corpus.items", 1, 0, 5), 1, Outcome.RUNNING)
    assert decide(events(0, 5), [elsewhere], now=0, policy=POLICY) == Launch(events(0, 5), 1)


@pytest.mark.parametrize(("first", "end"), [(3, 3), (4, 3), (-1, 2)])
def test_an_empty_range_is_refused(first, end):
    with pytest.raises(ValueError, match="no range"):
        events(first, end)


class World:
    """A model of the daemon: a launch may be lost before it is made, a run may fail, and looks come at any time."""

    def __init__(self):
        self.now, self.end, self.recorded = 0.0, 0, 0
        self.attempts = []

    def event(self):
        self.end += 1

    def minute(self):
        self.now += 60

    def look(self, *, lost: bool = False):
        pending = events(self.recorded, self.end) if self.end > self.recorded else None
        decision = decide(pending, self.attempts, now=self.now, policy=POLICY)
        if isinstance(decision, Done):
            self.recorded = decision.events.end
        elif isinstance(decision, Launch) and not lost:
            assert (decision.events, decision.number) not in [(each.events, each.number) for each in self.attempts]
            self.attempts.append(Attempt(decision.events, decision.number, Outcome.RUNNING))

    def lost_launch(self):
        self.look(lost=True)

    def finish(self, outcome: Outcome):
        self.attempts = [
            Attempt(each.events, each.number, outcome, self.now) if each.outcome is Outcome.RUNNING else each
            for each in self.attempts
        ]

    def success(self):
        self.finish(Outcome.SUCCEEDED)

    def failure(self):
        self.finish(Outcome.FAILED)


@given(
    st.lists(st.sampled_from([World.event, World.look, World.success, World.failure, World.lost_launch, World.minute]))
)
def test_every_event_is_in_exactly_one_successful_range_once_the_world_is_calm(history):
    world = World()
    for step in history:
        world.now += 1
        step(world)
    world.event()
    for _ in range(4 * POLICY.attempts):
        world.success()
        world.now += POLICY.longest_wait_seconds
        world.look()
    ranges = [each.events for each in world.attempts if each.outcome is Outcome.SUCCEEDED]
    assert sorted(offset for each in ranges for offset in range(each.first, each.end)) == list(range(world.end))
    assert world.recorded == world.end
