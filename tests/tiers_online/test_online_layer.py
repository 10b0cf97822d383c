"""The layer's moves always fit, pay for themselves, and concern only objects that may be moved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aura.tiers.online.costs import TierCosts
from aura.tiers.online.layer import OnlineLayer
from aura.tiers.online.policies import NAMES
from aura.tiers.records import Tier

FAST = TierCosts(Tier.L1, 40_000, 1e-7, 0, 1e-6, 1e-11)
POOL = TierCosts(Tier.L2, 80_000, 3e-6, 1e-11, 3e-6, 1e-11)
DISK = TierCosts(Tier.L3, None, 3e-5, 1e-10, 0, 0)
TIERS = (POOL, DISK, FAST)
SIZE = 1000


def layer(*tiers: TierCosts) -> OnlineLayer:
    return OnlineLayer(tiers or TIERS, object_bytes=SIZE)


def sizes(ids: np.ndarray) -> np.ndarray:
    """Objects of 500 to 1,900 bytes."""
    return 500 + ids.astype(np.int64) % 15 * 100


def same(ids: np.ndarray) -> np.ndarray:
    return np.full(len(ids), SIZE)


def skewed(seed: int, count: int, objects: int = 400) -> np.ndarray:
    """Reads of which few objects get most."""
    return (objects * np.random.default_rng(seed).random(count) ** 3).astype(np.int32)


def fed(reads: np.ndarray, batch: int = 200, online: OnlineLayer | None = None) -> tuple[OnlineLayer, list[list]]:
    """A layer after these reads, and the moves that it made after each batch."""
    online = online or layer()
    moves = []
    for start in range(0, len(reads), batch):
        online.observe(reads[start : start + batch], same)
        moves.append(list(online.plan()))
    return online, moves


def where(moves: list[list]) -> dict[int, Tier]:
    return {each: tier for batch in moves for each, tier in batch}


class Owner(RuleBasedStateMachine):
    """A store that does what the layer plans, or less, and counts the bytes of each tier move by move."""

    def __init__(self) -> None:
        super().__init__()
        self.online = layer()
        self.tier: dict[int, Tier] = {}
        self.size: dict[int, int] = {}
        self.pinned: set[int] = set()
        self.limits = {each.tier: each.capacity_bytes for each in TIERS if each.capacity_bytes is not None}

    def known(self, ids: np.ndarray) -> np.ndarray:
        return np.array([self.size.get(each, -1) for each in ids.tolist()])

    def used(self, tier: Tier) -> int:
        return sum(self.size[each] for each, there in self.tier.items() if there is tier)

    @rule(seed=st.integers(0, 99), count=st.integers(1, 1500), objects=st.integers(5, 300))
    def read(self, seed: int, count: int, objects: int) -> None:
        ids = skewed(seed, count, objects)
        for each in np.unique(ids[ids % 11 != 10]).tolist():
            if each not in self.size:
                self.size[each], self.tier[each] = int(sizes(np.array([each]))[0]), Tier.L3
        self.online.observe(ids, self.known)

    @rule(refused=st.sampled_from([0, 0, 3]))
    def move(self, refused: int) -> None:
        moves = self.online.plan()
        assert len(set(moves.ids.tolist())) == len(moves)
        used = {tier: self.used(tier) for tier in self.limits}
        left = []
        for (each, target), copied in zip(moves, moves.bytes.tolist(), strict=True):
            source = self.tier[each]
            assert source is not target
            assert each not in self.pinned
            assert copied == (0 if target is Tier.L3 else self.size[each])
            if refused and target is not Tier.L3 and each % refused == 0:
                left.append(each)
                continue
            for tier, sign in ((source, -1), (target, 1)):
                if tier in used:
                    used[tier] += sign * self.size[each]
            if target in used and not refused:
                assert used[target] <= self.limits[target]
            self.tier[each] = target
        if left:
            self.tell(left)

    @rule(each=st.integers(0, 300), tier=st.sampled_from(list(Tier)[1:]), grows=st.integers(0, 500))
    def write_or_move_elsewhere(self, each: int, tier: Tier, grows: int) -> None:
        size = self.size.get(each, SIZE) + grows
        if tier in self.limits and self.used(tier) + size > self.limits[tier]:
            tier = Tier.L3
        self.size[each], self.tier[each] = size, tier
        self.tell([each])

    @rule(each=st.integers(0, 300))
    def delete(self, each: int) -> None:
        self.size.pop(each, None)
        self.tier.pop(each, None)
        self.pinned.discard(each)
        self.online.forget(np.array([each], dtype=np.int32))

    @rule(each=st.integers(0, 300))
    def pin(self, each: int) -> None:
        if each in self.size:
            self.tell([each])
            self.pinned.add(each)
            self.online.pin(np.array([each], dtype=np.int32))

    @rule(each=st.integers(0, 300))
    def unpin(self, each: int) -> None:
        self.pinned.discard(each)
        self.online.unpin(np.array([each], dtype=np.int32))

    def tell(self, ids: list[int]) -> None:
        self.online.placed(
            np.array(ids, dtype=np.int32), [self.tier[each] for each in ids], [self.size[each] for each in ids]
        )

    @invariant()
    def books_agree(self) -> None:
        assert self.online.used == {tier: self.used(tier) for tier in self.online.used}
        assert self.online.objects == len(self.size)


TestOwner = Owner.TestCase
TestOwner.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_the_most_read_objects_end_in_the_fastest_tier():
    online, moves = fed(skewed(1, 30_000))
    place = where(moves)
    fastest = np.array([each for each, tier in place.items() if tier is Tier.L1])
    assert set(range(4)) <= set(fastest.tolist())
    assert np.median(fastest) < 60
    assert online.used[Tier.L1] <= FAST.capacity_bytes


def test_objects_that_are_all_alike_fill_the_room_and_stay():
    rng = np.random.default_rng(12)
    online, moves = fed(rng.integers(400, size=60_000).astype(np.int32), online=layer(FAST, DISK))
    assert online.used[Tier.L1] > 0.9 * FAST.capacity_bytes
    assert sum(len(batch) for batch in moves[150:]) < 0.02 * 30_000


def test_what_is_read_once_causes_no_move():
    online, moves = fed(np.arange(20_000, dtype=np.int32))
    assert where(moves) == {}
    assert online.used == {Tier.L1: 0, Tier.L2: 0}


def test_a_scan_displaces_nothing():
    online, _ = fed(skewed(2, 30_000))
    _, moves = fed(np.arange(1000, 9000, dtype=np.int32), online=online)
    assert not any(each >= 1000 for each in where(moves))


def test_the_same_reads_give_the_same_moves():
    reads = np.concatenate([skewed(3, 8000), skewed(4, 8000) + 200])
    assert fed(reads)[1] == fed(reads)[1]


def test_nothing_moves_where_the_copy_costs_more_than_it_saves():
    dear = TierCosts(Tier.L1, 40_000, 1e-7, 0, 10.0, 0)
    assert where(fed(skewed(5, 20_000), online=layer(dear, DISK))[1]) == {}


def test_a_tier_that_is_slower_than_the_disk_gets_nothing():
    remote = TierCosts(Tier.L2, 80_000, 2e-4, 0, 1e-4, 0)
    online, moves = fed(skewed(6, 20_000), online=layer(FAST, remote, DISK))
    assert set(where(moves).values()) <= {Tier.L1, Tier.L3}
    online.placed(np.array([7], dtype=np.int32), [Tier.L2], [SIZE])
    assert list(online.used) == [Tier.L1]


def test_tiers_are_filled_in_the_order_of_their_measured_cost():
    quick = TierCosts(Tier.L2, 10_000, 1e-7, 0, 1e-6, 0)
    slow = TierCosts(Tier.L1, 10_000, 1e-5, 0, 1e-6, 0)
    place = where(fed(skewed(7, 30_000), online=layer(slow, quick, DISK))[1])
    assert place[0] is place[1] is Tier.L2


def test_no_more_is_copied_than_the_mover_can():
    online = layer()
    for start in range(0, 20_000, 200):
        online.observe(skewed(8, 20_000)[start : start + 200], same)
        assert online.plan(3 * SIZE).bytes.sum() <= 3 * SIZE


def test_a_forgotten_object_is_never_moved_again():
    online, moves = fed(skewed(9, 20_000))
    held = [each for each, tier in where(moves).items() if tier is Tier.L1]
    online.forget(np.array(held, dtype=np.int32))
    assert online.used[Tier.L1] == 0
    reads = skewed(9, 4000)
    online.observe(reads[~np.isin(reads, held)], same)
    assert not set(held) & {each for each, _ in online.plan()}


def test_reads_of_objects_that_are_gone_are_left_out():
    online = layer()
    online.observe(np.array([1, 2, 2, 3], dtype=np.int32), lambda ids: np.where(ids == 2, -1, SIZE))
    assert online.objects == 2
    online.observe(np.array([2, 2], dtype=np.int32), lambda ids: np.full(len(ids), -1))
    assert online.objects == 2


def test_pinning_an_object_that_is_not_known_is_an_error():
    with pytest.raises(ValueError, match="id 4 is not known"):
        layer().pin(np.array([4], dtype=np.int32))


def test_the_budget_is_compared_with_the_cycle():
    reads = np.tile(np.arange(300, dtype=np.int32), 40)
    online, _ = fed(reads)
    assert online.short_of_cycle == (120_000, 300 * SIZE)
    roomy = layer(TierCosts(Tier.L1, 400_000, 1e-7, 0, 1e-6, 0), DISK)
    assert fed(reads, online=roomy)[0].short_of_cycle is None
    assert fed(skewed(10, 20_000))[0].short_of_cycle is None


def test_a_part_of_a_cycle_is_held_where_lru_would_hold_nothing_in_time():
    reads = np.tile(np.arange(300, dtype=np.int32), 60)
    _, moves = fed(reads, batch=50)
    late = [each for batch in moves[200:] for each, tier in batch if tier is not Tier.L3]
    assert len(where(moves)) >= 100
    assert len(late) < 0.1 * len(moves[200:]) * 50


def test_it_says_which_policy_it_follows():
    online, _ = fed(skewed(11, 20_000))
    assert online.following in NAMES
    assert all(name in NAMES and 0 < at <= 20_000 for at, name in online.switches)


@pytest.mark.parametrize(
    ("tiers", "message"),
    [
        ((FAST, POOL), "L3 among them"),
        ((FAST, FAST, DISK), "each belongs there once"),
    ],
)
def test_impossible_tiers_are_refused(tiers: tuple[TierCosts, ...], message: str):
    with pytest.raises(ValueError, match=message):
        layer(*tiers)


def test_a_tier_that_was_not_given_is_refused():
    with pytest.raises(ValueError, match="no L0 here; there are L1, L2, L3"):
        layer().placed(np.array([1], dtype=np.int32), [Tier.L0], [SIZE])
