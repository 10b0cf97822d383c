"""The comparison over seeds: its statistics against scipy's, and what it refuses."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aura.experts.language.card import BitsPerByte, Curve, CurvePoint, LanguageCard, LanguageCardError, LayerBalance
from aura.experts.language.checks import all_seeds_are_done, better_at_equal_steps, enough_tokens
from aura.experts.language.comparison import ComparisonError, Interval, MoeVersusDense
from aura.experts.language.plots import plot_curves, plot_differences
from aura.experts.language.presets import PRESETS

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from expert_figures.language import figures_of

PNG = b"\x89PNG"


def curve(points, held_out):
    """A training that measured (step, seconds, bits per byte)."""
    measured = tuple(CurvePoint(step, seconds, 1.0, BitsPerByte.of({"a": level})) for step, seconds, level in points)
    return Curve(points[-1][0], measured, BitsPerByte.of({"a": held_out, "b": held_out + 0.2}))


@pytest.fixture(scope="module")
def card(tiny_models) -> LanguageCard:
    """A training of enough tokens whose measurements are known."""
    config, text = PRESETS["small"], tiny_models.card.text
    return replace(
        tiny_models.card,
        config=config,
        text=replace(text, domains=tuple(replace(each, training_tokens=config.tokens) for each in text.domains)),
        dense=curve([(100, 10.0, 3.0), (200, 20.0, 2.5)], 2.4),
        moe=curve([(100, 12.0, 2.8), (200, 24.0, 2.3)], 2.3),
        dense_longer=curve([(240, 24.0, 2.45)], 2.35),
        balance=(LayerBalance((10, 10, 10, 10)), LayerBalance((37, 1, 1, 1))),
    )


def seeds(card, *levels):
    """The training with other seeds, in which the model with experts came to these bits per byte."""
    trained = [
        replace(card, config=card.config.with_seed(seed), moe=replace(card.moe, held_out=BitsPerByte.of(both)))
        for seed, both in enumerate({"a": level, "b": level} for level in levels)
    ]
    return MoeVersusDense.of(trained)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8))
def test_an_interval_is_that_of_students_t(values):
    found = Interval.of(values)
    spread = float(np.std(values, ddof=1))
    low, high = (
        stats.t.interval(0.95, len(values) - 1, np.mean(values), spread / math.sqrt(len(values)))
        if spread > 0
        else (np.mean(values),) * 2
    )
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high), abs=1e-9)
    assert found.n == len(values)


def test_one_seed_has_no_end_to_its_interval():
    found = Interval.of([-0.05])
    assert (found.low, found.high) == (-math.inf, math.inf)
    with pytest.raises(ValueError, match="at least one"):
        Interval.of([])


def test_differences_are_paired_and_relative_to_the_twin_of_the_same_seed(card):
    comparison = seeds(card, 2.3, 2.32, 2.28)
    dense = card.dense.held_out.mean
    differences = [x / dense - 1 for x in (2.3, 2.32, 2.28)]
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (comparison.equal_steps.low, comparison.equal_steps.high) == pytest.approx((low, high))
    longer = card.dense_longer.held_out.mean
    assert comparison.equal_time.mean == pytest.approx(np.mean([x / longer - 1 for x in (2.3, 2.32, 2.28)]))
    assert comparison.step_cost.mean == pytest.approx(24 / 20)


def test_the_time_to_quality_is_read_off_the_line_between_two_measurements(card):
    # 2.5 lies 3/5 of the way from 2.8 down to 2.3: step 160, second 12 + 0.6 * 12.
    step, seconds = card.moe.reaches(2.5)
    assert (step, seconds) == pytest.approx((160, 19.2))
    assert card.speed_to_quality == pytest.approx(20 / 19.2)
    assert card.moe.reaches(2.9) == (100.0, 12.0)
    assert card.moe.reaches(2.0) is None


def test_a_quality_that_is_not_reached_is_said_and_not_left_out_of_a_mean(card):
    worse = replace(card, moe=curve([(100, 12.0, 2.8), (200, 24.0, 2.6)], 2.6), config=card.config.with_seed(1))
    comparison = MoeVersusDense.of([card, worse])
    assert comparison.speed_to_quality is None
    assert "is not reached in every seed" in comparison.sentence()


def test_the_benchmark_gives_no_speed_for_a_quality_that_is_not_reached(card, capsys):
    worse = replace(card, moe=curve([(100, 12.0, 2.8), (200, 24.0, 2.6)], 2.6), config=card.config.with_seed(1))
    rows = {
        each["name"].partition("speed to quality")[2]: each
        for each in figures_of(MoeVersusDense.of([card, worse]))
        if "speed to quality" in each["name"]
    }
    assert list(rows) == [", seeds that reach it"]
    assert (rows[", seeds that reach it"]["value"], rows[", seeds that reach it"]["holds"]) == (1, False)
    assert "the twin's quality is reached in 1 of 2 seeds" in capsys.readouterr().err
    better = replace(card, config=card.config.with_seed(1))
    rows = {each["name"]: each["value"] for each in figures_of(MoeVersusDense.of([card, better]))}
    assert rows["language model, 1000 steps, speed to quality"] == pytest.approx(20 / 19.2, abs=1e-4)
    assert rows["language model, 1000 steps, speed to quality, seeds that reach it"] == 2


def test_balance_is_counted_by_hand(card):
    even, collapsed = card.balance
    assert (even.dead_experts, even.max_over_mean, even.normalised_entropy) == pytest.approx((0, 1, 1))
    assert (collapsed.dead_experts, collapsed.max_over_mean) == (0, 3.7)
    assert collapsed.normalised_entropy == pytest.approx(stats.entropy([37, 1, 1, 1]) / math.log(4))
    assert LayerBalance((97, 1, 1, 1)).dead_experts == 3
    assert LayerBalance((4, 0)).normalised_entropy == 0


def test_the_checks_say_what_a_person_has_to_know(card):
    three = seeds(card, 2.3, 2.32, 2.28)
    assert all_seeds_are_done(three).passed
    assert enough_tokens(three).passed
    assert better_at_equal_steps(three).passed
    assert not better_at_equal_steps(seeds(card, 2.3, 2.8, 2.28)).passed
    one = seeds(card, 2.3)
    assert not all_seeds_are_done(one).passed
    assert not better_at_equal_steps(one).passed
    assert all(math.isfinite(figure) for figure in better_at_equal_steps(one).figures.values())


def test_a_comparison_that_proves_nothing_says_so_everywhere(tiny_models):
    comparison = MoeVersusDense.of([tiny_models.card])
    assert comparison.sentence().startswith("PROVES NOTHING")
    assert not enough_tokens(comparison).passed
    assert "prove nothing" in comparison.proves_nothing


def test_a_comparison_on_a_small_text_read_over_and_over_proves_nothing_either(card, tiny_models):
    repeated = MoeVersusDense.of([replace(card, text=tiny_models.card.text)])
    assert repeated.sentence().startswith("PROVES NOTHING")
    assert not enough_tokens(repeated).passed
    assert card.passes == pytest.approx(1 / len(card.text.domains))


def test_parts_there_and_back(card):
    comparison = seeds(card, 2.3, 2.32, 2.28)
    parts = comparison.to_parts()
    assert sorted(parts) == ["seed-0", "seed-1", "seed-2"]
    back = MoeVersusDense.from_parts(parts)
    assert back == comparison
    assert back.to_parts() == parts
    with pytest.raises(ComparisonError, match="one part of JSON"):
        MoeVersusDense.from_parts({"table": b""})
    with pytest.raises(LanguageCardError, match="train the models again"):
        MoeVersusDense.from_parts({"seed-0": b"{}"})


def test_trainings_that_differ_in_more_than_the_seed_are_not_compared(card):
    other = replace(card, config=replace(card.config.with_seed(1), steps=1200))
    with pytest.raises(ComparisonError, match="differ in settings or text"):
        MoeVersusDense.of([card, other])
    with pytest.raises(ComparisonError, match="give each once"):
        MoeVersusDense.of([card, card])
    with pytest.raises(ComparisonError, match="no trainings"):
        MoeVersusDense.of([])


def test_rows_and_pictures(card, tiny_models):
    comparison = seeds(card, 2.3, 2.32, 2.28)
    assert comparison.table()["seed"].to_pylist() == [0, 1, 2]
    assert plot_curves(comparison.cards).startswith(PNG)
    assert plot_differences(comparison).startswith(PNG)
    assert plot_curves([tiny_models.card]).startswith(PNG)
    assert plot_differences(MoeVersusDense.of([tiny_models.card])).startswith(PNG)
