"""Routing taken by hooks against the same routing computed by hand from the routers' weights and inputs."""

import itertools
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from routing_models import MODELS, SPARSE_LAYERS, VOCABULARY, build
from safetensors.torch import load_file, save_file

from aura.experts.routing.batch import LayerRouting
from aura.experts.routing.capture import capture, listen, open_routed_model
from aura.experts.routing.errors import NotAMixtureError, RoutedModelError
from aura.experts.routing.layers import find_sparse_layers, inputs_for

ROWS, LENGTH, PADDED = 3, 12, 4


@pytest.fixture(scope="module", params=sorted(MODELS))
def routed(request):
    """A model, its layers, its logits without and with hooks, its routings, and what its routers saw."""
    model = build(request.param)
    layers = find_sparse_layers(model)
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(1, VOCABULARY, (ROWS, LENGTH), generator=generator)
    mask = torch.ones_like(ids)
    ids[-1, -PADDED:] = mask[-1, -PADDED:] = 0
    inputs = inputs_for(model, ids, mask)
    seen = []
    with torch.no_grad():
        before = model(**inputs, use_cache=False).logits
        handles = [
            layer.router.register_forward_pre_hook(lambda _, args: seen.append(args[0].double())) for layer in layers
        ]
        with listen(layers) as listener:
            during = model(**inputs, use_cache=False).logits
            routings = listener.take()
        for handle in handles:
            handle.remove()
        after = model(**inputs, use_cache=False).logits
    return request.param, layers, (before, during, after), routings, seen


def softmax(logits):
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def best(scores, k):
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def by_hand(name, layer, states):
    """Probabilities, chosen experts, their weights and who was kept, after the architecture's paper."""
    router, k = layer.router, layer.top_k
    matrix = router.classifier.weight if name == "switch" else router.weight
    tokens = states.reshape(-1, states.shape[-1]).numpy()
    logits = tokens @ matrix.detach().double().numpy().T
    if name == "gpt_oss":
        logits += router.bias.detach().double().numpy()
        chosen = best(logits, k)
        return softmax(logits), chosen, softmax(np.take_along_axis(logits, chosen, 1)), None
    if name == "deepseek_v3":
        scores = 1 / (1 + np.exp(-logits))
        biased = scores + router.e_score_correction_bias.double().numpy()
        groups = biased.reshape(len(tokens), router.num_group, -1)
        two_best = np.sort(groups, axis=2)[:, :, -2:].sum(axis=2)
        allowed = np.zeros(two_best.shape, bool)
        np.put_along_axis(allowed, best(two_best, router.topk_group), True, 1)
        chosen = best(np.where(np.repeat(allowed, groups.shape[2], axis=1), biased, -np.inf), k)
        weights = np.take_along_axis(scores, chosen, 1)
        probabilities = scores / scores.sum(axis=1, keepdims=True)
        return probabilities, chosen, 2.5 * weights / weights.sum(axis=1, keepdims=True), None
    probabilities = softmax(logits)
    chosen = best(probabilities, k)
    if name == "deepseek_v2":
        groups = probabilities.reshape(len(tokens), router.num_group, -1).max(axis=2)
        allowed = np.zeros(groups.shape, bool)
        np.put_along_axis(allowed, best(groups, router.topk_group), True, 1)
        chosen = best(np.where(np.repeat(allowed, 2, axis=1), probabilities, 0), k)
        return probabilities, chosen, 1.5 * np.take_along_axis(probabilities, chosen, 1), None
    weights = np.take_along_axis(probabilities, chosen, 1)
    kept = np.ones(chosen.shape, bool)
    if name in {"mixtral", "qwen3_moe", "aura_moe", "aura_moe_with_capacity"}:
        weights = weights / weights.sum(axis=1, keepdims=True)
    for start, end, capacity in queues(name, chosen, layer.experts):
        places = dict.fromkeys(range(layer.experts), capacity)
        # One sequence in order of arrival, or a batch by its greatest probability; first choices before second ones.
        arrivals = np.arange(start, end) if name == "switch" else np.argsort(-probabilities.max(axis=1), kind="stable")
        for rank, token in itertools.product(range(k), arrivals):
            places[chosen[token, rank]] -= 1
            kept[token, rank] = places[chosen[token, rank]] >= 0
    return probabilities, chosen, np.where(kept, weights, 0), kept


def queues(name, chosen, experts):
    """First and last token of those that compete for places, and the places of an expert."""
    if name == "switch":
        return [(row * LENGTH, (row + 1) * LENGTH, 3) for row in range(ROWS)]
    if name == "aura_moe_with_capacity":
        return [(0, len(chosen), math.ceil(chosen.size / experts))]
    return []


def by_expert(experts, values, count):
    """Values [T, k] in the place of their expert [T, E], so that the order of the k does not matter."""
    spread = np.zeros((len(experts), count))
    np.put_along_axis(spread, experts, values, 1)
    return spread


def test_listening_changes_no_bit_of_the_outputs(routed):
    _, _, (before, during, after), _, _ = routed
    assert torch.equal(before, during)
    assert torch.equal(before, after)


def test_the_sparse_layers_are_found_and_the_dense_ones_are_not(routed):
    name, layers, _, _, _ = routed
    assert [layer.stack for layer in layers] == SPARSE_LAYERS.get(name, ["decoder"] * 3)
    assert {layer.scoring for layer in layers} == {"sigmoid" if name == "deepseek_v3" else "softmax"}


def test_the_routing_is_the_one_computed_by_hand(routed):
    name, layers, _, routings, seen = routed
    assert len(layers) == len(routings) == len(seen)
    present = np.arange(ROWS * LENGTH) < ROWS * LENGTH - PADDED * name.startswith("aura_moe")
    for layer, everywhere, states in zip(layers, routings, seen, strict=True):
        # Our own gates send padding to no expert.
        assert (everywhere.experts[~present] == layer.experts).all()
        assert not everywhere.kept[~present].any()
        routing = LayerRouting(**{part: values[present] for part, values in vars(everywhere).items()})
        probabilities, chosen, weights, kept = by_hand(name, layer, states.reshape(-1, states.shape[-1])[present])
        kept = np.ones(chosen.shape, bool) if kept is None else kept
        assert routing.probabilities == pytest.approx(probabilities, abs=1e-5)
        assert routing.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
        assert (np.sort(routing.experts, axis=1) == np.sort(chosen, axis=1)).all()
        assert by_expert(routing.experts, routing.weights, layer.experts) == pytest.approx(
            by_expert(chosen, weights, layer.experts), abs=1e-5
        )
        assert (by_expert(routing.experts, routing.kept, layer.experts) == by_expert(chosen, kept, layer.experts)).all()
        if name in {"switch", "aura_moe_with_capacity"}:
            assert 0 < (~routing.kept).sum() < routing.kept.size


def test_only_the_rows_that_are_asked_for_count():
    model = build("olmoe")
    layers = find_sparse_layers(model)
    ids = torch.arange(1, 9)[None]
    rows = torch.tensor([True, False] * 4)
    with torch.no_grad(), listen(layers) as listener:
        model(input_ids=ids, use_cache=False)
        everything = listener.take()
        listener.rows = rows
        model(input_ids=ids, use_cache=False)
        some = listener.take()
    for layer, part in zip(everything, some, strict=True):
        assert (layer.experts[rows.numpy()] == part.experts).all()
        assert (layer.probabilities[rows.numpy()] == part.probabilities).all()


SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 32,
    "moe_intermediate_size": 16,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "first_k_dense_replace": 0,
    "pad_token_id": 0,
}


@pytest.mark.parametrize(
    ("family", "scoring"),
    [("GraniteMoe", "softmax"), ("HunYuanMoEV1", "softmax"), ("Glm4Moe", "sigmoid"), ("MiniMaxM2", "sigmoid")],
)
def test_architectures_that_nothing_here_names_are_read_too(family, scoring):
    import transformers as hf

    torch.manual_seed(0)
    model = getattr(hf, f"{family}ForCausalLM")(getattr(hf, f"{family}Config")(**SIZES))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "gate.weight" in name or "router" in name:
                parameter.normal_(std=0.5)
    model.model.eval()
    layers = find_sparse_layers(model)
    assert [(layer.experts, layer.top_k, layer.scoring) for layer in layers] == [(4, 2, scoring)] * 2
    assert model.training
    assert not model.model.training, "every module is left in the mode that it was in"


def test_a_dense_model_is_no_mixture():
    import transformers as hf

    dense = hf.Qwen3ForCausalLM(
        hf.Qwen3Config(
            vocab_size=32,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=8,
            intermediate_size=16,
        )
    )
    with pytest.raises(NotAMixtureError, match="Qwen3ForCausalLM is not a mixture of experts"):
        find_sparse_layers(dense)


def test_experts_that_do_not_get_what_their_router_chose_are_refused():
    import transformers as hf

    model = hf.NllbMoeForConditionalGeneration(
        hf.NllbMoeConfig(
            vocab_size=32,
            d_model=16,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            encoder_sparse_step=2,
            decoder_sparse_step=2,
            num_experts=4,
            expert_capacity=8,
            max_position_embeddings=64,
        )
    )
    with pytest.raises(NotAMixtureError, match=r"called with torch.int64\[16, 4\]"):
        find_sparse_layers(model.eval())


class TestFromDirectories:
    """Models that are opened the way a user's are."""

    def test_every_token_of_every_text_is_counted_once_and_padding_never(self, saved):
        model = open_routed_model(str(saved("mixtral")))
        texts = ["a b c", "", "d e f g h i j k", "c"]
        batches = list(capture(model, texts, batch_tokens=16))
        counted = np.bincount(np.concatenate([batch.texts for batch in batches]), minlength=4)
        assert counted.tolist() == [3, 0, 8, 1]
        for batch in batches:
            assert all(len(layer.experts) == len(batch.texts) for layer in batch.layers)
            assert len(batch.tokens["decoder"]) == len(batch.texts)
        ids = np.concatenate([batch.tokens["decoder"] for batch in batches])
        assert sorted(ids) == sorted(id_ for text in texts for id_ in model.tokenizer(text)["input_ids"])

    @pytest.mark.parametrize("name", ["mixtral", "switch"])
    def test_padding_changes_nobodys_routing(self, saved, name):
        model = open_routed_model(str(saved(name)))
        texts = ["a b c d e f g h", "i j k", "l m n o p"]
        together = list(capture(model, texts))
        assert len(together) == 1
        for number, text in enumerate(texts):
            (alone,) = capture(model, [text])
            rows = together[0].texts == number
            for stack, ids in together[0].tokens.items():
                assert (ids[rows] == alone.tokens[stack]).all()
            for layer, one in zip(together[0].layers, alone.layers, strict=True):
                assert (layer.experts[rows] == one.experts).all()
                assert (layer.kept[rows] == one.kept).all()
                assert layer.probabilities[rows] == pytest.approx(one.probabilities, abs=1e-5)

    def test_where_a_batch_shares_places_only_equal_lengths_share_a_batch(self, saved):
        model = open_routed_model(str(saved("aura_moe_with_capacity")))
        batches = list(capture(model, ["a b", "c d e", "f g", "h i j"]))
        assert [sorted(set(batch.texts.tolist())) for batch in batches] == [[1, 3], [0, 2]]

    def test_long_texts_are_cut_and_said_to_be(self, saved):
        model = open_routed_model(str(saved("mixtral")))
        (batch,) = capture(model, ["a b c d e", "f g h"], tokens=3)
        assert np.bincount(batch.texts).tolist() == [3, 3]
        assert batch.truncated == 1
        (batch,) = capture(model, [" ".join("a" * 500)], tokens=500)
        assert len(batch.texts) == model.positions == 128

    def test_batches_stay_small_however_many_texts_there_are(self, saved):
        model = open_routed_model(str(saved("mixtral")))
        sizes = [len(batch.texts) for batch in capture(model, ["a b c d"] * 600, batch_tokens=256)]
        assert max(sizes) == 256
        assert sum(sizes) == 2400

    def test_a_decoder_beside_an_encoder_reads_the_text_one_place_to_the_right(self, saved):
        model = open_routed_model(str(saved("switch")))
        (batch,) = capture(model, ["a b c"])
        assert batch.tokens["decoder"].tolist() == [0, *batch.tokens["encoder"][:-1]]

    def test_the_error_says_what_is_missing(self, saved, tmp_path):
        with pytest.raises(RoutedModelError, match="neither a directory on this machine nor a hub name"):
            open_routed_model(str(tmp_path / "nowhere"))
        directory = saved("mixtral")
        bare = tmp_path / "bare"
        bare.mkdir()
        for name in ("config.json", "model.safetensors"):
            (bare / name).write_bytes((directory / name).read_bytes())
        with pytest.raises(RoutedModelError, match="no tokenizer"):
            open_routed_model(str(bare))
        with pytest.raises(NotAMixtureError, match="qwen3"):
            open_routed_model(str(saved("dense")))

    def test_a_hub_name_is_looked_for_on_this_machine_alone_when_offline(self, monkeypatch, tmp_path):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(RoutedModelError, match=r"'nobody/nothing' is neither .* nor in the local cache"):
            open_routed_model("nobody/nothing")

    def test_a_router_without_weights_is_not_made_up(self, saved, tmp_path):
        directory = Path(shutil.copytree(saved("mixtral"), tmp_path / "model"))
        weights = load_file(directory / "model.safetensors")
        (router,) = (name for name in weights if "layers.1." in name and name.endswith("gate.weight"))
        save_file({name: each for name, each in weights.items() if name != "lm_head.weight"},
                  directory / "model.safetensors", {"format": "pt"})  # fmt: skip
        assert open_routed_model(str(directory)).layers, "the head routes nothing"
        del weights[router]
        save_file(weights, directory / "model.safetensors", {"format": "pt"})
        with pytest.raises(RoutedModelError, match=r"lacks the weights model\.layers\.1\."):
            open_routed_model(str(directory))
        (directory / "model.safetensors").write_bytes(b"no tensors at all")
        with pytest.raises(RoutedModelError, match="cannot be opened"):
            open_routed_model(str(directory))

    def test_weights_in_pickle_files_are_refused(self, saved, tmp_path):
        directory = saved("mixtral")
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            (tmp_path / name).write_bytes((directory / name).read_bytes())
        torch.save({}, tmp_path / "pytorch_model.bin")
        with pytest.raises(RoutedModelError, match="no safetensors weights"):
            open_routed_model(str(tmp_path))
