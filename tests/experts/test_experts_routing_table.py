"""The routing table of the Switch classifier, of one layer, against counting by hand."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from aura.experts.checks import no_dead_expert, shares_sum_to_one
from aura.experts.plots import plot_coactivation, plot_expert_load, plot_label_experts, plot_transitions
from aura.experts.routing.batch import LayerRouting, RoutedBatch
from aura.experts.routing.table import RoutingTable, RoutingTableError
from aura.experts.routing.tabulate import Items, Origin, tabulate
from aura.experts.routing.tally import LayerForm, RoutingTally
from aura.experts.routing.vectors import route


@pytest.fixture(scope="module")
def labels(digits):
    return [None if number % 10 == 0 else label for number, label in enumerate(digits.labels)]


@pytest.fixture(scope="module")
def table(digit_model, digits, labels):
    return route(digit_model, digits.vectors, labels, digits.item_ids)


def collapsed(labels):
    items = len(labels)
    tally = RoutingTally([LayerForm("switch", "decoder", 4, 1, "softmax")], items)
    first = np.zeros((items, 1), np.int64)
    probabilities = np.tile(np.array([1.0, 0, 0, 0], np.float32), (items, 1))
    layer = LayerRouting(probabilities, first, np.ones((items, 1), np.float32), np.ones((items, 1), bool))
    tally.add(RoutedBatch(np.arange(items), {}, (layer,)))
    clusters = np.zeros(items, np.int64)
    return tabulate(tally, Items([str(n) for n in range(items)], labels, clusters), Origin("collapsed", "", 1), seed=0)


def test_counts_are_those_of_the_network(table, digit_model, digits, labels):
    order = np.argsort(digits.item_ids)
    module = digit_model.to_module()
    expert, kept = [], []
    for start in range(0, len(order), 128):
        with torch.no_grad():
            routing = module(torch.from_numpy(digits.vectors[order[start : start + 128]]), 1.25)[1]
        expert += routing.choices[:, 0].tolist()
        kept += routing.kept[:, 0].tolist()
    load, places = Counter(expert), Counter(e for e, k in zip(expert, kept, strict=True) if k)
    assert table.experts["tokens"].to_pylist() == [load[e] for e in range(4)]
    assert table.experts["kept"].to_pylist() == [places[e] for e in range(4)]
    assert table.experts["dropped"].to_pylist() == [load[e] - places[e] for e in range(4)]
    assert table.column("drop_rate") == pytest.approx(1 - sum(kept) / len(kept))
    by_label = Counter((labels[row], e) for row, e in zip(order, expert, strict=True))
    for row in table.labels.to_pylist():
        assert row["tokens"] == by_label[row["label"], row["expert"]]
    assert table.labels.num_rows == len(by_label)
    assert len({row["label"] for row in table.labels.to_pylist()}) == 11


def test_single_figures_follow_their_definitions(table):
    share = table.experts["share"].to_pylist()
    entropy = -sum(p * math.log(p) for p in share if p > 0) / math.log(4)
    assert table.column("normalised_entropy") == pytest.approx(entropy)
    assert table.column("max_over_mean") == pytest.approx(4 * max(share))
    assert table.column("jain") == pytest.approx(1 / (4 * sum(p * p for p in share)))
    assert table.column("coefficient_of_variation") == pytest.approx(float(np.std(share) / np.mean(share)))
    assert table.experts["utilisation"].to_pylist() == pytest.approx([4 * p for p in share])
    assert sum(table.experts["mean_probability"].to_pylist()) == pytest.approx(1)


def test_digits_and_clusters_have_more_in_common_with_experts_than_chance(table):
    row = table.layers.to_pylist()[0]
    for group in ("label", "cluster"):
        told, mean, most = (row[f"{group}{name}_bits"] for name in ("", "_shuffled_mean", "_shuffled_max"))
        assert 0 < mean <= most < told
    assert table.figures.clusters == 16
    assert row["vocabulary_specialisation"] is None
    assert row["saturation"] is None


def test_the_table_is_the_same_each_time_whatever_the_order_of_rows(table, digit_model, digits, labels):
    order = np.random.default_rng(1).permutation(len(labels))
    again = route(
        digit_model, digits.vectors[order], [labels[row] for row in order], [digits.item_ids[row] for row in order]
    )
    assert_same(again, table)


def assert_same(one, other):
    assert one.figures == other.figures
    for name, part in one.to_parts().items():
        assert part.equals(other.to_parts()[name]), name


def test_a_table_comes_back_from_its_parts(table):
    back = RoutingTable.from_parts(table.to_parts())
    assert_same(back, table)


def test_other_tables_are_refused(table):
    with pytest.raises(RoutingTableError, match="has the tables experts, layers"):
        RoutingTable.from_parts({"experts": table.experts})
    with pytest.raises(RoutingTableError, match="figures"):
        RoutingTable.from_parts({**table.to_parts(), "experts": table.experts})
    with pytest.raises(RoutingTableError, match="columns"):
        replace(table, labels=pa.table({"label": ["a"]}))


def test_vectors_of_another_dimension_are_refused(digit_model):
    with pytest.raises(ValueError, match="expected"):
        route(digit_model, np.zeros((2, 3), np.float32), ["a", "b"], ["1", "2"])


def test_a_trained_router_passes_the_checks_and_a_collapsed_one_is_noticed(table):
    assert shares_sum_to_one(table).passed
    assert no_dead_expert(table).passed
    dead = collapsed(["a", "b"] * 20)
    assert shares_sum_to_one(dead).passed
    result = no_dead_expert(dead)
    assert not result.passed
    assert result.figures["dead_experts"] == 3
    row = dead.layers.to_pylist()[0]
    assert row["normalised_entropy"] == row["label_bits"] == 0
    assert row["max_over_mean"] == 4
    assert row["jain"] == 0.25
    assert dead.experts["mean_gate"].to_pylist() == [1.0, None, None, None]


def test_shares_that_do_not_sum_to_one_are_noticed(table):
    at = table.experts.schema.get_field_index("share")
    wrong = table.experts.set_column(at, table.experts.schema.field("share"), pa.array([0.5, 0.5, 0.5, 0.5]))
    result = shares_sum_to_one(replace(table, experts=wrong))
    assert not result.passed
    assert result.figures["worst_deviation"] == 1.0


@pytest.mark.parametrize("column", ["kept", "tokens"])
def test_assignments_that_are_lost_are_noticed(table, column):
    at = table.experts.schema.get_field_index(column)
    fewer = pa.array(table.experts[column].to_numpy() - 1)
    result = shares_sum_to_one(
        replace(table, experts=table.experts.set_column(at, column, fewer).cast(table.experts.schema))
    )
    assert not result.passed
    assert result.figures["assignments_not_counted"] == 4


def test_each_item_has_its_activations(table, digits):
    assert table.items["item_id"].to_pylist() == sorted(digits.item_ids)
    assert (table.activations(0).sum(axis=1) == 1).all()
    assert table.activations(0).sum(axis=0).tolist() == table.experts["tokens"].to_pylist()


def test_items_without_any_label_have_a_table_too(digit_model, digits):
    table = route(digit_model, digits.vectors[:40], [None] * 40, digits.item_ids[:40])
    assert table.column("label_bits") == 0
    assert set(table.labels["label"].to_pylist()) == {None}
    assert plot_label_experts(table).startswith(b"\x89PNG")


@pytest.mark.parametrize("plot", [plot_expert_load, plot_label_experts, plot_coactivation, plot_transitions])
def test_pictures_are_small_pngs_and_the_same_each_time(table, plot):
    picture = plot(table)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 60_000
    assert picture == plot(table)
