"""The plots of the tiers are real images that show every tier."""

import io
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from PIL import Image

from aura.tiers.budgets import TierBudgets
from aura.tiers.catalog import Catalog
from aura.tiers.planning.placement import plan_and_apply
from aura.tiers.planning.plots import plot_history, plot_placement, plot_profile
from aura.tiers.planning.profile import TierProfile, measure_profile
from aura.tiers.planning.samples import COSTS, SAMPLES, SKIPPED
from aura.tiers.store import open_store


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    budgets = TierBudgets(process_bytes=1 << 20, arena_bytes=1 << 20)
    with open_store(tmp_path_factory.mktemp("store"), budgets=budgets) as store:
        profile = measure_profile(store, sizes=(4096, 65536), repeats=1)
        Catalog(store).publish("tier_profile", profile, partition=None, provenance={})
        for _ in range(200):
            Catalog(store).load("tier_profile", None)
        start = datetime(2026, 1, 1, tzinfo=UTC)
        placement = None
        for day in range(3):
            placement = plan_and_apply(
                store, profile, previous=placement, clock=lambda day=day: start + timedelta(days=day)
            )
        return profile, placement


def pixels(png):
    assert len(png) < 60_000
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert image.shape[1] >= 600
    return {tuple(color) for color in image.reshape(-1, 3)}


def test_the_profile_shows_every_tier_in_its_shade(measured):
    shown = pixels(plot_profile(measured[0]))
    assert {(0x0B, 0x6E, 0x99), (0x4D, 0x9A, 0x76), (0x8A, 0x8F, 0x98)} <= shown
    assert pixels(plot_profile(measured[0], kind="tensors"))


def test_the_placement_shows_before_and_after(measured):
    shown = pixels(plot_placement(measured[1]))
    assert {(0x0B, 0x6E, 0x99), (0xB8, 0xBE, 0xC4)} <= shown


def test_the_history_shows_every_tier_the_cost_and_its_bound(measured):
    shown = pixels(plot_history(measured[1]))
    assert {(0x0B, 0x6E, 0x99), (0x4D, 0x9A, 0x76), (0x8A, 0x8F, 0x98), (0xC2, 0x57, 0x1A)} <= shown


def test_an_empty_profile_and_an_empty_placement_have_a_plot(tmp_path):
    figures = {"energy": "none", "interrupted": 1.0, "interrupted_stderr": 0.0, "rounds": 1, "seed": 0}
    nothing = TierProfile(COSTS.empty_table(), SAMPLES.empty_table(), SKIPPED.empty_table(), "m", **figures)
    assert pixels(plot_profile(nothing))
    with open_store(tmp_path / "store", budgets=TierBudgets(process_bytes=1 << 20, arena_bytes=0)) as store:
        placement = plan_and_apply(store, nothing)
        assert pixels(plot_placement(placement))
        assert pixels(plot_history(placement))


def test_reading_a_value_loads_neither_matplotlib_nor_scipy():
    code = (
        "import aura.tiers.planning.plots, aura.tiers.planning.placement, sys;"
        "print({'matplotlib', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
