"""What a cluster of two nodes gives is what this process gives, byte by byte."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from cluster_material import TEXTS, assert_equal, on_cpu, text_items, write_digits, write_melodies
from embeddings_tiny_models import save_joint_clip, save_whisper
from joint_material import NAMES, TINY, digit_data

from aura.corpus.directory import DirectorySource
from aura.embeddings import windows
from aura.embeddings.cluster import Cluster, EncoderRecipe, EncoderStage
from aura.embeddings.incremental import embed_items
from aura.embeddings.joint.published import TrainedSpace
from aura.embeddings.joint.training import train_joint_model
from aura.embeddings.opening import Encoders
from aura.embeddings.spaces import SpaceReference

pytestmark = pytest.mark.slow


def test_texts_in_several_windows_are_the_same_and_the_process_leaves_the_cluster_again(
    unconnected, word_model, monkeypatch
):
    import ray

    monkeypatch.setattr(windows, "TEXTS", 20)
    settings = on_cpu(text_model=word_model)
    seen: list[tuple[int, int]] = []
    there = embed_items(
        text_items(),
        Encoders(settings).text,
        elsewhere=Cluster(unconnected, num_gpus=1).encode(EncoderRecipe(settings, "text")),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert not ray.is_initialized()
    assert_equal(there, embed_items(text_items(), Encoders(settings).text))
    assert there[1].chunked > 0
    assert seen == [(20, 70), (40, 70), (60, 70), (70, 70)]


def test_images_are_read_on_both_nodes_and_what_cannot_be_used_is_set_aside_there(connected, tmp_path):
    import ray

    settings = on_cpu(image_model=save_joint_clip(tmp_path / "clip"))
    source = DirectorySource("digits", write_digits(tmp_path / "digits", 600))
    items = source.scan().items("image")
    changed, spoiled = items["uri"][300].as_py(), items["uri"][7].as_py()
    write_digits(tmp_path / "other", 1)
    (source.root / changed).write_bytes((tmp_path / "other" / "0" / "0000.png").read_bytes() + b" ")
    nodes = tmp_path / "nodes"
    nodes.mkdir()

    def read(uri: str, item_id: str) -> bytes:
        (nodes / ray.get_runtime_context().get_node_id()).touch()
        give_up = time.monotonic() + 120
        while len(list(nodes.iterdir())) < 2 and time.monotonic() < give_up:
            time.sleep(0.1)
        content = source.read(uri, item_id)
        return content[:-30] if uri == spoiled else content

    encode = Cluster(connected).encode(EncoderRecipe(settings, "image"), read)
    there = embed_items(items, Encoders(settings).image, read=read, elsewhere=encode)
    assert {node.name for node in nodes.iterdir()} == {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    assert len(list(nodes.iterdir())) == 2

    def read_here(uri: str, item_id: str) -> bytes:
        content = source.read(uri, item_id)
        return content[:-30] if uri == spoiled else content

    assert_equal(there, embed_items(items, Encoders(settings).image, read=read_here))
    assert [entry.uri for entry in there[1].set_aside] == [spoiled, changed]
    assert there[1].set_aside[1].reason.endswith("scan the source again")
    assert there[1].encoded == 598


def test_sounds_of_a_directory_are_the_same_and_a_connection_that_was_there_stays(connected, tmp_path, monkeypatch):
    import ray

    monkeypatch.setattr(windows, "FILES", 16)
    settings = on_cpu(audio_model=save_whisper(tmp_path / "whisper"))
    source = DirectorySource("melodies", write_melodies(tmp_path / "melodies", 40))
    items = source.scan().items("audio")
    encode = Cluster(connected).encode(EncoderRecipe(settings, "audio"), source.read)
    there = embed_items(items, Encoders(settings).audio, read=source.read, elsewhere=encode)
    assert ray.is_initialized()
    assert not ray.data.DataContext.get_current().execution_options.preserve_order
    assert there[1].encoded == 40
    assert_equal(there, embed_items(items, Encoders(settings).audio, read=source.read))


def test_the_space_of_a_trained_model_goes_to_the_cluster(connected, word_model, tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "FILES", 16)
    model = train_joint_model(digit_data(image_count=60, takes=2), config=TINY)
    space = TrainedSpace(model, pa.table({"item_id": pa.array([], pa.string())}))
    settings = on_cpu(text_model=word_model)
    source = DirectorySource("digits", write_digits(tmp_path / "digits", 40))
    items = source.scan().items("image")
    encode = Cluster(connected).encode(EncoderRecipe(settings, "image", space), source.read)
    there = embed_items(items, model.encoder("image"), read=source.read, elsewhere=encode)
    assert there[0].model.fingerprint == model.fingerprint
    # An actor has one processor, and the number of threads decides the order of the sums.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert_equal(there, embed_items(items, model.encoder("image"), read=source.read))
    finally:
        torch.set_num_threads(threads)


def test_a_reference_to_a_configured_space_is_opened_on_the_cluster(connected, tmp_path):
    settings = on_cpu(shared_model=save_joint_clip(tmp_path / "clip"))
    shared = Encoders(settings).shared
    assert shared is not None
    items = text_items(list(NAMES))
    encode = Cluster(connected).encode(EncoderRecipe(settings, "text", SpaceReference.to(shared)))
    there = embed_items(items, shared.encoder("text"), elsewhere=encode)
    assert_equal(there, embed_items(items, shared.encoder("text")))


def test_the_stage_is_one_of_any_pipeline(connected, word_model, tmp_path):
    import ray

    settings = on_cpu(text_model=word_model)
    pq.write_table(text_items(), tmp_path / "corpus.parquet")
    rows = (
        ray.data.read_parquet(str(tmp_path / "corpus.parquet"))
        .map_batches(
            EncoderStage,
            fn_constructor_args=(EncoderRecipe(settings, "text"),),
            batch_size=windows.TEXTS,
            batch_format="pyarrow",
            num_cpus=1,
        )
        .take_all()
    )
    expected, _ = embed_items(text_items(), Encoders(settings).text)
    assert [row["item_id"] for row in rows] == text_items()["item_id"].to_pylist()
    assert np.array([row["vector"] for row in rows], np.float32).tobytes() == expected.vectors.tobytes()
    assert {row["reason"] for row in rows} == {None}
    assert {row["chunked"] for row in rows} == {sum(len(text.split()) > 14 for text in TEXTS)}


def test_where_there_are_gpus_the_actors_are_there(two_nodes, connected, tmp_path):
    """A GPU is what a node says that it has: the tests schedule on one, and compute on none."""
    import ray

    settings = on_cpu(image_model=save_joint_clip(tmp_path / "clip"))
    source = DirectorySource("digits", write_digits(tmp_path / "digits", 30))
    items = source.scan().items("image")
    nodes = tmp_path / "nodes"
    nodes.mkdir()

    def read(uri: str, item_id: str) -> bytes:
        (nodes / ray.get_runtime_context().get_node_id()).touch()
        return source.read(uri, item_id)

    with_gpu = two_nodes.add_node(num_cpus=1, num_gpus=1, object_store_memory=100 * 2**20)
    try:
        two_nodes.wait_for_nodes()
        encode = Cluster(connected, num_gpus=1).encode(EncoderRecipe(settings, "image"), read)
        there = embed_items(items, Encoders(settings).image, read=read, elsewhere=encode)
    finally:
        two_nodes.remove_node(with_gpu)
    assert {node.name for node in nodes.iterdir()} == {with_gpu.node_id}
    assert_equal(there, embed_items(items, Encoders(settings).image, read=source.read))
