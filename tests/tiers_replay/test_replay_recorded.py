"""On recorded traces the simulations come to the figures that others measured on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from aura.tiers.replay.arc import Arc
from aura.tiers.replay.lru import Lru
from aura.tiers.replay.optimum import belady
from aura.tiers.replay.policy import Policy, replay
from aura.tiers.replay.readers import read_trace
from aura.tiers.replay.s3_fifo import S3Fifo

TRACES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "traces"


def recorded(name: str) -> Path:
    path = TRACES / name
    if not path.is_file():
        pytest.skip(f"the recorded trace {path} is not on this machine")
    return path


def test_a_byte_lru_hits_as_often_as_the_engine_that_recorded_the_trace():
    trace = read_trace(recorded("qwen.route.csv"))
    assert 1 - replay(Lru(4000 << 20), trace).miss_ratio == pytest.approx(0.749, abs=0.001)


@pytest.mark.parametrize(("policy", "hit_ratio"), [(Lru, 0.576), (S3Fifo, 0.598), (Arc, 0.592)])
def test_policies_agree_with_another_simulator_on_expert_decoding(policy: type[Policy], hit_ratio: float):
    trace = read_trace(recorded("qwen.route.csv"), layout="decoding").without_sizes()
    assert 1 - replay(policy(trace.unique // 4), trace).miss_ratio == pytest.approx(hit_ratio, abs=0.0015)


def test_the_optimum_agrees_with_another_simulator_on_expert_decoding():
    trace = read_trace(recorded("qwen.route.csv"), layout="decoding").without_sizes()
    assert 1 - belady(trace, trace.unique // 4).miss_ratio == pytest.approx(0.784, abs=0.0015)


def test_the_blocks_of_recorded_requests_are_as_many_as_published():
    trace = read_trace(recorded("mooncake_synthetic.jsonl"))
    assert (len(trace), trace.unique) == (121_877, 43_924)


@pytest.mark.parametrize(
    ("name", "accesses", "objects"),
    [("cache2k_web12.trace.xz", 95_607, 13_756), ("scarab_scarab-recs.trace.xz", 1_245_184, 258_368)],
)
def test_binary_traces_have_as_many_keys_as_published(name, accesses, objects):
    trace = read_trace(recorded(name))
    assert (len(trace), trace.unique) == (accesses, objects)
