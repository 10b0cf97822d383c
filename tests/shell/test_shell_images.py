"""Images through a real vision model, and what happens without one."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from shell_graph import Graph, changed
from shell_models import save_vision_model
from sklearn.datasets import load_digits

from aura.embeddings.table import EmbeddingTable
from aura.topology.diagrams import PersistenceDiagrams

IMAGES = ["corpus_manifest", "image_embeddings", "image_index", "image_embedding_diagrams"]


@pytest.fixture(scope="module")
def vision_model(tmp_path_factory):
    return save_vision_model(tmp_path_factory.mktemp("models") / "vit")


@pytest.fixture
def pictures(home, tmp_path) -> Graph:
    """A graph whose source holds thirty handwritten digits as PNG files."""
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images[:30], digits.target[:30], strict=True)):
        path = tmp_path / "library" / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).astype(np.uint8)).resize((32, 32)).save(path)
    graph = Graph(home)
    graph.register(tmp_path / "library")
    return graph


def test_images_become_embeddings_and_diagrams_with_local_weights(pictures, vision_model, tmp_path) -> None:
    graph = Graph(changed(pictures.settings, embeddings={"image_model": str(vision_model)}))
    outcome = graph.run("corpus")
    assert outcome.failed == {}
    assert set(outcome.materialized) == {*IMAGES, "joint_model", "joint_embeddings", "joint_index"}
    assert {name: outcome.left_out[name] for name in ("text_embeddings", "audio_embeddings")} == {
        "text_embeddings": "skipped: no text items in this source",
        "audio_embeddings": "skipped: no audio items in this source",
    }
    embeddings, diagrams = graph.load("image_embeddings"), graph.load("image_embedding_diagrams")
    assert isinstance(embeddings, EmbeddingTable)
    assert embeddings.table.num_rows == outcome.materialized["image_embeddings"]["encoded"] == 30
    np.testing.assert_allclose(np.linalg.norm(embeddings.vectors, axis=1), 1.0, atol=1e-5)
    assert set(embeddings.table["label"].to_pylist()) == {str(digit) for digit in range(10)}
    assert isinstance(diagrams, PersistenceDiagrams)
    assert diagrams.provenance.points == 30
    assert {check for asset, check in outcome.checks if asset == "image_embeddings"} == {"unit_norms", "no_collapse"}

    (tmp_path / "library" / "0" / "0.png").unlink()
    again = graph.run("corpus").materialized["image_embeddings"]
    assert (again["encoded"], again["reused_vectors"], again["removed"]) == (0, 29, 1)


def test_without_weights_images_are_skipped_with_the_remedy(pictures) -> None:
    outcome = pictures.run_selection(IMAGES)
    assert outcome.success
    assert set(outcome.materialized) == {"corpus_manifest"}
    assert "no weights configured" in outcome.left_out["image_embeddings"]
    assert "AURA_EMBEDDINGS__IMAGE_MODEL" in outcome.left_out["image_embeddings"]
    assert outcome.skipped == {"image_embedding_diagrams", "image_index"}


def test_taking_the_weights_away_withdraws_what_was_made_with_them(pictures, vision_model) -> None:
    Graph(changed(pictures.settings, embeddings={"image_model": str(vision_model)})).run_selection(IMAGES)
    assert set(pictures.published()) == set(IMAGES)
    pictures.run_selection(IMAGES)
    assert set(pictures.published()) == {"corpus_manifest"}


def test_weights_that_are_not_there_stop_the_images_by_name_and_nothing_else(pictures, tmp_path) -> None:
    (tmp_path / "library" / "0" / "note.txt").write_text("Return the exponent of the number", encoding="utf-8")
    missing = tmp_path / "no-such-model"
    outcome = Graph(changed(pictures.settings, embeddings={"image_model": str(missing)})).run_selection(
        [*IMAGES, "text_embeddings"]
    )
    assert set(outcome.failed) == {"image_embeddings"}
    assert str(missing) in outcome.failed["image_embeddings"]
    assert set(outcome.materialized) == {"corpus_manifest", "text_embeddings"}
