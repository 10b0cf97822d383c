"""What the forecasts promise is what was counted; kinds of prompts are found and their experts expected."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aura.experts.offload.forecast import (
    FEWEST_REQUESTS,
    OWN_REQUESTS,
    PRIOR_TOKENS,
    RequestForecast,
    TransitionForecast,
    transition_counts,
)


def test_transitions_are_counted_shares_with_a_prior():
    forecast = TransitionForecast([3, 3], 1)
    for before, now in ((0, 1), (0, 1), (0, 2), (1, 0)):
        forecast.note(1, [before], [now])

    chances = forecast.chances(1, [0], np.array([0.5, 0.25, 0.25]))

    expected = np.array([0 + PRIOR_TOKENS * 0.5, 2 + PRIOR_TOKENS * 0.25, 1 + PRIOR_TOKENS * 0.25]) / (3 + PRIOR_TOKENS)
    np.testing.assert_allclose(chances, expected)


def test_transitions_of_a_table_are_a_beginning():
    # Of 100 tokens that used expert 0 with k = 2, 90 went on to expert 1 and all to expert 3.
    counts = np.zeros((1, 4, 4))
    counts[0, 0, 1], counts[0, 0, 2], counts[0, 0, 3] = 90, 10, 100
    forecast = TransitionForecast([4, 4], 2, counts)

    assert forecast.used[0, 0] == 100
    chances = forecast.chances(1, [0], np.full(4, 0.5))
    np.testing.assert_allclose(chances, (counts[0, 0] + PRIOR_TOKENS * 0.5) / (100 + PRIOR_TOKENS))
    with pytest.raises(ValueError, match=r"\(1, 3, 3\)"):
        TransitionForecast([3, 3], 1, counts)


def test_a_routing_tables_transitions_are_read():
    table = pa.table({"layer": [0, 1], "expert": [2, 0], "next_expert": [1, 2], "pairs": [7, 3]})
    counts = transition_counts(table, [3, 3, 3])
    assert counts.shape == (2, 3, 3)
    assert (counts[0, 2, 1], counts[1, 0, 2], counts.sum()) == (7, 3, 10)
    assert transition_counts(table.slice(0, 0), [3, 3]).sum() == 0
    with pytest.raises(ValueError, match=r"\(1, 2, 2\); the model has \[3, 3\]"):
        transition_counts(table, [3, 3])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=400, max_size=400), st.integers(0, 3))
def test_chances_come_to_k_and_near_the_truth(pairs, asked):
    forecast = TransitionForecast([4, 4], 1)
    for before, now in pairs:
        forecast.note(1, [before], [now])
    chances = forecast.chances(1, [asked], np.full(4, 0.25))
    assert chances.sum() == pytest.approx(1)
    mine = [now for before, now in pairs if before == asked]
    if mine:
        shares = np.bincount(mine, minlength=4) / len(mine)
        assert np.abs(chances - shares).max() <= PRIOR_TOKENS / (PRIOR_TOKENS + len(mine)) + 1e-9


def request(kind, seed):
    """A prompt of one of two kinds, and what it used: experts 0 and 1, or 2 and 3, in both of two layers."""
    random = np.random.default_rng(seed)
    vector = np.array([1.0, 0.0] if kind == 0 else [0.0, 1.0]) + 0.05 * random.normal(size=2)
    used = np.zeros((2, 4), dtype=np.int64)
    used[:, 2 * kind : 2 * kind + 2] = 10 + seed
    return vector.astype(np.float32), used


def test_before_the_first_request_nothing_is_expected():
    forecast = RequestForecast(2)
    assert forecast.kinds == 1
    assert forecast.kind(np.zeros(2, dtype=np.float32)) == 0
    assert forecast.expected(0) is None
    forecast.note(np.zeros(2, dtype=np.float32), np.zeros((2, 4), dtype=np.int64))
    assert forecast.expected(0) is None


def test_kinds_of_prompts_have_experts_of_their_own():
    forecast = RequestForecast(2, kinds=2)
    for seed in range(2 * FEWEST_REQUESTS):
        forecast.note(*request(seed % 2, seed))

    assert forecast.kinds == 2
    for kind in (0, 1):
        expected = forecast.expected(forecast.kind(request(kind, 99)[0]))
        # Of as many requests as there are of the kind, every token used both; over all requests half of the tokens.
        weight = FEWEST_REQUESTS / (FEWEST_REQUESTS + OWN_REQUESTS)
        own = np.zeros(4)
        own[2 * kind : 2 * kind + 2] = 1
        np.testing.assert_allclose(expected, np.tile(weight * own + (1 - weight) * 0.5, (2, 1)), atol=1e-6)


def test_kinds_are_the_same_for_the_same_seed():
    def found():
        forecast = RequestForecast(2, kinds=3, seed=5)
        for seed in range(12):
            forecast.note(*request(seed % 2, seed))
        return [forecast.kind(request(n % 2, 50 + n)[0]) for n in range(6)]

    assert found() == found()


def test_equal_prompts_are_one_kind():
    forecast = RequestForecast(2)
    for _ in range(2 * FEWEST_REQUESTS):
        forecast.note(np.ones(2, dtype=np.float32), request(0, 0)[1])
    assert forecast.kinds == 1


def test_there_is_at_least_one_kind():
    with pytest.raises(ValueError, match="kinds is 0"):
        RequestForecast(1, kinds=0)


def test_past_requests_are_expected_of_every_kind_until_there_are_others():
    forecast = RequestForecast(2)
    forecast.remember(np.zeros((2, 4), dtype=np.int64))
    assert forecast.expected(0) is None
    forecast.remember(np.array([[6, 2, 0, 0], [0, 0, 4, 4]]))
    np.testing.assert_allclose(forecast.expected(0), [[1.5, 0.5, 0, 0], [0, 0, 1, 1]])
    forecast.note(np.ones(2, dtype=np.float32), np.array([[2, 6, 0, 0], [0, 0, 4, 4]]))
    np.testing.assert_allclose(forecast.expected(0), [[1, 1, 0, 0], [0, 0, 1, 1]])
