"""A notebook is an asset: run on what is published, kept with its outputs, and shown by Dagster."""

from __future__ import annotations

import pytest

from aura.overview.rendered import RenderedNotebook


@pytest.mark.slow
def test_a_notebook_is_published_with_its_outputs_and_can_be_opened(graph):
    graph.run_selection(["corpus_manifest"])
    outcome = graph.run_selection(["costs_notebook"], None)
    assert outcome.success
    rendered = graph.load("costs_notebook", None)
    assert isinstance(rendered, RenderedNotebook)
    assert b"corpus_manifest" in rendered.page
    shown = str(outcome.materialized["costs_notebook"]["rendered"])
    assert shown == rendered.markdown()
    assert shown.startswith("# What did it cost?")
    assert "](data:image/png;base64," in shown
    assert "import " not in shown
    assert "Warning" not in shown
    kept = graph.settings.home / "notebooks" / "costs.ipynb"
    assert kept.read_bytes() == rendered.notebook
    assert outcome.materialized["costs_notebook"]["notebook"] == str(kept)


def test_a_cell_that_fails_fails_the_run_with_its_error(graph):
    outcome = graph.run_selection(["placement_notebook"], None)
    assert not outcome.success
    assert "tier_placement" in outcome.failed["placement_notebook"]
