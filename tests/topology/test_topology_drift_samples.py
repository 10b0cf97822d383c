"""Every item is used once, the deal depends on ids and seed alone, and blocks are as large as the sample allows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura.topology.drift.samples import SampleError, plan_blocks, shuffled, two_samples

id_lists = st.lists(st.integers(0, 60).map(str), unique=True, max_size=40)


@given(id_lists, id_lists, st.integers(-5, 5))
def test_every_item_is_used_exactly_once(reference, current, seed):
    dealt = two_samples(reference, current, seed=seed)
    before, now = [reference[row] for row in dealt.reference], [current[row] for row in dealt.current]
    assert sorted(before + now) == sorted(set(reference) | set(current))
    shared = set(reference) & set(current)
    assert dealt.shared == len(shared)
    assert len(shared & set(before)) - len(shared & set(now)) in (0, 1)


@given(id_lists, id_lists, st.randoms())
def test_the_order_of_arrival_does_not_matter(reference, current, random):
    dealt = two_samples(reference, current, seed=3)
    mixed_reference, mixed_current = random.sample(reference, len(reference)), random.sample(current, len(current))
    again = two_samples(mixed_reference, mixed_current, seed=3)
    assert [reference[row] for row in dealt.reference] == [mixed_reference[row] for row in again.reference]
    assert [current[row] for row in dealt.current] == [mixed_current[row] for row in again.current]


def test_another_seed_or_purpose_is_another_order():
    ids = [str(number) for number in range(100)]
    orders = {
        tuple(shuffled(ids, seed=s, purpose=p)) for s, p in ((0, "deal"), (1, "deal"), (0, "order"), (-1, "deal"))
    }
    assert len(orders) == 4


def test_the_order_is_random():
    """The rank of an item correlates with nothing: four standard deviations."""
    ids = [f"item-{number}" for number in range(4000)]
    order = shuffled(ids, seed=0, purpose="deal")
    assert abs(np.corrcoef(order, np.arange(4000))[0, 1]) < 4 / np.sqrt(4000)


@pytest.mark.parametrize(("reference", "current"), [(["a", "b", "a"], ["c"]), (["c"], ["a", "b", "a"])])
def test_an_id_that_occurs_twice_is_named(reference, current):
    with pytest.raises(SampleError, match="'a' twice"):
        two_samples(reference, current, seed=0)


@pytest.mark.parametrize(
    ("reference", "current", "size", "blocks"),
    [
        (600, 600, 40, (15, 15)),
        (150, 9000, 20, (7, 25)),
        (9000, 9000, 100, (25, 25)),
        (1000, 300, 20, (25, 15)),
        (10, 10, 20, (0, 0)),
    ],
)
def test_blocks_grow_with_the_smaller_side(reference, current, size, blocks):
    plan = plan_blocks(reference, current, smallest=20, largest=100, wanted=15, most=25)
    assert (plan.size, (plan.reference, plan.current)) == (size, blocks)
