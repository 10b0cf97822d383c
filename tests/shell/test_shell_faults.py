"""What a person is told when something is wrong, and that what was published stays as it was."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from aura.tiers.catalog import Catalog
from aura.tiers.codec import encode
from aura.tiers.errors import CorruptObjectError, StorageError
from aura_assets.build import build_defs

SETTINGS_FAULT = "from aura_assets.definitions import everything; everything()"


@contextmanager
def mounted(directory: Path, options: str) -> Iterator[None]:
    """A file system of its own in the directory; a skip where this user may not mount."""
    directory.mkdir(parents=True, exist_ok=True)
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"cannot mount a small file system: {mount.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def fill(file: Path) -> None:
    """Write until the disk is full, which raises an OSError."""
    with file.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))


def with_settings(graph, section: str, **values: object):
    """The same graph with other settings in one section."""
    changed = getattr(graph.settings, section).model_copy(update=values)
    return dataclasses.replace(graph, settings=graph.settings.model_copy(update={section: changed}))


def said(graph, outcome, step: str) -> str:
    """What the Dagster UI shows for a failed step: the error that was raised and its causes."""
    with graph.instance() as instance:
        logs = instance.all_logs(outcome.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    events = [entry.dagster_event for entry in logs if entry.dagster_event.step_key == step]
    error = events[0].step_failure_data.error
    messages = []
    while error is not None:
        messages.append(error.message)
        error = error.cause
    return "\n".join(messages)


def test_a_wrong_setting_is_named_with_its_value_when_the_definitions_are_loaded(home):
    load = subprocess.run(
        [sys.executable, "-c", SETTINGS_FAULT],
        env={**os.environ, "AURA_EXPERTS__EXPERTS": "many"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert load.returncode != 0
    assert "AURA_EXPERTS__EXPERTS" in load.stderr
    assert "'many'" in load.stderr
    assert "`aura settings --names` lists the names" in load.stderr


def test_a_text_model_that_is_not_there_is_named_with_the_remedy_and_the_manifest_is_made(graph, tmp_path):
    missing = tmp_path / "no-such-model"
    outcome = with_settings(graph, "embeddings", text_model=str(missing)).run()
    assert not outcome.success
    assert str(missing) in said(graph, outcome, "text_embeddings")
    assert "name one of the two, or 'minilm'" in said(graph, outcome, "text_embeddings")
    assert set(graph.published()) == {"corpus_manifest"}


def test_a_source_whose_directory_is_gone_is_an_error_and_no_empty_corpus(graph, corpus_directory):
    assert graph.run_selection(["corpus_manifest", "text_embeddings"]).success
    before = graph.published()
    shutil.rmtree(corpus_directory)
    outcome = graph.run()
    assert not outcome.success
    assert str(corpus_directory) in outcome.failed["corpus_manifest"]
    assert outcome.materialized == {}
    assert graph.published() == before


def test_a_disk_that_fills_up_while_embedding_is_named_with_the_remedy_and_nothing_is_lost(graph, corpus_directory):
    store = graph.settings.store_directory
    filler = store / "filler"

    def fill_while_embedding(name):
        def report(done: int, total: int) -> None:
            if not name.startswith("text_embeddings") or filler.exists():
                return
            with pytest.raises(OSError, match="No space left"):
                fill(filler)

        return report

    with mounted(store, "size=48m,mode=0700"):
        assert graph.run_selection(["corpus_manifest", "text_embeddings"]).success
        before = graph.published()
        (corpus_directory / "turtle" / "new.txt").write_text("Turn the turtle left and draw.", encoding="utf-8")
        defs = build_defs(graph.settings, resources={"progress": fill_while_embedding})
        outcome = graph._execute(defs, "corpus", graph.source, {})
        assert not outcome.success
        words = said(graph, outcome, "text_embeddings")
        assert "No space left" in words
        assert str(store) in words
        assert "Free space" in words
        filler.unlink()
        assert graph.published()["text_embeddings"] == before["text_embeddings"]
        graph.load("text_embeddings")
        outcome = graph.run()
        assert outcome.success
        assert outcome.data_versions["text_embeddings"] != before["text_embeddings"]


def test_a_store_that_may_not_be_written_is_named_with_the_remedy(graph):
    with mounted(graph.settings.store_directory, "size=1m,ro"):
        with pytest.raises(StorageError) as refused, graph.store():
            pass
        assert str(graph.settings.store_directory) in str(refused.value)
        assert "this user may write to it" in str(refused.value)


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.timeout(120)
def test_without_the_tracking_server_assets_are_made_and_the_log_says_what_is_missing(graph, caplog):
    uri = f"http://127.0.0.1:{closed_port()}"
    outcome = with_settings(graph, "measure", mlflow_uri=uri).run()
    assert outcome.success
    assert "expert_model" in outcome.materialized
    warnings = [record.getMessage() for record in caplog.records if record.name == "aura.measure.mlflow_recorder"]
    # What was skipped is recorded too.
    assert len(warnings) == len(outcome.materialized) + len(outcome.left_out)
    assert all(uri in warning and "make up" in warning for warning in warnings)


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_a_tracking_server_that_never_answers_does_not_hold_an_asset_up_for_ever(graph, caplog):
    with silent_server() as port:
        graph = with_settings(graph, "measure", mlflow_uri=f"http://127.0.0.1:{port}")
        outcome = graph.run_selection(["corpus_manifest"])
    assert outcome.success
    assert any(record.name == "aura.measure.mlflow_recorder" for record in caplog.records)


def damage_on_disk(graph, name: str) -> None:
    """Flip one bit of the longest block of a published value in the file that RocksDB keeps it in."""
    with graph.catalog() as catalog:
        parts = catalog.store.get_many(catalog.find(name, graph.source).keys)
        payload = max((bytes(encode(part).payload) for part in parts.values()), key=len)
    # What is in the write-ahead log goes into a table file when the store is opened again.
    with graph.store():
        pass
    # The whole block, since another value may hold the same vectors.
    files = [
        path for path in (graph.settings.store_directory / "rocksdb").glob("*.sst") if payload in path.read_bytes()
    ]
    assert files
    for path in files:
        raw = bytearray(path.read_bytes())
        raw[raw.index(payload) + len(payload) // 2] ^= 1
        path.write_bytes(raw)
    with graph.catalog() as catalog, pytest.raises(CorruptObjectError, match=name):
        catalog.load(name, graph.source)


def damage_pointer(graph, name: str) -> None:
    with graph.store() as store:
        store.put(f"pointers/{name}/{graph.source}", b"{")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("corpus_manifest", damage_on_disk),
        ("text_embeddings", damage_on_disk),
        ("embedding_diagrams", damage_on_disk),
        ("text_embeddings", damage_pointer),
        ("expert_model", damage_pointer),
    ],
)
@pytest.mark.slow
def test_a_damaged_value_is_made_again_by_the_next_run(graph, name, damage):
    """The manifest and the embeddings read their predecessor; the others would be reused."""
    first = graph.run()
    assert first.success
    damage(graph, name)
    second = graph.run()
    assert second.success, second.failed
    assert name not in second.reused
    assert second.data_versions == first.data_versions
    with graph.catalog() as catalog:
        catalog.load(name, graph.source)


def test_what_reads_a_damaged_value_says_which_one_and_how_to_repair_it(graph):
    assert graph.run_selection(["corpus_manifest", "text_embeddings"]).success
    damage_on_disk(graph, "text_embeddings")
    outcome = graph.run_selection(["embedding_diagrams"])
    assert "values/text_embeddings/" in said(graph, outcome, "embedding_diagrams")
    assert "materialize its asset" in said(graph, outcome, "embedding_diagrams")


def test_a_value_whose_blocks_are_lost_is_published_again(graph):
    with graph.store() as store:
        assert graph.run_selection(["corpus_manifest", "text_embeddings"]).success
        published = Catalog(store).find("text_embeddings", graph.source)
        store.write({}, published.keys)
        outcome = graph.run_selection(["text_embeddings"])
        assert outcome.success
        assert outcome.data_versions["text_embeddings"] == published.version
