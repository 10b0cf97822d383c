"""The figures of a routing against their definitions, written out."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aura.experts.routing import figures
from aura.experts.routing.figures import (
    coefficient_of_variation,
    contingency,
    dead_experts,
    jain,
    max_over_mean,
    mutual_information,
    normalised_entropy,
    overlap,
    shared_information,
    vocabulary_specialisation,
)
from aura.experts.routing.tabulate import embedding_clusters

loads = arrays(np.int64, st.integers(2, 12), elements=st.integers(0, 10**6)).filter(lambda load: load.sum() > 0)
tables = arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(0, 50))


def test_four_experts_by_hand():
    load = np.array([6, 2, 2, 0])
    shares = (0.6, 0.2, 0.2)
    assert normalised_entropy(load) == pytest.approx(-sum(p * math.log(p) for p in shares) / math.log(4))
    assert max_over_mean(load) == pytest.approx(6 / 2.5)
    assert coefficient_of_variation(load) == pytest.approx(math.sqrt((3.5**2 + 2 * 0.5**2 + 2.5**2) / 4) / 2.5)
    assert jain(load) == pytest.approx(10**2 / (4 * (36 + 4 + 4)))
    assert dead_experts(load) == 1
    assert dead_experts(np.array([97, 3, 100, 200])) == 1, "3 of 400 is below a tenth of 100"
    assert dead_experts(np.array([90, 10, 100, 200])) == 0, "10 of 400 is a tenth of 100"


@settings(deadline=None)
@given(loads)
def test_all_figures_agree_on_the_best_and_the_worst(load):
    even, alone = np.full_like(load, 7), np.zeros_like(load)
    alone[0] = 5
    experts = len(load)
    assert normalised_entropy(even) == pytest.approx(1)
    assert jain(even) == max_over_mean(even) == pytest.approx(1)
    assert coefficient_of_variation(even) == 0
    assert normalised_entropy(alone) == 0
    assert jain(alone) == pytest.approx(1 / experts)
    assert max_over_mean(alone) == experts
    assert coefficient_of_variation(alone) == pytest.approx(math.sqrt(experts - 1))
    assert -1e-9 <= normalised_entropy(load) <= 1 + 1e-9
    assert 1 / experts - 1e-9 <= jain(load) <= 1 + 1e-9
    assert 1 <= max_over_mean(load) <= experts
    # Jain's index is a function of the coefficient of variation.
    assert jain(load) == pytest.approx(1 / (1 + coefficient_of_variation(load) ** 2))


@settings(deadline=None)
@given(tables)
def test_mutual_information_is_the_sum_over_the_joint_distribution(counts):
    total = counts.sum()
    expected = 0.0
    for row, column in product(*map(range, counts.shape)):
        if counts[row, column]:
            joint = counts[row, column] / total
            expected += joint * math.log2(joint / (counts[row].sum() / total * counts[:, column].sum() / total))
    assert mutual_information(counts) == pytest.approx(expected, abs=1e-9)
    assert mutual_information(counts.T) == pytest.approx(mutual_information(counts), abs=1e-9)


def test_independent_rows_tell_nothing_and_equal_ones_everything():
    assert mutual_information(np.outer([1, 2, 3], [4, 5])) == pytest.approx(0)
    assert mutual_information(np.diag([2, 2, 4])) == pytest.approx(1.5)
    assert mutual_information(np.zeros((2, 2), np.int64)) == 0


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 10))
def test_contingency_sums_the_rows_of_each_group(groups, seed):
    counts = np.random.default_rng(seed).integers(0, 9, (len(groups), 5))
    summed = contingency(np.array(groups), counts, 4)
    for group in range(4):
        assert summed[group].tolist() == [
            sum(counts[row][column] for row, of in enumerate(groups) if of == group) for column in range(5)
        ]


def test_groups_that_decide_the_expert_are_told_from_groups_that_do_not():
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 50)
    decided = np.where(groups[:, None] == np.array([0, 1]), 40, 0)
    free = rng.multinomial(40, [0.5, 0.5], 100)
    of_groups, of_nothing = shared_information(groups, np.hstack([decided, free]), [slice(0, 2), slice(2, 4)], seed=1)
    assert of_groups.value == pytest.approx(1)
    assert of_groups.shuffled_mean <= of_groups.shuffled_max < 0.2
    assert of_nothing.value <= of_nothing.shuffled_max
    again = shared_information(groups, np.hstack([decided, free]), [slice(0, 2), slice(2, 4)], seed=1)
    assert again == [of_groups, of_nothing]


def test_tokens_of_one_item_are_not_taken_for_independent():
    # Twenty items, each with an expert of its own whim, in two groups that mean nothing: by chance the groups differ a
    # little. Dealing out the 2000 tokens one by one would call that a finding.
    rng = np.random.default_rng(5)
    counts = np.zeros((20, 4), np.int64)
    counts[np.arange(20), rng.integers(0, 4, 20)] = 100
    groups = np.arange(20) % 2
    (figure,) = shared_information(groups, counts, [slice(0, 4)], seed=0)
    tokens = np.repeat(groups, 100)
    chosen = np.repeat(counts.argmax(axis=1), 100)
    one_by_one = max(
        mutual_information(np.histogram2d(rng.permutation(tokens), chosen, bins=(2, 4))[0]) for _ in range(20)
    )
    assert one_by_one < figure.value <= figure.shuffled_max


def test_items_without_a_group_are_left_out():
    counts = np.array([[3, 0], [0, 3], [50, 50]])
    (figure,) = shared_information(np.array([0, 1, -1]), counts, [slice(0, 2)], seed=0)
    assert figure.value == pytest.approx(1)
    (nothing,) = shared_information(np.array([-1, -1, -1]), counts, [slice(0, 2)], seed=0)
    assert (nothing.value, nothing.shuffled_max) == (0, 0)


def one_by_one(counts):
    """The tokens behind counts of a router of one choice: the id and the expert of each."""
    ids, experts = (axis.ravel() for axis in np.indices(counts.shape))
    return np.repeat(ids, counts.ravel()), np.repeat(experts, counts.ravel())[:, None]


def of_tokens(codes, choices, ids, experts):
    """The counts behind tokens."""
    counts = np.zeros((ids, experts), np.int64)
    np.add.at(counts, (codes[:, None], choices), 1)
    return counts


def test_vocabulary_specialisation_by_hand():
    counts = np.array([[9, 1, 0], [5, 5, 0], [0, 1, 0], [2, 2, 16]])
    found = vocabulary_specialisation(counts, *one_by_one(counts), least=10, seed=0)
    assert (found.ids, found.tokens) == (3, 40)
    assert found.figure.value == pytest.approx((0.9 + 0.5 + 0.8) / 3)
    assert found.figure.shuffled_mean <= found.figure.shuffled_max < found.figure.value
    assert vocabulary_specialisation(counts, *one_by_one(counts), least=21, seed=0) is None


def test_a_vocabulary_that_decides_nothing_looks_like_its_shuffles():
    counts = np.random.default_rng(2).multinomial(60, [0.5, 0.3, 0.2], 200)
    figure = vocabulary_specialisation(counts, *one_by_one(counts), least=10, seed=0).figure
    assert figure.value == pytest.approx(figure.shuffled_mean, abs=0.02)
    assert figure.value > 0.5, "few occurrences look special by chance, which is why the shuffles stand beside it"


def test_shuffles_give_no_token_an_expert_twice():
    # Four of eight experts for each token, whatever its id; one of them is in nearly every choice. Its share is at most
    # a quarter, and chance must know that.
    rng = np.random.default_rng(4)
    wanted = np.log([0.995, *[0.43] * 7]) + rng.gumbel(size=(4000, 8)) * np.array([0.05, *[1] * 7])
    choices, codes = np.argsort(-wanted, axis=1)[:, :4], rng.integers(0, 200, 4000)
    figure = vocabulary_specialisation(of_tokens(codes, choices, 200, 8), codes, choices, least=10, seed=0).figure
    assert figure.shuffled_max <= 0.25 + 1e-12
    assert figure.value == pytest.approx(figure.shuffled_mean, abs=0.002)


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 60), st.integers(0, 99))
def test_shuffles_keep_the_choices_of_a_token_and_the_tokens_of_an_id(k, tokens, seed):
    rng = np.random.default_rng(seed)
    choices, codes = np.array([rng.permutation(6)[:k] for _ in range(tokens)]), rng.integers(0, 5, tokens)
    occurrences = np.bincount(codes, minlength=5)
    for table in figures._dealt(occurrences, choices, 6, seed, 3):
        assert (table.sum(axis=1) == k * occurrences).all()
        assert (table <= occurrences[:, None]).all()
        assert table.sum(axis=0).tolist() == np.bincount(choices.ravel(), minlength=6).tolist()


def test_shuffles_of_many_tokens_go_on_where_a_sample_of_them_ends(monkeypatch):
    occurrences, choices = np.array([7, 0, 14]), np.array([[0, 1], [1, 2], [0, 3]])
    monkeypatch.setattr(figures, "DEALT_TOKENS", 5)
    (table,) = figures._dealt(occurrences, choices, 4, 0, 1)
    assert table.sum(axis=1).tolist() == [14, 0, 28]
    assert table.sum(axis=0).tolist() == [14, 14, 7, 7]


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 99))
def test_overlap_counts_the_experts_that_both_name(tokens, k, seed):
    rng = np.random.default_rng(seed)
    first, second = (np.array([rng.permutation(6)[:k] for _ in range(tokens)]) for _ in range(2))
    assert overlap(first, second) == sum(len(set(a) & set(b)) for a, b in zip(first, second, strict=True))
    assert overlap(first, first[:, ::-1]) == tokens * k


def test_clusters_are_those_of_the_vectors_and_the_same_each_time():
    rng = np.random.default_rng(0)
    centres = 10 * rng.normal(size=(3, 8))
    of = np.arange(60) % 3
    vectors = (centres[of] + rng.normal(size=(60, 8))).astype(np.float32)
    found = embedding_clusters(vectors, 3, seed=0)
    assert (found == embedding_clusters(vectors, 3, seed=0)).all()
    assert len(set(zip(of.tolist(), found.tolist(), strict=True))) == 3
    assert set(embedding_clusters(np.ones((5, 2), np.float32), 3, seed=0)) == {0}, "all vectors are one"
