"""Routing tables of language models against counting token by token."""

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from routing_models import build, letters_tokenizer

from aura.experts.checks import no_dead_expert, shares_sum_to_one
from aura.experts.plots import plot_coactivation, plot_expert_load, plot_label_experts, plot_transitions
from aura.experts.routing import tally
from aura.experts.routing.batch import LayerRouting, RoutedBatch
from aura.experts.routing.capture import capture, open_routed_model
from aura.experts.routing.errors import RoutedModelError, RoutingError
from aura.experts.routing.table import RoutingTable
from aura.experts.routing.tabulate import Items, Origin, layer_forms, route_texts, tabulate
from aura.experts.routing.tally import LayerForm, RoutingTally

TEXTS = ["a b c d e f g", "a a a b b c", "x y z x y z x y", "q", "", "h i j k l m n o p", "z z z z z z"]
LABELS = ["first", "first", "last", None, None, "first", "last"]
IDS = [f"item {number}" for number in range(len(TEXTS))]
CLUSTERS = np.array([0, 0, 1, 2, 0, 1, 1])
ITEMS = Items(IDS, LABELS, CLUSTERS)


@pytest.fixture(scope="module", params=["deepseek_v3", "olmoe", "switch"])
def counted(request, saved):
    """A table, and every token's choices in every layer, taken text by text."""
    model = open_routed_model(str(saved(request.param)))
    table = route_texts(model, TEXTS, ITEMS, tokens=8)
    alone = {}
    for number, text in enumerate(TEXTS):
        for batch in capture(model, [text], tokens=8):
            alone[number] = batch
    return model, table, alone


def tokens_of(counted):
    """(text, token id by stack, routing of each layer as (chosen, kept, probabilities, weights))."""
    _, _, alone = counted
    for number, batch in alone.items():
        for row in range(len(batch.texts)):
            ids = {stack: int(tokens[row]) for stack, tokens in batch.tokens.items()}
            layers = [(each.experts[row], each.kept[row], each.probabilities[row], each.weights[row])
                      for each in batch.layers]  # fmt: skip
            yield number, ids, layers


def rows_of(table, *keys):
    return {tuple(row[key] for key in keys): row for row in table.to_pylist()}


def test_loads_are_those_of_the_tokens(counted):
    model, table, _ = counted
    load, kept, gates, weights = Counter(), Counter(), Counter(), Counter()
    probability = [np.zeros(layer.experts) for layer in model.layers]
    total = 0
    for _, _, layers in tokens_of(counted):
        total += 1
        for layer, (chosen, has_place, shares, by_weight) in enumerate(layers):
            probability[layer] += shares
            for expert, place, weight in zip(chosen.tolist(), has_place.tolist(), by_weight.tolist(), strict=True):
                load[layer, expert] += 1
                kept[layer, expert] += place
                gates[layer, expert] += shares[expert]
                weights[layer, expert] += weight
    assert table.figures.tokens == total == 7 + 6 + 8 + 1 + 8 + 6
    assert table.figures.truncated == 1
    for (layer, expert), row in rows_of(table.experts, "layer", "expert").items():
        tokens, form = load[layer, expert], model.layers[layer]
        assert (row["tokens"], row["kept"], row["dropped"]) == (
            tokens,
            kept[layer, expert],
            tokens - kept[layer, expert],
        )
        assert row["share"] == pytest.approx(tokens / (total * form.top_k))
        assert row["utilisation"] == pytest.approx(row["share"] * form.experts)
        assert row["mean_probability"] == pytest.approx(probability[layer][expert] / total, abs=1e-6)
        if tokens:
            assert row["mean_gate"] == pytest.approx(gates[layer, expert] / tokens, abs=1e-6)
            assert row["mean_weight"] == pytest.approx(weights[layer, expert] / tokens, abs=1e-6)
        else:
            assert row["mean_gate"] is row["mean_weight"] is None
    assert table.experts.num_rows == sum(layer.experts for layer in model.layers)
    if model.name.endswith("switch/model"):
        assert table.column("drop_rate").max() > 0


def test_coactivation_counts_all_pairs_of_the_choices(counted):
    _, table, _ = counted
    pairs, load = Counter(), Counter()
    for _, _, layers in tokens_of(counted):
        for layer, (chosen, *_) in enumerate(layers):
            load.update((layer, expert) for expert in chosen.tolist())
            for first, second in combinations(chosen.tolist(), 2):
                pairs[layer, first, second] += 1
                pairs[layer, second, first] += 1
    rows = rows_of(table.coactivation, "layer", "expert", "other")
    assert {key: row["tokens"] for key, row in rows.items()} == pairs
    for (layer, expert, _), row in rows.items():
        assert row["probability"] == pytest.approx(row["tokens"] / load[layer, expert])


def test_transitions_follow_the_tokens_within_a_stack(counted):
    model, table, _ = counted
    onwards = Counter()
    for _, _, layers in tokens_of(counted):
        for layer in range(len(layers) - 1):
            if model.layers[layer].stack == model.layers[layer + 1].stack:
                for first in layers[layer][0].tolist():
                    onwards.update((layer, first, second) for second in layers[layer + 1][0].tolist())
    rows = rows_of(table.transitions, "layer", "expert", "next_expert")
    assert {key: row["pairs"] for key, row in rows.items()} == onwards
    totals = Counter()
    for (layer, first, _), count in onwards.items():
        totals[layer, first] += count
    for (layer, first, second), row in rows.items():
        assert row["probability"] == pytest.approx(onwards[layer, first, second] / totals[layer, first])


@pytest.mark.parametrize(("part", "key", "groups"), [("labels", "label", LABELS), ("clusters", "cluster", CLUSTERS)])
def test_groups_have_the_loads_of_their_items(counted, part, key, groups):
    _, table, _ = counted
    load, totals = Counter(), Counter()
    for number, _, layers in tokens_of(counted):
        for layer, (chosen, *_) in enumerate(layers):
            load.update((layer, groups[number], expert) for expert in chosen.tolist())
            totals[layer, groups[number]] += len(chosen)
    rows = rows_of(getattr(table, part), "layer", key, "expert")
    assert {at: row["tokens"] for at, row in rows.items()} == load
    assert all(row["share"] == pytest.approx(load[at] / totals[at[:2]]) for at, row in rows.items())


def test_items_have_their_activations(counted):
    model, table, alone = counted
    items = table.items.to_pylist()
    assert [(item["item_id"], item["label"], item["cluster"]) for item in items] == list(
        zip(IDS, LABELS, CLUSTERS.tolist(), strict=True)
    )
    for number, item in enumerate(items):
        assert item["tokens"] == (len(alone[number].texts) if number in alone else 0)
        for layer, form in enumerate(model.layers):
            chosen = alone[number].layers[layer].experts.ravel() if number in alone else []
            expected = np.bincount(np.asarray(chosen, np.int64), minlength=form.experts)
            assert table.activations(layer)[number].tolist() == expected.tolist()


def test_information_is_that_of_the_counts_by_label(counted):
    _, table, _ = counted
    for row in table.layers.to_pylist():
        counts = np.zeros((2, row["experts"]))
        for each in table.labels.to_pylist():
            if each["layer"] == row["layer"] and each["label"] is not None:
                counts[["first", "last"].index(each["label"]), each["expert"]] = each["tokens"]
        joint = counts / counts.sum()
        apart = np.outer(joint.sum(axis=1), joint.sum(axis=0))
        told = joint > 0
        assert row["label_bits"] == pytest.approx((joint[told] * np.log2(joint[told] / apart[told])).sum())
        assert row["label_shuffled_mean_bits"] <= row["label_shuffled_max_bits"]


def test_the_tables_pass_their_checks_and_come_back_from_their_parts(counted):
    _, table, _ = counted
    assert shares_sum_to_one(table).passed
    assert no_dead_expert(table).figures["dead_experts"] == table.column("dead_experts").sum()
    back = RoutingTable.from_parts(table.to_parts())
    assert back.figures == table.figures
    for name, part in table.to_parts().items():
        assert part.equals(back.to_parts()[name]), name


@pytest.mark.parametrize("counted", ["olmoe"], indirect=True)
@pytest.mark.parametrize("plot", [plot_expert_load, plot_label_experts, plot_coactivation, plot_transitions])
def test_heat_maps_are_small_pngs_and_the_same_each_time(counted, plot):
    _, table, _ = counted
    picture = plot(table)
    assert picture.startswith(b"\x89PNG")
    assert 2_000 < len(picture) < 60_000
    assert picture == plot(table)


def test_the_size_of_the_batches_changes_no_count(saved):
    model = open_routed_model(str(saved("olmoe")))
    whole, parts = (RoutingTally(layer_forms(model), len(TEXTS)) for _ in range(2))
    whole.add_all(capture(model, TEXTS))
    parts.add_all(capture(model, TEXTS, batch_tokens=5))
    for one, other in zip(whole.layers, parts.layers, strict=True):
        assert (one.load == other.load).all()
        assert (one.pairs == other.pairs).all()
        assert one.onwards is other.onwards is None or (one.onwards == other.onwards).all()
        # Codes are given out as ids are first seen.
        assert sorted(map(tuple, one.vocabulary)) == sorted(map(tuple, other.vocabulary))
    assert (whole.items == parts.items).all()


def test_vocabulary_specialisation_counts_ids_that_occur_often_enough(saved):
    model = open_routed_model(str(saved("olmoe")))
    texts = ["a b a b a b", "a b c c a b", "b a a d b b", "a b"] * 2
    items = Items([str(number) for number in range(8)], [None] * 8, np.zeros(8, np.int64))
    table = route_texts(model, texts, items, tokens=50)
    often, load = letters_tokenizer()("a b")["input_ids"], Counter()
    for text in texts:
        (batch,) = capture(model, [text])
        for id_, chosen in zip(batch.tokens["decoder"].tolist(), batch.layers[0].experts.tolist(), strict=True):
            load.update((id_, expert) for expert in chosen)
    favourites = [
        max(count for (of, _), count in load.items() if of == id_) / sum(c for (of, _), c in load.items() if of == id_)
        for id_ in often
    ]
    row = table.layers.to_pylist()[0]
    assert row["vocabulary_ids"] == 2, "c and d occur too rarely"
    assert row["vocabulary_specialisation"] == pytest.approx(np.mean(favourites))
    assert row["vocabulary_share"] == pytest.approx(
        sum(n for (of, _), n in load.items() if of in often) / sum(load.values())
    )
    assert row["vocabulary_shuffled_max"] <= 1 / row["top_k"]


def test_the_frequent_ids_are_counted_where_there_is_no_room_for_all(saved, monkeypatch):
    model = open_routed_model(str(saved("olmoe")))
    texts = ["p q r s t u v w x y z", "h i j k l m n", "a b " * 12]
    items = Items(["0", "1", "2"], [None] * 3, np.zeros(3, np.int64))
    monkeypatch.setattr(tally, "VOCABULARY_BYTES", 2 * 8 * sum(layer.experts for layer in model.layers))
    table = route_texts(model, texts, items, tokens=50)
    row = table.layers.to_pylist()[0]
    assert row["vocabulary_ids"] == 2, "a and b, though they come last"
    assert row["vocabulary_share"] == pytest.approx(24 / 42)


def test_a_sample_of_tokens_stands_for_all_where_these_find_no_room(monkeypatch):
    form = LayerForm("a", "decoder", 3, 2, "softmax")
    monkeypatch.setattr(tally, "SAMPLE_BYTES", 12 * 100)
    rng, counted = np.random.default_rng(0), RoutingTally([form], 1)
    for _ in range(10):
        chosen = np.array([rng.permutation(3)[:2] for _ in range(300)])
        routing = LayerRouting(np.full((300, 3), 1 / 3, np.float32), chosen, np.ones((300, 2), np.float32),
                               np.ones((300, 2), bool))  # fmt: skip
        # The id says what was chosen, so that a sampled token is known to be one of those that there were.
        ids = chosen @ np.array([3, 1])
        counted.add(RoutedBatch(np.zeros(300, np.int64), {"decoder": ids}, (routing,)))
    codes, choices = counted.sample(0)
    assert choices.shape == (100, 2)
    assert len({(code, *chosen) for code, chosen in zip(codes.tolist(), choices.tolist(), strict=True)}) == 6
    row = tabulate(counted, Items(["x"], ["l"], np.array([0])), Origin("m", "f", 3), seed=0).layers.to_pylist()[0]
    assert (row["vocabulary_ids"], row["vocabulary_share"], row["vocabulary_specialisation"]) == (6, 1, 0.5)
    assert row["vocabulary_shuffled_max"] < 0.4


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """The model "olmoe" with other routers."""
    directory = tmp_path_factory.mktemp("earlier") / "olmoe"
    model = build("olmoe")
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".gate.weight" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(directory)
    letters_tokenizer().save_pretrained(directory)
    return open_routed_model(str(directory))


class TestSaturation:
    """How much of the routing an earlier checkpoint had settled."""

    def test_it_is_the_share_of_choices_that_both_made(self, saved, earlier):
        model = open_routed_model(str(saved("olmoe")))
        table = route_texts(model, TEXTS, ITEMS, tokens=8, earlier=earlier)
        both = np.zeros(len(model.layers))
        tokens = 0
        for text in TEXTS:
            for now, then in zip(capture(model, [text], tokens=8), capture(earlier, [text], tokens=8), strict=True):
                tokens += len(now.texts)
                for layer, (one, other) in enumerate(zip(now.layers, then.layers, strict=True)):
                    pairs = zip(one.experts.tolist(), other.experts.tolist(), strict=True)
                    both[layer] += sum(len(set(a) & set(b)) / 3 for a, b in pairs)
        assert table.column("saturation") == pytest.approx(both / tokens)
        assert (table.column("saturation") < 1).all()
        assert table.figures.earlier == earlier.name

    def test_a_model_is_wholly_settled_beside_itself(self, saved):
        model = open_routed_model(str(saved("olmoe")))
        table = route_texts(model, TEXTS, ITEMS, tokens=8, earlier=model)
        assert (table.column("saturation") == 1).all()

    def test_another_architecture_is_refused(self, saved):
        model, other = (open_routed_model(str(saved(name))) for name in ("olmoe", "mixtral"))
        with pytest.raises(RoutedModelError, match="other sparse layers"):
            route_texts(model, TEXTS, ITEMS, tokens=8, earlier=other)

    def test_another_tokenizer_is_refused(self, saved, earlier):
        model = open_routed_model(str(saved("olmoe")))
        foreign = letters_tokenizer()
        foreign.add_tokens(["b c"])
        with pytest.raises(RoutedModelError, match="the same tokenizer"):
            route_texts(model, TEXTS, ITEMS, tokens=8, earlier=replace(earlier, tokenizer=foreign))

    def test_a_tokenizer_that_leaves_texts_without_tokens_is_refused(self, saved, earlier):
        model = open_routed_model(str(saved("olmoe")))
        texts = ["a", "b b"]
        items = Items(["0", "1"], [None, None], np.array([0, 0]))

        class Deaf:
            pad_token_id = model.tokenizer.pad_token_id

            def __call__(self, read, **options):
                return {"input_ids": [[] for _ in read]}

        with pytest.raises(RoutedModelError, match="the same tokenizer"):
            route_texts(model, texts, items, tokens=8, earlier=replace(earlier, tokenizer=Deaf()))

    def test_other_limits_are_named(self, saved, earlier):
        model = open_routed_model(str(saved("olmoe")))
        with pytest.raises(RoutedModelError, match=r"reads 8 tokens .* checkpoint 5 .* give tokens = 5"):
            route_texts(model, TEXTS, ITEMS, tokens=8, earlier=replace(earlier, positions=5))
        assert route_texts(model, TEXTS, ITEMS, tokens=5, earlier=replace(earlier, positions=5)).figures.earlier

    def test_a_capacity_in_one_of_both_is_named(self, saved, monkeypatch):
        model, earlier = (open_routed_model(str(saved("olmoe"))) for _ in range(2))
        monkeypatch.setattr(earlier.layers[0].router, "capacity_factor", 1.25, raising=False)
        with pytest.raises(RoutedModelError, match="the earlier checkpoint has a capacity_factor and the model has"):
            route_texts(model, TEXTS, ITEMS, tokens=8, earlier=earlier)


def test_texts_without_any_token_are_refused(saved):
    model = open_routed_model(str(saved("olmoe")))
    with pytest.raises(RoutingError, match="none of 1 items has a token"):
        route_texts(model, [""], Items(["only"], [None], np.array([-1])), tokens=8)


def test_layers_of_different_sizes_stand_side_by_side():
    forms = [LayerForm("a", "decoder", 2, 1, "softmax"), LayerForm("b", "decoder", 3, 2, "softmax")]
    counted = RoutingTally(forms, 2)
    first = LayerRouting(np.full((3, 2), 0.5, np.float32), np.array([[0], [1], [1]]), np.ones((3, 1), np.float32),
                         np.ones((3, 1), bool))  # fmt: skip
    second = LayerRouting(np.full((3, 3), 1 / 3, np.float32), np.array([[0, 1], [2, 1], [0, 2]]),
                          np.full((3, 2), 0.5, np.float32), np.ones((3, 2), bool))  # fmt: skip
    counted.add(RoutedBatch(np.array([0, 0, 1]), {"decoder": np.array([5, 5, 6])}, (first, second)))
    table = tabulate(counted, Items(["x", "y"], ["l", "l"], np.array([0, 1])), Origin("m", "f", 3), seed=0)
    assert table.items["activations"].to_pylist() == [[1, 1, 1, 2, 1], [0, 1, 1, 0, 1]]
    assert table.transitions.to_pylist() == [
        {"layer": 0, "expert": 0, "next_expert": 0, "pairs": 1, "probability": 0.5},
        {"layer": 0, "expert": 0, "next_expert": 1, "pairs": 1, "probability": 0.5},
        {"layer": 0, "expert": 1, "next_expert": 0, "pairs": 1, "probability": 0.25},
        {"layer": 0, "expert": 1, "next_expert": 1, "pairs": 1, "probability": 0.25},
        {"layer": 0, "expert": 1, "next_expert": 2, "pairs": 2, "probability": 0.5},
    ]
    assert shares_sum_to_one(table).passed
