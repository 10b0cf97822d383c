"""Every mode answers bit by bit what the model answers that has all its experts in memory, within its budget."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from offload_models import NAMES, build
from safetensors.torch import load_file, save_file

from aura.experts.offload.checkpoint import open_complete
from aura.experts.offload.errors import ModelFilesError, OffloadError, UnknownModelError
from aura.experts.offload.figures import Mode
from aura.experts.offload.runtime import ExpertRuntime, _choices, _on_host
from aura.experts.offload.store import ExpertStore, expert_key
from aura.tiers.budgets import TierBudgets
from aura.tiers.records import Tier
from aura.tiers.store import join_store, open_store

PROMPT = [3, 17, 42, 5, 9, 60, 11, 2]
SLOW_TIERS = {"L3": 0, "L2": 1 << 20}
CASES = [*((name, "L3") for name in NAMES), *((name, "L2") for name in ("qwen", "gpt-oss", "switch"))]


def expert_bytes(store, name):
    return ExpertStore(store).entries(name)[0].bytes


def opened(directory, *, process_bytes=100_000, arena_bytes=0, online=False):
    budgets = TierBudgets(
        process_bytes=process_bytes, arena_bytes=arena_bytes, online=online, background_bytes_per_second=0
    )
    return open_store(directory, budgets=budgets)


def within_capacity(store):
    return all(state.capacity_bytes is None or state.used_bytes <= state.capacity_bytes for state in store.tiers())


@pytest.mark.parametrize("name", NAMES)
def test_the_kernel_answers_what_transformers_answers(name, saved):
    ids = torch.tensor([PROMPT])
    theirs, ours = build(name), open_complete(saved(name))
    more = {"decoder_input_ids": ids} if theirs.config.is_encoder_decoder else {}
    with torch.inference_mode():
        expected, found = theirs(ids, **more).logits, ours(ids, **more).logits
    tolerance = 2e-2 if expected.dtype == torch.bfloat16 else 1e-5
    assert torch.allclose(found.float(), expected.float(), atol=tolerance)


@pytest.mark.parametrize(("name", "slow"), CASES)
def test_all_modes_answer_bit_by_bit_alike(name, slow, saved, tmp_path):
    answers = {}
    with opened(tmp_path / "store", process_bytes=90_000, arena_bytes=SLOW_TIERS[slow]) as store:
        ExpertStore(store).put(saved(name))
        for mode in Mode:
            # Room for five experts, less than a token uses in the models with three layers.
            with ExpertRuntime(store, name, mode=mode, budget_bytes=5 * expert_bytes(store, name)) as runtime:
                for seed, temperature in ((0, 0.0), (1, 1.0)):
                    answer = runtime.generate(
                        PROMPT, max_new_tokens=16, min_new_tokens=16, temperature=temperature, seed=seed
                    )
                    with torch.inference_mode():
                        given = torch.tensor([PROMPT + answer.tokens.tolist()])
                        more = {"decoder_input_ids": given} if runtime.network.config.is_encoder_decoder else {}
                        logits = runtime.network(given, **more).logits
                    tokens, same = answers.setdefault(seed, (answer.tokens, logits))
                    np.testing.assert_array_equal(answer.tokens, tokens)
                    assert torch.equal(logits, same)
                    assert within_capacity(store)
    assert len(set(map(tuple, (tokens.tolist() for tokens, _ in answers.values())))) == 2


def test_prefetch_and_eviction_beside_moves_by_others_change_nothing(saved, tmp_path):
    """Everything at once: a budget of a few experts, another thread that moves experts, and the store's own layer."""
    with opened(tmp_path / "store", process_bytes=70_000, arena_bytes=100_000, online=True) as store:
        model = ExpertStore(store).put(saved("qwen"))
        with ExpertRuntime(store, "qwen", mode=Mode.RESIDENT) as resident:
            expected = [resident.generate([1 + n, *PROMPT], max_new_tokens=24).tokens for n in range(6)]
        stop, over = threading.Event(), []

        def move():
            random = np.random.default_rng(0)
            while not stop.is_set():
                keys = random.choice(model.keys, size=3)
                store.move({str(key): random.choice([Tier.L1, Tier.L2, Tier.L3]) for key in keys})
                over.extend([] if within_capacity(store) else [store.tiers()])

        mover = threading.Thread(target=move)
        mover.start()
        try:
            for mode in (Mode.PLANNED, Mode.LRU, Mode.ONLINE):
                with ExpertRuntime(store, "qwen", mode=mode, budget_bytes=50_000) as runtime:
                    for n, tokens in enumerate(expected):
                        answer = runtime.generate([1 + n, *PROMPT], max_new_tokens=24)
                        np.testing.assert_array_equal(answer.tokens, tokens)
        finally:
            stop.set()
            mover.join()
        assert not over


def test_the_budget_is_kept_at_every_moment(saved, tmp_path, monkeypatch):
    with opened(tmp_path / "store", process_bytes=10**6) as store:
        ExpertStore(store).put(saved("qwen"))
        budget = 6 * expert_bytes(store, "qwen")
        store.move({entry.key: Tier.L1 for entry in store.entries("experts/qwen/")})
        for mode in (Mode.LRU, Mode.PLANNED):
            with ExpertRuntime(store, "qwen", mode=mode, budget_bytes=budget) as runtime:
                used = []
                exchange = runtime.shelf.exchange

                def watched(number, leaving, used=used, exchange=exchange):
                    came = exchange(number, leaving)
                    used.append(next(state.used_bytes for state in store.tiers() if state.tier is Tier.L1))
                    return came

                monkeypatch.setattr(runtime.shelf, "exchange", watched)
                figures = runtime.generate(PROMPT, max_new_tokens=16).figures
            assert used
            assert max(used) <= budget
            assert figures.misses > 0
            assert figures.moved == len(used)


@pytest.mark.parametrize("mode", [Mode.LRU, Mode.PLANNED])
@pytest.mark.parametrize("arena_bytes", [0, 60_000])
def test_what_others_bring_to_fast_memory_leaves_it_again_beyond_the_budget(mode, arena_bytes, saved, tmp_path):
    """As a placement does that is computed and applied while the model is open."""
    with opened(tmp_path / "store", process_bytes=10**6, arena_bytes=arena_bytes) as store:
        model = ExpertStore(store).put(saved("qwen"))
        budget = 6 * expert_bytes(store, "qwen")

        def held():
            return sum(entry.bytes for entry in store.entries("experts/qwen/") if entry.tier is Tier.L1)

        with ExpertRuntime(store, "qwen", mode=mode, budget_bytes=budget) as runtime:
            runtime.generate(PROMPT, max_new_tokens=4)
            store.move(dict.fromkeys(model.keys, Tier.L1))
            assert held() > budget
            runtime.generate(PROMPT, max_new_tokens=16, min_new_tokens=16)
            assert held() <= budget
            assert held() == runtime.shelf.used_bytes()
            # In the midst of a request.
            seen = []

            def watched(layer, *_):
                if layer == 1:
                    seen.append(held())
                    store.move(dict.fromkeys(model.keys, Tier.L1))

            runtime.note = watched
            runtime.generate(PROMPT, max_new_tokens=6, min_new_tokens=6)
    assert len(seen) == 6
    assert max(seen) <= budget


def test_a_budget_below_one_cycle_is_warned_of_with_the_figure(saved, tmp_path, caplog):
    with opened(tmp_path / "store") as store:
        ExpertStore(store).put(saved("qwen"))
        cycle = 3 * 2 * expert_bytes(store, "qwen")
        with (
            caplog.at_level(logging.WARNING),
            ExpertRuntime(store, "qwen", mode=Mode.LRU, budget_bytes=cycle - 1) as runtime,
        ):
            assert runtime.short_of_cycle == (cycle - 1, cycle)
            assert runtime.generate(PROMPT, max_new_tokens=24, min_new_tokens=24).figures.hit_ratio < 0.1
        assert f"{cycle} bytes" in caplog.text
        caplog.clear()
        with ExpertRuntime(store, "qwen", mode=Mode.LRU, budget_bytes=cycle) as runtime:
            assert runtime.short_of_cycle is None
        assert not caplog.records


def test_figures_add_up(saved, tmp_path):
    with opened(tmp_path / "store") as store:
        ExpertStore(store).put(saved("qwen"))
        size = expert_bytes(store, "qwen")
        heard = []
        for mode in (Mode.COLD, Mode.LRU, Mode.PLANNED):
            before = store.access_log().total
            with ExpertRuntime(store, "qwen", mode=mode, on_request=heard.append) as runtime:
                opening = store.access_log().total - before
                answer = runtime.generate(PROMPT, max_new_tokens=12, min_new_tokens=12)
            figures = answer.figures
            assert figures.prompt_tokens == len(PROMPT)
            assert figures.new_tokens == 12
            # Two choices in each of three layers, of every token but the last, which nothing follows.
            assert answer.activations.sum() == 2 * 3 * (len(PROMPT) + 11)
            assert figures.hits + figures.misses == sum(figures.reads.values())
            assert store.access_log().total - before - opening == sum(figures.reads.values())
            assert 0 < figures.prefill_seconds < figures.seconds
            assert figures.waited_seconds < figures.seconds
            np.testing.assert_array_equal(heard[-1], answer.activations)
            if mode is Mode.COLD:
                assert figures.hits == figures.moved == 0
                assert figures.bytes_read == size * figures.misses
            if mode is Mode.LRU:
                assert figures.moved == figures.misses


@pytest.mark.parametrize("name", ["qwen", "aura", "switch"])
def test_every_assignment_is_counted_as_computed_or_dropped(name, saved, tmp_path):
    with opened(tmp_path / "store") as store:
        ExpertStore(store).put(saved(name))
        with ExpertRuntime(store, name) as runtime:
            answer = runtime.generate([3] * 8, max_new_tokens=6, min_new_tokens=6)  # one expert gets too many
    both = 8 + 6 - 1
    # Of Switch one layer is the encoder's, which reads the prompt, and one the decoder's, which begins with one token.
    assert answer.given.tolist() == ([8, 6] if name == "switch" else [both] * 3)
    assert (answer.dropped.any()) == (name != "qwen")
    choices = 1 if name == "switch" else 2
    np.testing.assert_array_equal(answer.activations.sum(axis=1) + answer.dropped, choices * answer.given)


@pytest.mark.parametrize("name", ["qwen", "switch"])
def test_a_text_can_be_followed(name, saved, tmp_path):
    with opened(tmp_path / "store") as store:
        ExpertStore(store).put(saved(name))
        with ExpertRuntime(store, name) as runtime:
            free = runtime.generate(PROMPT, max_new_tokens=6, min_new_tokens=6).tokens.tolist()
            followed = runtime.generate(PROMPT, max_new_tokens=6, follow=free[:2]).tokens.tolist()
            other = runtime.generate(PROMPT, max_new_tokens=6, min_new_tokens=6, follow=[5, 6, 7]).tokens.tolist()
    assert followed[:2] == free[:2]
    assert other[:3] == [5, 6, 7]
    assert len(other) == 6


def test_what_is_in_shared_memory_is_computed_where_it_is(saved, tmp_path):
    with opened(tmp_path / "store", process_bytes=50_000, arena_bytes=10**6) as store:
        model = ExpertStore(store).put(saved("qwen"))
        store.move(dict.fromkeys(model.keys, Tier.L2))
        with ExpertRuntime(store, "qwen", mode=Mode.PLANNED) as runtime:
            figures = runtime.generate(PROMPT, max_new_tokens=12).figures
        assert figures.hit_ratio == 1
        assert figures.bytes_read == figures.moved == 0
        assert figures.reads == {"L2": figures.hits}


def test_cold_reads_from_l3_whatever_the_stores_own_layer_brings_up(saved, tmp_path):
    with opened(tmp_path / "store", process_bytes=10**6, online=True) as store:
        store.upkeep.stop()  # its rounds come between the requests here
        model = ExpertStore(store).put(saved("qwen"))
        store.move(dict.fromkeys(model.keys, Tier.L1))
        with ExpertRuntime(store, "qwen", mode=Mode.COLD) as runtime:
            for _ in range(3):
                figures = runtime.generate(PROMPT, max_new_tokens=12, min_new_tokens=12).figures
                assert figures.reads == {"L3": figures.misses}
                store.upkeep.round()


def test_a_client_of_another_owner_uses_its_shared_memory(saved, tmp_path):
    with opened(tmp_path / "store", arena_bytes=10**6) as owner:
        ExpertStore(owner).put(saved("qwen"))
        with ExpertRuntime(owner, "qwen", mode=Mode.RESIDENT) as resident:
            expected = resident.generate(PROMPT, max_new_tokens=12).tokens
        with join_store(tmp_path / "store") as client:
            for mode in (Mode.COLD, Mode.LRU, Mode.PLANNED):
                with ExpertRuntime(client, "qwen", mode=mode) as runtime:
                    assert runtime.shelf.fast is Tier.L2
                    np.testing.assert_array_equal(runtime.generate(PROMPT, max_new_tokens=12).tokens, expected)


def test_what_cannot_be_opened_says_why(saved, tmp_path):
    with opened(tmp_path / "store") as store:
        with pytest.raises(UnknownModelError, match="nothing"):
            ExpertRuntime(store, "nothing")
        directory = tmp_path / "changing"
        build("qwen").save_pretrained(directory)
        ExpertStore(store).put(directory)
        os.utime(directory / "model.safetensors", ns=(1, 1))
        with pytest.raises(ModelFilesError, match="put it in again"):
            ExpertRuntime(store, "changing")
        ExpertStore(store).put(directory)
        store.delete(expert_key("changing", 1, 3))
        with pytest.raises(OffloadError, match="001/0003"):
            ExpertRuntime(store, "changing")
        ExpertStore(store).put(directory)
        with ExpertRuntime(store, "changing") as runtime:
            with pytest.raises(ValueError, match="0 tokens"):
                runtime.generate([])
            with pytest.raises(ValueError, match="temperature -1"):
                runtime.generate([1], temperature=-1)


@pytest.mark.parametrize("mode", [Mode.RESIDENT, Mode.PLANNED])
def test_a_gate_without_weights_is_not_made_up(mode, saved, tmp_path):
    directory = Path(shutil.copytree(saved("qwen"), tmp_path / "lacking"))
    weights = load_file(directory / "model.safetensors")
    del weights["model.layers.1.mlp.gate.weight"]
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    with opened(tmp_path / "store") as store:
        ExpertStore(store).put(directory)
        with pytest.raises(ModelFilesError, match=r"lacks the weights model\.layers\.1\.mlp\.gate\.weight"):
            ExpertRuntime(store, "lacking", mode=mode)


def test_a_listener_that_fails_takes_no_answer(saved, tmp_path, caplog):
    def fail(_):
        raise OSError("nobody listens")

    with opened(tmp_path / "store") as store:
        ExpertStore(store).put(saved("qwen"))
        with ExpertRuntime(store, "qwen", on_request=fail) as runtime:
            assert len(runtime.generate(PROMPT, max_new_tokens=3, min_new_tokens=3).tokens) == 3
    assert "nobody listens" in caplog.text


def test_choices_are_found_where_configurations_have_them():
    def model(config):
        return types.SimpleNamespace(config=config)

    assert _choices(model(hf.Qwen3VLMoeConfig(text_config={"num_experts_per_tok": 4}))) == 4
    assert _choices(model(hf.Glm4vMoeConfig(text_config={"num_experts_per_tok": 8}))) == 8
    assert _choices(model(hf.MixtralConfig(num_experts_per_tok=3))) == 3
    assert _choices(model(hf.SwitchTransformersConfig())) == 1
    with pytest.raises(ModelFilesError, match="num_experts_per_tok"):
        _choices(model(hf.Qwen3Config()))


def test_a_model_elsewhere_than_in_host_memory_is_refused():
    with pytest.raises(OffloadError, match="on meta"):
        _on_host(torch.nn.Linear(2, 2, device="meta"))


KILLED = """
import os, signal, sys, threading
from pathlib import Path
from aura.experts.offload.runtime import ExpertRuntime
from aura.tiers.budgets import TierBudgets
from aura.tiers.store import open_store

with open_store(Path(sys.argv[1]), budgets=TierBudgets(process_bytes=60_000, arena_bytes=60_000)) as store:
    with ExpertRuntime(store, "qwen", mode="planned", budget_bytes=50_000) as runtime:
        runtime.generate([1, 2, 3], max_new_tokens=8)
        threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
        while True:
            runtime.generate([1, 2, 3], max_new_tokens=8)
"""


@pytest.mark.slow
def test_who_is_killed_while_fetching_leaves_nothing_broken(saved, tmp_path):
    with opened(tmp_path / "store") as store:
        model = ExpertStore(store).put(saved("qwen"))
        with ExpertRuntime(store, "qwen", mode=Mode.RESIDENT) as resident:
            expected = resident.generate(PROMPT, max_new_tokens=12).tokens
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "store")], env=os.environ, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGKILL

    with opened(tmp_path / "store", arena_bytes=60_000) as store:
        assert ExpertStore(store).model("qwen") == model
        assert np.all(store.time_gets(model.keys) > 0)
        with ExpertRuntime(store, "qwen") as runtime:
            np.testing.assert_array_equal(runtime.generate(PROMPT, max_new_tokens=12).tokens, expected)
