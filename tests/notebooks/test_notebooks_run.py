"""Each notebook runs top to bottom on a small home that the real graph filled, and its two files are one document."""

from __future__ import annotations

import base64
import functools
import importlib.util
import io
import os
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from PIL import Image

from aura.corpus.python_docs import Module, documents
from aura.overview.rendered import every_cell_ran, render

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
TOUR = NOTEBOOKS / "tour.ipynb"
PICTURES = {"tour": 14, "topology": 4, "routing": 4, "placement": 5, "costs": 2}
"""Pictures that each draws on the small home."""

every_notebook = pytest.mark.parametrize("name", PICTURES)
LABELS = ("ipaddress", "statistics", "tarfile")
TEXTS_PER_LABEL = 20
LANDMARKS = 40
SMALL = {
    "AURA_EXPERTS__MIN_LABEL_ITEMS": "5",
    "AURA_EXPERTS__EXPERTS": "4",
    "AURA_EXPERTS__EPOCHS": "20",
    "AURA_TOPOLOGY__LANDMARKS": str(LANDMARKS),
}


def write_docstrings(root):
    """One file per docstring of a module of the standard library, one directory per module, and an empty file."""
    for label in LABELS:
        rows = documents(Module(label, Path(importlib.util.find_spec(label).origin)))
        (root / label).mkdir(parents=True)
        for number, row in enumerate(rows[:TEXTS_PER_LABEL]):
            (root / label / f"{number:02d}.txt").write_text(row.text, encoding="utf-8")
    (root / "nothing.txt").touch()
    return root


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The environment of a home that the demo has materialized from files, as a user's directory would be."""
    folder = tmp_path_factory.mktemp("tour")
    texts = write_docstrings(folder / "texts")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AURA_")}
    environment |= {**SMALL, "AURA_HOME": str(folder / "home")}
    command = [sys.executable, "-m", "aura_assets.demo", "--source", str(texts)]
    run = subprocess.run(
        command, cwd=NOTEBOOKS.parent, env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return environment


@pytest.fixture(scope="module")
def executed(environment, tmp_path_factory):
    """A notebook by its name after it ran; a cell that raises ends the execution with its traceback."""

    @functools.cache
    def execute(name):
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        rendered = render(NOTEBOOKS / f"{name}.ipynb", environment, elsewhere)
        assert every_cell_ran(rendered).passed
        return nbformat.reads(rendered.notebook.decode(), as_version=4)

    return execute


def outputs(notebook, cell_containing):
    found = [cell for cell in notebook.cells if cell.cell_type == "code" and cell_containing in cell.source]
    assert len(found) == 1
    return found[0].outputs


def text_of(outs):
    return "".join(out.text for out in outs if out.output_type == "stream" and out.name == "stdout")


def pictures(notebook):
    for cell in notebook.cells:
        for out in cell.get("outputs", []):
            if "image/png" in out.get("data", {}):
                yield Image.open(io.BytesIO(base64.b64decode(out.data["image/png"])))


@pytest.mark.slow
@every_notebook
def test_every_cell_of_a_notebook_runs_and_its_figures_are_drawn(executed, name):
    notebook = executed(name)
    assert not [out for cell in notebook.cells for out in cell.get("outputs", []) if out.output_type == "error"]
    drawn = list(pictures(notebook))
    assert len(drawn) == PICTURES[name]
    for picture in drawn:
        assert min(picture.size) > 100
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10


@pytest.mark.slow
def test_the_tour_tells_what_the_home_holds(executed):
    notebook = executed("tour")
    assert "source 'texts'" in text_of(outputs(notebook, "aura.published()"))
    assert "1 items are set aside" in text_of(outputs(notebook, "manifest.set_aside()"))
    diagrams = text_of(outputs(notebook, "barcode(diagrams)"))
    assert f"{LANDMARKS} landmarks of {len(LABELS) * TEXTS_PER_LABEL} points" in diagrams
    scores = text_of(outputs(notebook, "binomtest("))
    assert all(name in scores for name in ("Switch at capacity", "dense twin", "most frequent label"))
    assert "above the lower bound" in text_of(outputs(notebook, "plot_placement(placement)"))


@every_notebook
def test_a_notebook_and_its_script_have_the_same_cells(name):
    path = NOTEBOOKS / f"{name}.ipynb"
    script, notebook = jupytext.read(path.with_suffix(".py")), nbformat.read(path, as_version=4)
    remedy = f"run `jupytext --sync notebooks/{name}.ipynb`"
    assert [(c.cell_type, c.source) for c in script.cells] == [(c.cell_type, c.source) for c in notebook.cells], remedy


@every_notebook
def test_a_notebook_is_kept_without_outputs_and_names_its_kernel(name):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert notebook.metadata["kernelspec"]["name"] == "python3"


def test_jupytext_knows_the_pair():
    configuration = jupytext.config.load_jupytext_config(str(TOUR))
    assert configuration.default_formats(str(TOUR)) == "ipynb,py:percent"
