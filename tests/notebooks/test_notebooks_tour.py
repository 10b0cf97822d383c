"""The tour of a home whose source lacks what other sources have: labels, or texts."""

from __future__ import annotations

import inspect
import os
import re
import statistics
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from aura.corpus.opening import open_registered
from aura.corpus.registry import SourceRegistry
from aura.corpus.sources import SourceSpec
from aura.embeddings.incremental import embed_items
from aura.embeddings.opening import Encoders
from aura.embeddings.table import EmbeddingModel, EmbeddingTable
from aura.experts.config import ExpertConfig
from aura.experts.dataset import NotTrainableError, prepare
from aura.measure.cost import Cost
from aura.measure.energy import Energy
from aura.measure.mlflow_recorder import MlflowRecorder
from aura.measure.recorder import Record
from aura.overview.rendered import every_cell_ran, render
from aura.settings import load_settings
from aura.tiers.catalog import Catalog
from aura.tiers.opening import open_configured_store
from aura.tiers.planning.placement import plan_and_apply
from aura.tiers.planning.profile import measure_profile
from aura.topology.persistence import persistence

TOUR = Path(__file__).resolve().parents[2] / "notebooks" / "tour.ipynb"
SOURCE = "mine"
COST = Cost(
    started_at=datetime(2026, 11, 20, 12, tzinfo=UTC),
    wall_seconds=1.5,
    cpu_seconds=0.5,
    peak_memory_bytes=1 << 20,
    peak_memory_method="VmHWM",
    energy=Energy("unavailable", None, {}, "", "no counter"),
)


class Home:
    """A home with one source, in which the test publishes what the graph would have made of it."""

    def __init__(self, root, files):
        self.settings = load_settings()
        registry = SourceRegistry(self.settings.sources_file)
        registry.add(SourceSpec(name=SOURCE, kind="directory", path=files))
        self.manifest = open_registered(SOURCE, registry, self.settings.corpus).scan()
        self.root = root

    def publish(self, **values):
        """These values of the source, and with them what the job `tiers` makes."""
        with open_configured_store(self.settings) as store:
            catalog = Catalog(store)
            for name, value in {"corpus_manifest": self.manifest, **values}.items():
                catalog.publish(name, value, partition=SOURCE, provenance={})
            profile = measure_profile(store, sizes=(4 << 10, 64 << 10), repeats=2)
            catalog.publish("tier_profile", profile, partition=None, provenance={})
            catalog.publish("tier_placement", plan_and_apply(store, profile), partition=None, provenance={})

    def skip(self, name, reason):
        """One run of the asset that made nothing."""
        tags = {"outcome": "skipped", "reason": reason}
        MlflowRecorder(self.settings.tracking_uri).record(Record(name, SOURCE, "run-1", "group", "1", COST, {}, tags))

    def tour(self):
        """What the notebook says, as plain text; every cell of it ran."""
        rendered = render(TOUR, os.environ, self.root)
        assert every_cell_ran(rendered).passed
        outputs = [output for cell in code_cells(rendered.notebook.decode()) for output in cell.outputs]
        texts = [output.get("text") or output["data"].get("text/plain", "") for output in outputs]
        return "\n".join(texts), rendered.counts()["pictures"]


def code_cells(notebook):
    return [cell for cell in nbformat.reads(notebook, as_version=4).cells if cell.cell_type == "code"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The directory that the source is; it has no directories of its own, so that nothing has a label."""
    monkeypatch.setenv("AURA_HOME", str(tmp_path / "home"))
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


@pytest.mark.slow
def test_a_source_without_labels_has_a_tour_that_says_why_it_has_no_experts(files, tmp_path):
    for name in statistics.__all__:
        (files / f"{name}.txt").write_text(inspect.getdoc(getattr(statistics, name)), encoding="utf-8")
    home = Home(tmp_path, files)
    embeddings, _ = embed_items(home.manifest.items("text"), Encoders(home.settings.embeddings).text)
    ids, labels = (embeddings.table[name].to_pylist() for name in ("item_id", "label"))
    with pytest.raises(NotTrainableError) as refusal:
        prepare(embeddings.vectors, labels, ids, ExpertConfig())
    home.skip("expert_model", str(refusal.value))
    home.publish(text_embeddings=embeddings, embedding_diagrams=persistence(points=embeddings.vectors))

    text, pictures = home.tour()
    assert f"source {SOURCE!r}" in text
    assert re.search(r"expert_model\[mine\] +skipped", text)
    assert "unavailable" in text
    assert f"There is no expert_model of {SOURCE!r}: {refusal.value}." in text
    assert "0 texts have a label" in text
    for name in ("diagram_vectors", "embedding_loops", "embedding_drift", "expert_routing_table"):
        assert f"There is no {name} of {SOURCE!r}: the job `corpus` makes it from" in text
    assert "above the lower bound" in text
    assert pictures == 7


@pytest.mark.slow
def test_a_home_of_images_has_a_tour_of_what_it_holds(files, tmp_path):
    for shade in (0, 128, 255):
        Image.new("L", (8, 8), shade).save(files / f"{shade}.png")
    home = Home(tmp_path, files)
    home.skip("text_embeddings", "no text items in this source")
    home.publish()

    text, pictures = home.tour()
    assert "image     ok     3" in text
    assert f"There is no text_embeddings of {SOURCE!r}: no text items in this source." in text
    assert "Name a source with texts in AURA_NOTEBOOK_SOURCE" in text
    assert f"There is no embedding_diagrams of {SOURCE!r}" in text
    assert "above the lower bound" in text
    assert pictures == 4


@pytest.mark.parametrize(("labels", "said"), [([None, None], "0 texts"), (["a", None, None], "1 texts")])
def test_neighbours_are_not_compared_by_labels_that_are_not_there(labels, said, capsys):
    cell = next(cell for cell in code_cells(TOUR.read_text()) if cell.source.startswith("label = "))
    exec(cell.source, {"np": np, "pd": pd, "embeddings": labelled(labels)})
    assert capsys.readouterr().out.startswith(f"{said} have a label")


def labelled(labels):
    """Unit vectors on the axes, one per label."""
    count = len(labels)
    items = pd.DataFrame({"item_id": [f"{row}" for row in range(count)], "label": labels}).assign(modality="text")
    items = items.assign(uri=items["item_id"], sublabel=None)
    model = EmbeddingModel("axes", "00", None, count, "float32")
    return EmbeddingTable.build(pa.Table.from_pandas(items), np.eye(count, dtype=np.float32), model)
