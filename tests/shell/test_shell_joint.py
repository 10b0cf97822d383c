"""Texts, images and sounds in one space: trained, used again, searched, and replaced by a configured model."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
import soundfile
from PIL import Image
from shell_graph import PROJECT, Graph, changed
from sklearn.datasets import load_digits
from test_shell_processes import aura

from aura.embeddings.errors import EncodingError
from aura.embeddings.joint.published import TrainedSpace
from aura.embeddings.opening import Encoders
from aura.embeddings.spaces import SpaceReference
from aura.embeddings.table import EmbeddingTable
from aura.search.errors import SearchError
from aura.search.index import SearchIndex
from aura.search.query import Query, read_query
from aura.search.searcher import Searcher

# The models are those of the tests of the encoders.
sys.path.insert(0, str(PROJECT / "tests" / "embeddings"))
from embeddings_tiny_models import save_joint_clip

NAMES = ("zero", "one", "two", "three")
COUNT = 80
JOINT = {"joint_model", "joint_embeddings", "fused_embeddings", "joint_index", "fused_index"}
ASSETS = ["corpus_manifest", *sorted(JOINT), "joint_report"]


def pure_tone(path, digit, number):
    """A tenth of a second whose pitch is the digit's."""
    times = np.arange(800) / 8000
    soundfile.write(path, np.sin(2 * np.pi * (300 + 250 * digit + number) * times), 8000, subtype="PCM_16")


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Handwritten digits, each with a note of the same stem; every second with a sound as well."""
    root = tmp_path_factory.mktemp("album") / "library"
    digits = load_digits(n_class=len(NAMES))
    for number, (image, label) in enumerate(zip(digits.images[:COUNT], digits.target[:COUNT], strict=True)):
        folder = root / NAMES[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).astype(np.uint8)).save(folder / f"{number:03d}.png")
        (folder / f"{number:03d}.txt").write_text(f"{NAMES[label]}, number {number} by hand", encoding="utf-8")
        if number % 2 == 0:
            pure_tone(folder / f"{number:03d}.wav", label, number)
    return root


@pytest.fixture
def pictures(home, album, tmp_path) -> Graph:
    """A graph that watches a copy of the album, with a training of a few steps."""
    graph = Graph(changed(home, joint={"steps": 30, "width": 32, "layers": 1}))
    graph.register(shutil.copytree(album, tmp_path / "library"))
    return graph


def test_a_source_of_several_modalities_gets_one_space_one_vector_a_thing_and_their_indexes(pictures, tmp_path) -> None:
    outcome = pictures.run_selection(ASSETS)
    assert (outcome.failed, outcome.left_out) == ({}, {})
    assert set(outcome.materialized) >= JOINT
    space, joint, fused = (pictures.load(name) for name in ("joint_model", "joint_embeddings", "fused_embeddings"))
    assert isinstance(space, TrainedSpace)
    assert isinstance(joint, EmbeddingTable)
    assert isinstance(fused, EmbeddingTable)
    assert isinstance(pictures.load("joint_index"), SearchIndex)
    assert space.model.modalities == ("text", "image", "audio")
    assert outcome.materialized["joint_model"]["why"] == "first training"
    kinds = joint.table["modality"].to_pylist()
    assert [kinds.count(kind) for kind in ("text", "image", "audio")] == [COUNT, COUNT, COUNT // 2]
    assert fused.table.num_rows == COUNT
    assert outcome.materialized["fused_embeddings"]["incomplete"] == COUNT // 2
    assert set(fused.table["sublabel"].to_pylist()) == {"image and text", "audio and image and text"}
    np.testing.assert_allclose(np.linalg.norm(fused.vectors, axis=1), 1, atol=1e-5)
    assert outcome.materialized["joint_index"]["self_retrieval_image"] == 1

    searcher = Searcher(Encoders(pictures.settings.embeddings))
    picture = next((tmp_path / "library" / "two").glob("*.png"))
    with pictures.catalog() as catalog:
        answer = searcher.search(catalog, read_query(picture), within="images", count=3)
        assert (answer.searched, answer.hits[0].uri) == (COUNT, f"two/{picture.name}")
        assert answer.hits[0].score == pytest.approx(1, abs=1e-5)
        assert {hit.modality for hit in searcher.search(catalog, read_query(picture), within="sounds").hits} == {
            "audio"
        }
        assert searcher.search(catalog, read_query(picture), within="fused", count=1).hits[0].modality == "fused"
        texts = searcher.search(catalog, Query("text", "zero, number 0 by hand", ""), within="texts", count=1)
        assert texts.hits[0].uri == "zero/000.txt"
        with pytest.raises(SearchError, match="of the source 'elsewhere'; there are the sources library"):
            searcher.search(catalog, read_query(picture), within="images", source="elsewhere")
    asked = {"images": picture, "texts": picture.with_suffix(".txt"), "sounds": tmp_path / "library/zero/000.wav"}
    for place, path in asked.items():
        shown = aura("search", path, "--in", place, "-n", "2")
        assert shown.returncode == 0, shown.stderr
        assert path.name in shown.stdout


def test_a_few_new_items_are_encoded_by_the_model_that_is_there_and_many_train_another(pictures, tmp_path) -> None:
    pictures.run_selection(ASSETS)
    model = pictures.published()["joint_model"]
    (tmp_path / "library" / "two" / "new.txt").write_text("two, drawn today", encoding="utf-8")
    again = pictures.run_selection(ASSETS)
    assert pictures.published()["joint_model"] == model
    assert (again.materialized["joint_embeddings"]["encoded"], again.materialized["joint_embeddings"]["removed"]) == (
        1,
        0,
    )
    assert "incremental" in str(again.materialized["joint_embeddings"]["why"])
    for number in range(30):
        (tmp_path / "library" / f"more {number}.txt").write_text(f"one more, {number}", encoding="utf-8")
        Image.new("L", (8, 8), 8 * number).save(tmp_path / "library" / f"more {number}.png")
    more = pictures.run_selection(ASSETS)
    assert "61 of 261 items are new" in str(more.materialized["joint_model"]["why"])
    assert pictures.published()["joint_model"] != model
    assert "model changed" in str(more.materialized["joint_embeddings"]["why"])
    assert more.materialized["joint_embeddings"]["reused_vectors"] == 0


def test_two_homes_make_the_same_vectors(pictures, tmp_path) -> None:
    pictures.run_selection(ASSETS)
    elsewhere = Graph(pictures.settings.model_copy(update={"home": tmp_path / "second"}))
    elsewhere.register(tmp_path / "library")
    elsewhere.run_selection(ASSETS)
    for name in ("joint_embeddings", "fused_embeddings"):
        assert pictures.load(name).vectors.tobytes() == elsewhere.load(name).vectors.tobytes()


def test_a_configured_model_takes_the_place_of_the_trained_one(pictures, tmp_path) -> None:
    pictures.run_selection(ASSETS)
    clip = save_joint_clip(tmp_path / "clip")
    configured = Graph(changed(pictures.settings, embeddings={"shared_model": str(clip)}))
    outcome = configured.run_selection(ASSETS)
    assert outcome.failed == {}
    assert "not trained here" in outcome.left_out["joint_report"]
    space, joint = configured.load("joint_model"), configured.load("joint_embeddings")
    assert isinstance(space, SpaceReference)
    assert space.modalities == ("text", "image")
    assert set(joint.table["modality"].to_pylist()) == {"text", "image"}
    assert joint.model.fingerprint == space.fingerprint
    encoders = Encoders(configured.settings.embeddings)
    sound = read_query(next((tmp_path / "library").rglob("*.wav")))
    with configured.catalog() as catalog:
        assert Searcher(encoders).search(catalog, Query("text", "zero", "zero"), within="images").hits
        with pytest.raises(SearchError, match="takes text, image, and the query is audio"):
            Searcher(encoders).search(catalog, sound, within="images")
        with pytest.raises(EncodingError, match="AURA_EMBEDDINGS__SHARED_MODEL"):
            Searcher(Encoders(pictures.settings.embeddings)).search(catalog, Query("text", "a", "a"), within="images")
    again = pictures.run_selection(ASSETS)
    assert again.failed == {}
    assert again.materialized["joint_model"]["why"] == "first training"
    assert isinstance(pictures.load("joint_model"), TrainedSpace)


def test_a_source_of_one_modality_has_no_joint_space_and_says_why(graph) -> None:
    outcome = graph.run_selection(ASSETS)
    assert outcome.failed == {}
    assert "joint_model" in outcome.left_out
    assert set(graph.published()) == {"corpus_manifest"}
    with graph.catalog() as catalog, pytest.raises(SearchError, match="there are the sources library"):
        Searcher(Encoders(graph.settings.embeddings)).search(catalog, Query("text", "a", "a"), within="images")
