"""The figures of batch priority: what they say of models that lost something to drops, and of those that did not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


@pytest.fixture
def capacity(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    from expert_figures import capacity

    yield capacity
    for name in [each for each in sys.modules if each.split(".")[0] in {"expert_figures", "report"}]:
        monkeypatch.delitem(sys.modules, name)


def test_the_share_is_of_what_arrival_loses(capacity):
    assert capacity.recovered(2.0, 2.5, 2.3) == pytest.approx(0.4)
    assert capacity.recovered(2.0, 2.0, 2.0) is None


def test_models_without_loss_have_no_share_and_are_told_of(capacity, capsys):
    lossless, lossy = ((2.0, 2.0, 2.0), 0.0), ((2.0, 2.5, 2.2), 0.2)
    goal, *_ = capacity.report([lossless, lossy])
    assert (goal["runs"], goal["holds"]) == ([0.6], True)
    assert "1 of 2 models lost nothing" in capsys.readouterr().err
    names = [figure["name"] for figure in capacity.report([lossless])]
    assert len(names) == 4
    assert not any("recovers" in name for name in names)


def test_it_trains_enough_to_prove_something(capacity):
    assert capacity.CONFIG.proves_nothing(text_tokens=capacity.CONFIG.tokens) is None
