"""Long inputs are cut into windows that cover them, and the shared part of two windows counts once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura.embeddings.chunks import Chunking, Window, pooled


@given(st.integers(0, 2000), st.integers(1, 100), st.integers(0, 80))
def test_windows_cover_an_input_once_and_stay_within_the_limit(length, limit, overlap):
    windows = Chunking("chunk", overlap, max_chunks=10_000).windows(length, limit, overlap)
    assert windows[0].start == 0
    assert windows[-1].end == length
    assert sum(window.own for window in windows) == length
    assert all(window.end - window.start <= limit for window in windows)
    for before, after in pairwise(windows):
        assert before.end - after.start == min(overlap, limit // 2)
        assert after.own > 0


def test_at_most_max_chunks_windows_are_made():
    assert Chunking("chunk", 2, max_chunks=2).windows(100, 10, 2) == [Window(0, 10, 10), Window(8, 18, 8)]


def test_truncating_keeps_the_beginning_alone():
    assert Chunking("truncate", 2).windows(100, 10, 2) == [Window(0, 10, 10)]


def test_without_a_limit_there_is_one_window():
    assert Chunking("chunk", 2).windows(10**6, None, 2) == [Window(0, 10**6, 10**6)]


@pytest.mark.parametrize("wrong", [("cut", 1, 1), ("chunk", -1, 1), ("chunk", 1, 0)])
def test_a_setting_that_can_be_none_is_refused(wrong):
    with pytest.raises(ValueError, match=r"is 'chunk'|at least"):
        Chunking(*wrong)


def test_the_mean_is_weighted_with_what_each_window_adds():
    vectors = np.array([[2.0, 0.0], [0.0, 3.0], [0.0, -5.0]], np.float32)
    found, usable = pooled(vectors, [0, 0, 1], [3, 1, 7])
    assert usable.all()
    assert np.allclose(found, [[3 / 10**0.5, 1 / 10**0.5], [0.0, -1.0]], atol=1e-6)


@pytest.mark.parametrize("bad", [[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_an_input_with_a_window_without_a_direction_has_no_vector(bad):
    vectors = np.array([[1.0, 0.0], bad, [0.0, 2.0], [3.0, 0.0], [-3.0, 0.0]], np.float32)
    found, usable = pooled(vectors, [0, 0, 1, 2, 2], [1, 1, 1, 1, 1])
    assert usable.tolist() == [False, True, False]
    assert found.tolist() == [[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
