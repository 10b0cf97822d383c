"""What goes wrong on a cluster is said in words, in bounded time; what can be tried again is."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys

import pytest
from cluster_material import assert_equal, on_cpu, text_items, write_digits
from embeddings_tiny_models import save_joint_clip, save_text_model
from safetensors.torch import load_file, save_file

from aura.corpus.directory import DirectorySource
from aura.corpus.errors import PathOutsideCorpusError
from aura.embeddings import windows
from aura.embeddings.cluster import Cluster, EncoderRecipe
from aura.embeddings.errors import ClusterError
from aura.embeddings.incremental import embed_items
from aura.embeddings.opening import Encoders


@pytest.fixture
def outside():
    """This process belongs to no cluster, which it would use."""
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


@pytest.fixture
def closed_port(outside):
    """A port of this machine on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def embed_on(address, recipe):
    return embed_items(text_items(), Encoders(recipe.settings).text, elsewhere=Cluster(address).encode(recipe))


@pytest.fixture
def recipe(word_model):
    return EncoderRecipe(on_cpu(text_model=word_model), "text")


def test_an_address_where_nothing_listens_is_named_with_the_remedy(recipe, closed_port):
    with pytest.raises(ClusterError, match=rf"127.0.0.1:{closed_port}.*Connection refused.*`ray start --head`"):
        embed_on(f"127.0.0.1:{closed_port}", recipe)


def test_an_automatic_address_where_nothing_listens_is_refused_too(recipe, closed_port, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed_port}")
    with pytest.raises(ClusterError, match="no Ray cluster answers at 'auto'"):
        embed_on("auto", recipe)


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("address", ["nonsense", "somewhere:99999"])
def test_what_is_no_address_is_refused(recipe, address):
    with pytest.raises(ClusterError, match=f"no Ray cluster answers at '{address}'"):
        embed_on(address, recipe)


def test_a_client_of_a_cluster_is_told_where_to_run(recipe):
    with pytest.raises(ClusterError, match="run this on a machine of the cluster"):
        embed_on("ray://127.0.0.1:10001", recipe)


def test_without_ray_the_extra_is_named(recipe, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"install the extra aura\[ray\]"):
        embed_on("auto", recipe)


def test_nothing_to_encode_needs_no_cluster(recipe, closed_port):
    encode = Cluster(f"127.0.0.1:{closed_port}").encode(recipe)
    assert list(encode(iter([]))) == []


@pytest.mark.slow
@pytest.mark.usefixtures("outside")
def test_something_else_that_listens_is_given_up(recipe):
    """Ray itself goes on for a quarter of an hour."""
    import ray

    with socket.socket() as silent:
        silent.bind(("0.0.0.0", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"no Ray cluster answers at '{address}'"):
            embed_on(address, recipe)
    assert not ray.is_initialized()
    assert "RAY_gcs_server_port_wait_time_s" not in os.environ


@pytest.mark.slow
def test_an_actor_that_dies_once_is_started_again_and_nothing_is_lost(connected, tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "FILES", 8)
    settings = on_cpu(image_model=save_joint_clip(tmp_path / "clip"))
    source = DirectorySource("digits", write_digits(tmp_path / "digits", 40))
    items = source.scan().items("image")
    fatal, died = items["uri"][20].as_py(), tmp_path / "died"

    def read(uri: str, item_id: str) -> bytes:
        if uri == fatal and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return source.read(uri, item_id)

    encode = Cluster(connected).encode(EncoderRecipe(settings, "image"), read)
    there = embed_items(items, Encoders(settings).image, read=source.read, elsewhere=encode)
    assert died.exists()
    assert_equal(there, embed_items(items, Encoders(settings).image, read=source.read))


@pytest.mark.slow
def test_an_item_that_kills_every_actor_ends_the_work(connected, tmp_path):
    settings = on_cpu(image_model=save_joint_clip(tmp_path / "clip"))
    source = DirectorySource("digits", write_digits(tmp_path / "digits", 3))
    deaths = tmp_path / "deaths"
    deaths.mkdir()

    def read(_: str, __: str) -> bytes:
        (deaths / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    encode = Cluster(connected).encode(EncoderRecipe(settings, "image"), read)
    with pytest.raises(ClusterError, match="actor died unexpectedly"):
        embed_items(source.scan().items("image"), Encoders(settings).image, read=read, elsewhere=encode)
    assert len(list(deaths.iterdir())) == 4


@pytest.mark.slow
def test_what_an_actor_says_about_its_model_reaches_the_user(connected, tmp_path):
    directory = save_text_model(tmp_path / "words", seed=1)
    weights = next(directory.rglob("*.safetensors"))
    tensors = load_file(weights)
    next(tensor for name, tensor in tensors.items() if name.endswith("LayerNorm.weight")).fill_(float("nan"))
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(ClusterError, match=r"failed: model '.*words' gives vectors that are zero or not finite"):
        embed_on(connected, EncoderRecipe(on_cpu(text_model=directory), "text"))


@pytest.mark.slow
def test_a_model_that_is_not_there_on_the_other_machine_is_named(connected, word_model, tmp_path):
    directory = shutil.copytree(word_model, tmp_path / "words")
    recipe = EncoderRecipe(on_cpu(text_model=directory), "text")
    encoder = Encoders(recipe.settings).text
    shutil.rmtree(directory)
    with pytest.raises(ClusterError, match=f"failed: .*{directory}"):
        embed_items(text_items(), encoder, elsewhere=Cluster(connected).encode(recipe))


@pytest.mark.slow
def test_an_item_outside_of_the_source_is_named(connected, tmp_path):
    settings = on_cpu(image_model=save_joint_clip(tmp_path / "clip"))
    source = DirectorySource("digits", write_digits(tmp_path / "digits", 3))
    items = source.scan().items("image")
    items = items.set_column(items.column_names.index("uri"), "uri", [["../a.png", "../b.png", "../c.png"]])
    with pytest.raises(PathOutsideCorpusError) as here:
        embed_items(items, Encoders(settings).image, read=source.read)
    encode = Cluster(connected).encode(EncoderRecipe(settings, "image"), source.read)
    with pytest.raises(ClusterError) as there:
        embed_items(items, Encoders(settings).image, read=source.read, elsewhere=encode)
    assert str(there.value).endswith(str(here.value))
