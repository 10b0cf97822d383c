"""Routing tables against counting by hand."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from aura.experts.checks import no_dead_expert, shares_sum_to_one
from aura.experts.plots import plot_expert_load, plot_label_experts
from aura.experts.routing_table import (
    RoutedItems,
    RoutingTable,
    RoutingTableError,
    mutual_information,
    route,
    tabulate,
)


@pytest.fixture(scope="module")
def labels(digits):
    return [None if number % 10 == 0 else label for number, label in enumerate(digits.labels)]


@pytest.fixture(scope="module")
def table(digit_model, digits, labels):
    return route(digit_model, digits.vectors, labels, digits.item_ids)


def collapsed(model, labels):
    items = len(labels)
    return tabulate(
        RoutedItems(np.zeros(items, np.int64), np.ones(items), np.ones(items, bool), np.array([1.0, 0, 0, 0])),
        labels,
        model,
        0,
    )


def test_counts_are_those_of_the_network(table, digit_model, digits, labels):
    order = np.argsort(digits.item_ids)
    module = digit_model.to_module()
    expert, kept = [], []
    for start in range(0, len(order), 128):
        with torch.no_grad():
            routing = module(torch.from_numpy(digits.vectors[order[start : start + 128]]), 1.25)[1]
        expert += routing.expert.tolist()
        kept += routing.kept.tolist()
    load, places = Counter(expert), Counter(e for e, k in zip(expert, kept, strict=True) if k)
    assert table.experts["tokens"].to_pylist() == [load[e] for e in range(4)]
    assert table.experts["kept"].to_pylist() == [places[e] for e in range(4)]
    assert table.experts["dropped"].to_pylist() == [load[e] - places[e] for e in range(4)]
    assert table.figures.dropped_share == pytest.approx(1 - sum(kept) / len(kept))
    by_label = Counter((labels[row], e) for row, e in zip(order, expert, strict=True))
    for row in table.labels.to_pylist():
        assert row["tokens"] == by_label[row["label"], row["expert"]]
    assert table.labels.num_rows == 11 * 4


def test_single_figures_follow_their_definitions(table):
    share = table.experts["share"].to_pylist()
    entropy = -sum(p * math.log(p) for p in share if p > 0) / math.log(4)
    assert table.figures.normalised_entropy == pytest.approx(entropy)
    assert table.figures.max_over_mean == pytest.approx(4 * max(share))
    assert table.experts["utilisation"].to_pylist() == pytest.approx([4 * p for p in share])
    assert sum(table.experts["mean_probability"].to_pylist()) == pytest.approx(1)


def test_mutual_information_equals_the_sum_over_the_joint_distribution():
    rng = np.random.default_rng(3)
    labels, chosen = rng.integers(0, 3, 200), rng.integers(0, 4, 200)
    expected = 0.0
    for label in range(3):
        for expert in range(4):
            joint = np.mean((labels == label) & (chosen == expert))
            expected += joint * math.log2(joint / (np.mean(labels == label) * np.mean(chosen == expert)))
    assert mutual_information(labels, chosen, 3, 4) == pytest.approx(expected)
    assert mutual_information(labels, labels, 3, 4) == pytest.approx(
        -sum(p * math.log2(p) for p in np.bincount(labels) / 200)
    )


def test_digits_and_experts_have_more_in_common_than_chance(table):
    figures = table.figures
    assert 0 < figures.shuffled_mean_bits <= figures.shuffled_max_bits < figures.mutual_information_bits


def test_the_table_is_the_same_each_time_whatever_the_order_of_rows(table, digit_model, digits, labels):
    order = np.random.default_rng(1).permutation(len(labels))
    again = route(
        digit_model, digits.vectors[order], [labels[row] for row in order], [digits.item_ids[row] for row in order]
    )
    assert again.experts.equals(table.experts)
    assert again.labels.equals(table.labels)
    assert again.figures == table.figures


def test_a_table_comes_back_from_its_parts(table):
    back = RoutingTable.from_parts(table.to_parts())
    assert back.experts.equals(table.experts)
    assert back.labels.equals(table.labels)
    assert back.figures == table.figures


def test_other_tables_are_refused(table):
    with pytest.raises(RoutingTableError, match="tables 'experts' and 'labels'"):
        RoutingTable.from_parts({"experts": table.experts})
    with pytest.raises(RoutingTableError, match="figures"):
        RoutingTable.from_parts({"experts": table.experts, "labels": table.labels})
    with pytest.raises(RoutingTableError, match="columns"):
        replace(table, labels=pa.table({"label": ["a"]}))


def test_vectors_of_another_dimension_are_refused(digit_model):
    with pytest.raises(ValueError, match="expected"):
        route(digit_model, np.zeros((2, 3), np.float32), ["a", "b"], ["1", "2"])


def test_a_trained_router_passes_the_checks_and_a_collapsed_one_is_noticed(table, digit_model):
    assert shares_sum_to_one(table).passed
    assert no_dead_expert(table).passed
    dead = collapsed(digit_model, ["a", "b"] * 20)
    assert shares_sum_to_one(dead).passed
    result = no_dead_expert(dead)
    assert not result.passed
    assert result.figures["dead_experts"] == 3
    assert dead.figures.normalised_entropy == 0
    assert dead.figures.max_over_mean == 4
    assert dead.figures.mutual_information_bits == 0
    assert dead.experts["mean_gate"].to_pylist() == [1.0, None, None, None]


def test_shares_that_do_not_sum_to_one_are_noticed(table):
    wrong = table.experts.set_column(2, table.experts.schema.field("share"), pa.array([0.5, 0.5, 0.5, 0.5]))
    result = shares_sum_to_one(replace(table, experts=wrong))
    assert not result.passed
    assert result.figures["share_sum"] == 2.0


def test_items_without_any_label_have_a_table_too(digit_model, digits):
    table = route(digit_model, digits.vectors[:40], [None] * 40, digits.item_ids[:40])
    assert table.figures.mutual_information_bits == 0
    assert table.labels["label"].to_pylist() == [None] * 4
    assert plot_label_experts(table).startswith(b"\x89PNG")


@pytest.mark.parametrize("plot", [plot_expert_load, plot_label_experts])
def test_pictures_are_small_pngs_and_the_same_each_time(table, plot):
    picture = plot(table)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 60_000
    assert picture == plot(table)
