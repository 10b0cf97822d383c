"""The page as Streamlit runs it, without a browser."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from aura.tiers.budgets import TierBudgets
from aura.tiers.local import LocalStore
from aura.tiers.store import open_store

PAGE = Path(__file__).resolve().parents[2] / "app" / "main.py"
ASK_AGAIN_SECONDS = 0.2


@pytest.fixture
def page(at_home):
    """Runs the page on a home until what is waited for is drawn."""

    def run(home, awaited, **settings):
        at_home(home, **settings)
        app = AppTest.from_file(str(PAGE), default_timeout=60)
        for _ in range(300):
            app.run()
            assert not app.exception
            drawn = "\n".join(element.proto.body for element in app.get("html"))
            if awaited in drawn:
                return drawn
            time.sleep(ASK_AGAIN_SECONDS)
        pytest.fail(f"{awaited!r} was never drawn, but {drawn}")

    return run


def test_an_empty_project_is_drawn_and_stays_empty(page, empty):
    drawn = page(empty, "Nothing is materialized yet")
    assert "no owner that answers" in drawn
    assert not empty.path.exists()


def test_wrong_settings_are_the_only_thing_on_the_page(page, empty):
    drawn = page(empty, "The settings cannot be read", AURA_TOPOLOGY__LANDMARKS="none")
    assert "topology.landmarks" in drawn
    assert "Nothing is materialized" not in drawn


@pytest.mark.slow
def test_the_page_never_owns_the_store_of_a_materialized_project(page, materialized):
    drawn = page(materialized, "text_embeddings")
    assert "modelled" in drawn
    assert "aura tiers serve" in drawn
    with open_store(materialized.store_directory, budgets=TierBudgets(0, 0, 0), timeout_seconds=5) as store:
        assert isinstance(store, LocalStore)


@pytest.mark.slow
def test_without_mlflow_what_is_stored_is_shown_all_the_same(page, materialized, closed_port):
    nobody = f"http://127.0.0.1:{closed_port}"
    with materialized.owner():
        drawn = page(materialized, "cannot read costs from MLflow", AURA_MEASURE__MLFLOW_URI=nobody)
    assert "Costs and freshness are not known" in drawn
    assert 'class="au-chip au-L3"' in drawn
    assert "text_embeddings" in drawn
    assert "joules" not in drawn
