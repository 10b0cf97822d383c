"""The checks pass for embeddings that tell items apart and fail for those that do not."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura.embeddings.checks import effective_rank, mean_cosine, no_collapse, rank_floor, unit_norms
from aura.embeddings.table import DESCRIPTION_COLUMNS, EmbeddingModel, EmbeddingTable


def embedded(vectors: np.ndarray, *, normalise: bool = True) -> EmbeddingTable:
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if normalise else vectors
    count = len(vectors)
    nulls = pa.array([None] * count, pa.string())
    items = pa.table(
        {
            "item_id": pa.array(map(str, range(count)), pa.string()),
            "uri": map(str, range(count)),
            "modality": pa.array(["text"] * count, pa.string()),
            "label": nulls,
            "sublabel": nulls,
        }
        if count
        else {name: pa.array([], pa.string()) for name in DESCRIPTION_COLUMNS}
    )
    return EmbeddingTable.build(
        items, vectors.astype(np.float32), EmbeddingModel("m", "f", None, vectors.shape[1], "float32")
    )


def directions(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimension))


@pytest.mark.parametrize("count", [3, 5, 40, 1000])
def test_vectors_in_all_directions_pass(count):
    table = embedded(directions(count, 64))
    assert unit_norms(table).passed
    assert no_collapse(table).passed


def test_a_vector_of_another_length_fails_the_norms():
    vectors = directions(10, 8) / np.linalg.norm(directions(10, 8), axis=1, keepdims=True)
    vectors[3] *= 1.01
    result = unit_norms(embedded(vectors, normalise=False))
    assert not result.passed
    assert result.figures["worst_deviation"] == pytest.approx(0.01, rel=1e-3)


def test_vectors_that_nearly_all_point_one_way_are_a_collapse():
    result = no_collapse(embedded(np.ones(64) + 0.05 * directions(200, 64)))
    assert not result.passed
    assert result.figures["mean_cosine"] > 0.98
    assert result.figures["effective_rank"] > result.figures["rank_floor"]


def test_vectors_in_a_few_directions_are_a_collapse():
    result = no_collapse(embedded(directions(500, 4) @ directions(4, 64, seed=1)))
    assert not result.passed
    assert result.figures["mean_cosine"] < 0.5
    assert result.figures["effective_rank"] <= 4.001


def test_equal_vectors_have_no_rank():
    result = no_collapse(embedded(np.tile(directions(1, 32), (20, 1))))
    assert not result.passed
    assert result.figures["effective_rank"] == 0.0


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_vectors_are_not_judged(count):
    assert no_collapse(embedded(directions(count, 8))).passed
    assert unit_norms(embedded(directions(count, 8))).passed


def test_the_mean_cosine_is_that_of_all_pairs():
    vectors = embedded(directions(30, 6)).vectors
    pairs = np.triu_indices(30, 1)
    assert mean_cosine(vectors) == pytest.approx((vectors @ vectors.T)[pairs].mean(), abs=1e-6)


def test_the_effective_rank_is_the_number_of_equal_directions():
    vectors = np.concatenate([np.eye(6, 10), -np.eye(6, 10)])
    assert effective_rank(vectors.astype(np.float32)) == pytest.approx(6.0)
    assert effective_rank(np.concatenate([vectors] * 5).astype(np.float32)) == pytest.approx(6.0)


@given(st.integers(3, 10**6), st.integers(2, 4096))
def test_the_floor_can_be_reached(count, dimension):
    assert 0 < rank_floor(count, dimension) <= min(count - 1, dimension) / 2
