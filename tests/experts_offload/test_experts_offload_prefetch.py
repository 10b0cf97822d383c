"""What is fetched ahead is what is used next, by transitions and by gates; what is in use never leaves for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from offload_models import build

from aura.experts.offload.ahead import Ways
from aura.experts.offload.figures import Mode
from aura.experts.offload.planned import BESIDE, GATE, INLINE, TRANSITIONS, Planned
from aura.experts.offload.runtime import ExpertRuntime
from aura.experts.offload.store import ExpertStore
from aura.experts.offload.waits import KIND_WEIGHT, Waits
from aura.tiers.budgets import TierBudgets
from aura.tiers.store import open_store

KINDS, ROOM = 4, 10
TEXT = [1 + token % KINDS for token in range(48)]
"""Each token is of another kind than the last."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A model that sends a token to experts 2 n and 2 n + 1 of each layer, n being its number modulo 4."""
    model = build("qwen")
    with torch.no_grad():
        embeddings = model.model.embed_tokens.weight
        embeddings.normal_(std=0.05)
        embeddings[:, :KINDS] = 0
        for token in range(len(embeddings)):
            embeddings[token, token % KINDS] = 4.0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.05)
            layer.mlp.gate.weight.normal_(std=0.01)
            for expert in range(8):
                layer.mlp.gate.weight[expert, expert // 2] += 2.0
    place = tmp_path_factory.mktemp("kinds") / "model"
    model.save_pretrained(place)
    return place


@pytest.fixture
def runtime(directory, tmp_path):
    """In the planned mode, with room for ten of 24 experts; what is fetched ahead is there when its layer comes."""
    with open_store(tmp_path / "store", budgets=TierBudgets(process_bytes=10**6, arena_bytes=0)) as store:
        model = ExpertStore(store).put(directory)
        budget = ROOM * model.bytes // len(model.keys)
        with ExpertRuntime(store, "model", mode=Mode.PLANNED, budget_bytes=budget) as opened:
            residency = opened.residency
            assert isinstance(residency, Planned)

            def want(numbers):
                for number in numbers:
                    residency._fetch(number)

            residency._loader.want = want
            yield opened


def decoded(runtime, way):
    """Figures of the text, every step by one way."""
    runtime.residency.decoding, runtime.residency.reading = Ways([way]), Ways([INLINE])
    return runtime.generate(TEXT[:4], max_new_tokens=len(TEXT) - 4, follow=TEXT[4:]).figures


@pytest.mark.parametrize("way", [TRANSITIONS, GATE])
def test_what_is_fetched_ahead_is_used_and_saves_misses(way, runtime):
    decoded(runtime, BESIDE)  # the transitions are learned from it
    without = decoded(runtime, BESIDE)
    assert (without.way, without.useful, without.useless) == (BESIDE, 0, 0)

    ahead = decoded(runtime, way)

    assert ahead.way == way
    assert list(ahead.ways) == [way]
    assert ahead.useful > 0.8 * (ahead.useful + ahead.useless)
    assert ahead.misses <= without.misses - 0.5 * ahead.useful
    assert ahead.hits + ahead.misses == without.hits + without.misses


@pytest.mark.parametrize("way", [INLINE, BESIDE, TRANSITIONS, GATE])
def test_what_is_in_use_never_leaves(way, runtime, monkeypatch):
    residency, named = runtime.residency, []
    victims = residency._victims

    def watched(number):
        found = victims(number)
        named.append((set(found or ()), set(np.flatnonzero(residency._kept).tolist()), number))
        return found

    monkeypatch.setattr(residency, "_victims", watched)
    decoded(runtime, way)
    assert any(leaving for leaving, _, _ in named)
    assert all(not leaving & kept and number in kept for leaving, kept, number in named)


def test_a_request_begins_with_what_its_kind_uses(runtime, monkeypatch):
    def ask(kind):
        return runtime.generate([kind] * 6, max_new_tokens=3, follow=[kind] * 3)

    for kind in (0, 1, 0, 1, 0, 1, 0, 1):
        ask(kind + KINDS)
    residency, told = runtime.residency, []
    expect = residency.expect

    def watched(chances):
        before = residency._waits.chances(1)
        expect(chances)
        told.append((before, residency._waits.chances(1)))

    monkeypatch.setattr(residency, "expect", watched)
    assert ask(KINDS).figures.kind != ask(1 + KINDS).figures.kind
    for kind, (before, after) in enumerate(told):
        own, other = slice(2 * kind, 2 * kind + 2), slice(2 - 2 * kind, 4 - 2 * kind)
        assert (after[own] > before[own]).all()
        assert after[own].min() > after[other].max()


@given(st.data())
def test_victims_are_those_of_all_that_may_leave_that_wait_longest(data):
    waits = Waits([3, 2])
    for _ in range(data.draw(st.integers(0, 20))):
        layer = data.draw(st.integers(0, 1))
        waits.learn(layer, 1, [data.draw(st.integers(0, 2 - layer))], [1])
    can_leave = np.array(data.draw(st.lists(st.booleans(), min_size=5, max_size=5)))
    lacking, now = data.draw(st.integers(0, 6)), data.draw(st.integers(0, 2))

    victims = waits.victims(now, can_leave, np.ones(5, dtype=np.int64), lacking)

    if lacking > can_leave.sum():
        assert victims is None
    else:
        assert len(victims) == lacking
        wait = waits.of_all(now)
        others = can_leave.copy()
        others[victims] = False
        assert can_leave[victims].all()
        assert not others.any() or not victims or wait[victims].min() >= wait[others].max()


def test_what_a_kind_uses_counts_half():
    waits = Waits([2, 2])
    waits.expect(np.array([[1.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_allclose(waits.chances(0), [0.5 + KIND_WEIGHT / 2, 0.5 - KIND_WEIGHT / 2])
