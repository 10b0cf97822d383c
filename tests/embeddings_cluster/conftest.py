"""A real Ray cluster of two nodes on this machine, one for all tests of a session."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

# The models are those of the tests of the encoders and of the shell.
sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("embeddings", "embeddings_joint", "shell"))

from embeddings_tiny_models import save_text_model

MIB = 2**20


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside():
    """Settings of the person who runs the tests do not reach them, and Ray reports nothing about itself."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AURA_", "RAY_")) or name == "DAGSTER_HOME":
                patch.delenv(name)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield


@contextlib.contextmanager
def a_cluster():
    """A Ray cluster without a node; its processes end with it, and with this process."""
    import ray
    from ray.cluster_utils import Cluster

    # Sockets lie in it, whose paths have at most 107 bytes.
    directory = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    cluster = Cluster()
    try:
        yield cluster, {"object_store_memory": 100 * MIB, "include_dashboard": False, "temp_dir": directory}
    finally:
        try:
            ray.shutdown()
            cluster.shutdown()
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def two_nodes():
    """The cluster: two nodes with a processor each, and no GPU."""
    with a_cluster() as (cluster, options):
        cluster.add_node(num_cpus=1, **options)
        cluster.add_node(num_cpus=1, **options)
        cluster.wait_for_nodes()
        yield cluster


@pytest.fixture
def unconnected(two_nodes):
    """The address, while this process does not belong to the cluster."""
    import ray

    ray.shutdown()
    return two_nodes.address


@pytest.fixture
def connected(two_nodes):
    """The address, while this process belongs to the cluster: connecting takes seconds, so it stays connected."""
    import ray

    if not ray.is_initialized():
        ray.init(two_nodes.address, log_to_driver=False, logging_level=logging.WARNING)
    return two_nodes.address


@pytest.fixture(scope="session")
def word_model(tmp_path_factory):
    return save_text_model(tmp_path_factory.mktemp("models") / "words", seed=1)
