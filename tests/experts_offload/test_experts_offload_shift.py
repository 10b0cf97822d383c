"""A shift of topic in the prompts brings other experts to fast memory, while the model stays open and answers alike."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import torch
from offload_models import VOCABULARY, build

from aura.events.opening import open_event_log
from aura.experts.offload.figures import Mode
from aura.experts.offload.runtime import ExpertRuntime
from aura.experts.offload.store import ExpertStore
from aura.services.operations import TOPIC, OperationsPublisher
from aura.settings import load_settings
from aura.tiers.budgets import TierBudgets
from aura.tiers.planning.placement import plan_and_apply
from aura.tiers.planning.profile import measure_profile
from aura.tiers.planning.shift import access_shift
from aura.tiers.records import Tier
from aura.tiers.store import open_store
from sensors.memory_operations import MIN_ACCESSES, THRESHOLD, counted

HALF = VOCABULARY // 2
FAST_BYTES = 16 * 9_600
"""Room for most of the twelve experts of one topic, and far from all twenty-four."""


@pytest.fixture(scope="module")
def topical(tmp_path_factory):
    """A model whose gates send the tokens of the lower half to experts 0 to 3, and all others to experts 4 to 7."""
    model = build("qwen")
    direction = torch.zeros(32)
    direction[0] = 1.0
    with torch.no_grad():
        embeddings = model.model.embed_tokens.weight
        embeddings.normal_()
        embeddings[:HALF, 0], embeddings[HALF:, 0] = 4.0, -4.0
        for layer in model.model.layers:
            layer.mlp.gate.weight.normal_(std=0.3)
            layer.mlp.gate.weight[:4] += direction
            layer.mlp.gate.weight[4:] -= direction
    directory = tmp_path_factory.mktemp("topical") / "model"
    model.save_pretrained(directory)
    return directory


def requests(topic, count, seed):
    """Prompts of twelve tokens, and eight that follow, all of one topic."""
    random = np.random.default_rng(seed)
    low = 1 if topic == 0 else HALF
    return [random.integers(low, low + HALF - 1, size=(20,)).tolist() for _ in range(count)]


def ask(runtime, request):
    return runtime.generate(request[:12], max_new_tokens=8, follow=request[12:])


def topic_in_fast_memory(store):
    """How many experts of each topic L1 holds."""
    held = [entry.key for entry in store.entries("experts/model/") if entry.tier is Tier.L1]
    numbers = [int(key.rpartition("/")[2]) for key in held]
    return sum(number < 4 for number in numbers), sum(number >= 4 for number in numbers)


def answer(runtime, expected, topic, count, seed):
    for request in requests(topic, count, seed):
        ask(runtime, request)
    np.testing.assert_array_equal(
        runtime.generate(request, max_new_tokens=4).tokens, expected.generate(request, max_new_tokens=4).tokens
    )


def test_a_shift_is_published_and_the_placement_follows_without_a_restart(topical, tmp_path, monkeypatch):
    monkeypatch.setenv("AURA_HOME", str(tmp_path / "home"))
    settings = load_settings()
    budgets = TierBudgets(process_bytes=FAST_BYTES, arena_bytes=0)
    with open_store(tmp_path / "store", budgets=budgets) as store:
        ExpertStore(store).put(topical, "model")
        profile = measure_profile(store, sizes=(4_096, 9_600), repeats=3)
        publisher = OperationsPublisher(store, lambda: open_event_log(settings))
        with (
            ExpertRuntime(store, "model", mode=Mode.ONLINE) as runtime,
            ExpertRuntime(store, "model", mode=Mode.RESIDENT) as resident,
        ):

            def talk(topic, seed):
                answer(runtime, resident, topic, 30, seed)
                assert publisher.publish() >= MIN_ACCESSES

            def place():
                return plan_and_apply(store, profile, short_half_life=100, long_half_life=400, replayed=50)

            talk(0, seed=0)
            place()
            first = topic_in_fast_memory(store)
            publisher.publish()  # the replays of the placement are no use
            with closing(open_event_log(settings)) as log:
                end = log.end_offsets(TOPIC)[0]
            talk(0, seed=1)
            with closing(open_event_log(settings)) as log:
                same = access_shift(counted(log, 0, end), counted(log, end, log.end_offsets(TOPIC)[0]))
            assert same.excess < THRESHOLD

            talk(1, seed=2)
            talk(1, seed=3)
            with closing(open_event_log(settings)) as log:
                shift = access_shift(counted(log, 0, end), counted(log, end, log.end_offsets(TOPIC)[0]))
            assert shift.after >= MIN_ACCESSES
            assert shift.excess >= THRESHOLD  # what the sensor asks for
            place()
            second = topic_in_fast_memory(store)
            answer(runtime, resident, 1, 3, seed=4)
    assert first[0] >= 10 > first[1]
    assert second[1] >= 10 > second[0]


def test_the_stores_own_layer_follows_a_shift(topical, tmp_path):
    budgets = TierBudgets(process_bytes=FAST_BYTES, arena_bytes=0, online=True, background_bytes_per_second=0)
    with open_store(tmp_path / "store", budgets=budgets) as store:
        store.upkeep.stop()  # its rounds are counted in requests here
        ExpertStore(store).put(topical, "model")
        store.upkeep.round()
        with (
            ExpertRuntime(store, "model", mode=Mode.ONLINE) as runtime,
            ExpertRuntime(store, "model", mode=Mode.RESIDENT) as resident,
        ):
            held = []
            for topic in (0, 1):
                for seed in range(12):
                    answer(runtime, resident, topic, 4, seed)
                    store.upkeep.round()
                held.append(topic_in_fast_memory(store))
    assert held[0][0] > held[0][1]
    assert held[1][1] > held[0][1]


def test_the_planned_mode_fetches_what_the_topic_needs(topical, tmp_path):
    with open_store(tmp_path / "store", budgets=TierBudgets(process_bytes=FAST_BYTES, arena_bytes=0)) as store:
        ExpertStore(store).put(topical, "model")
        with (
            ExpertRuntime(store, "model", mode=Mode.PLANNED) as runtime,
            ExpertRuntime(store, "model", mode=Mode.RESIDENT) as resident,
        ):
            held = []
            for topic in (0, 1):
                answer(runtime, resident, topic, 10, seed=topic)
                held.append(topic_in_fast_memory(store))
            last = ask(runtime, requests(1, 1, 9)[0]).figures
    assert held[0][0] > held[0][1]
    assert held[1][1] > held[1][0]
    assert last.hit_ratio > 0.8
