"""A notebook is an asset: run on what is published, kept with its outputs, and shown by Dagster."""

from __future__ import annotations

import nbformat
import pytest

from aura.overview.rendered import RenderedNotebook, render
from aura.settings import load_settings
from aura_assets.notebooks import kernel_environment


@pytest.mark.slow
def test_a_notebook_is_published_with_its_outputs_and_can_be_opened(graph, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    graph.run_selection(["corpus_manifest"])
    outcome = graph.run_selection(["costs_notebook"], None)
    assert outcome.success
    rendered = graph.load("costs_notebook", None)
    assert isinstance(rendered, RenderedNotebook)
    assert b"1 runs of 1 assets" in rendered.page
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


@pytest.mark.parametrize("named", [None, "aura.toml"])
def test_a_notebook_has_the_settings_of_the_run_though_it_works_elsewhere(tmp_path, monkeypatch, named):
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    (project / "aura.toml").write_text("[topology]\nlandmarks = 41\n", encoding="utf-8")
    monkeypatch.chdir(project)
    monkeypatch.setenv("AURA_HOME", "home")
    if named is not None:
        monkeypatch.setenv("AURA_CONFIG", named)
    cell = nbformat.v4.new_code_cell(
        "from aura.settings import load_settings\nprint(load_settings().topology.landmarks, load_settings().home)"
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), project / "told.ipynb")
    rendered = render(project / "told.ipynb", kernel_environment(load_settings()), elsewhere)
    (ran,) = nbformat.reads(rendered.notebook.decode(), as_version=4).cells
    assert ran.outputs[0].text == f"41 {project / 'home'}\n"
