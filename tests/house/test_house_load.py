"""`aura.load` and `aura.published`: what a notebook gets, and what it is told when there is nothing to get."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

import aura
from aura.embeddings.table import EmbeddingModel, EmbeddingTable
from aura.loading import PartitionNeededError
from aura.settings import load_settings
from aura.tiers.budgets import TierBudgets
from aura.tiers.catalog import Catalog
from aura.tiers.planning.checks import costs_are_sound
from aura.tiers.planning.profile import TierProfile, measure_profile
from aura.tiers.published import ValueNotPublishedError
from aura.tiers.records import Tier
from aura.tiers.store import open_store

KIB = 1024
BUDGETS = TierBudgets(process_bytes=4096 * KIB, arena_bytes=4096 * KIB)


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.delenv("AURA_CONFIG", raising=False)
    monkeypatch.setenv("AURA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def store():
    return open_store(load_settings().store_directory, budgets=BUDGETS)


def embeddings(seed, rows=2000, dimension=64):
    """More than one block of rows, so that loading puts blocks together."""
    vectors = np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"{seed}-{row:05d}" for row in range(rows)]
    items = pa.table(
        {"item_id": names, "uri": names, "modality": ["text"] * len(names), "label": names, "sublabel": names}
    )
    return EmbeddingTable.build(items, vectors, EmbeddingModel("random", "0" * 16, None, dimension, "float32"))


def publish(open_, value, name="text_embeddings", partition="notes"):
    return Catalog(open_).publish(name, value, partition=partition, provenance={})


def test_importing_aura_loads_nothing_that_takes_time():
    code = "import aura, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not set(run.stdout.split()) & {"dagster", "mlflow", "numpy", "pandas", "pyarrow", "pydantic", "torch"}


def test_loading_a_value_loads_no_dagster_torch_or_mlflow(home):
    with store() as owner:
        publish(owner, embeddings(0))
    code = (
        "import aura, sys; value = aura.load('text_embeddings'); aura.published();"
        "print(type(value).__name__, value.vectors.shape[0], *sorted({n.split('.')[0] for n in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    kind, rows, *loaded = run.stdout.split()
    assert (kind, rows) == ("EmbeddingTable", "2000")
    assert not set(loaded) & {"dagster", "mlflow", "torch"}


def test_a_value_stays_as_it_was_when_its_place_in_the_store_is_given_to_another():
    first, second = embeddings(1), embeddings(2)
    with store() as owner:
        publish(owner, first)
    loaded = aura.load("text_embeddings", partition="notes")
    with store() as owner:
        publish(owner, second)
    assert isinstance(loaded, EmbeddingTable)
    assert loaded.table.equals(first.table)
    assert aura.load("text_embeddings").table.equals(second.table)


@pytest.mark.parametrize("tier", [Tier.L1, Tier.L2, Tier.L3])
def test_a_value_from_any_tier_of_another_owner_outlives_that_store(tier):
    first, second = embeddings(1), embeddings(2)
    with store() as owner:
        keys = publish(owner, first).keys
        assert len(keys) > 1
        assert not owner.move(dict.fromkeys(keys, tier)).refused
        loaded = aura.load("text_embeddings")
        vectors = loaded.vectors
        owner.move(dict.fromkeys(keys, Tier.L3))
        taken = publish(owner, second).keys
        assert not owner.move(dict.fromkeys(taken, tier)).refused
        assert np.array_equal(vectors, first.vectors)
    assert np.array_equal(vectors, first.vectors)
    assert loaded.table.equals(first.table)


def test_a_value_without_partitions_is_loaded_by_its_name_alone_as_the_type_that_was_published():
    with store() as owner:
        profile = measure_profile(owner, sizes=(4 * KIB, 16 * KIB), repeats=1)
        publish(owner, profile, "tier_profile", None)
    loaded = aura.load("tier_profile")
    assert isinstance(loaded, TierProfile)
    assert costs_are_sound(loaded).passed
    assert loaded.samples.equals(profile.samples)


def test_the_store_is_free_again_after_a_load():
    with store() as owner:
        publish(owner, embeddings(1))
    aura.load("text_embeddings")
    with store() as owner:
        assert [state.tier for state in owner.tiers()] == [Tier.L1, Tier.L2, Tier.L3]


def test_without_a_name_the_only_partition_is_loaded_and_among_several_one_must_be_named():
    with store() as owner:
        publish(owner, embeddings(1), partition="notes")
        assert aura.load("text_embeddings").table.num_rows == 2000
        publish(owner, embeddings(2, rows=3), partition="letters")
    with pytest.raises(PartitionNeededError, match=r"letters, notes.*partition='letters'"):
        aura.load("text_embeddings")
    assert aura.load("text_embeddings", "letters").table.num_rows == 3


def test_a_missing_value_says_what_there_is():
    with store() as owner:
        publish(owner, embeddings(1, rows=3), partition="notes")
    with pytest.raises(ValueNotPublishedError, match="published partitions are notes"):
        aura.load("text_embeddings", "leters")
    with pytest.raises(ValueNotPublishedError, match="published are text_embeddings"):
        aura.load("text_embedings")


@pytest.mark.parametrize("read", [aura.published, lambda: aura.load("text_embeddings")])
def test_a_home_without_a_store_is_named_and_not_made(read, home):
    with pytest.raises(ValueNotPublishedError, match=rf"{home}.*AURA_HOME"):
        read()
    assert not home.exists()


def test_what_is_published_is_a_table_with_one_row_per_value():
    with store() as owner:
        sizes = [
            publish(owner, embeddings(1, rows=5), partition="notes").bytes,
            publish(owner, measure_profile(owner, sizes=(4 * KIB, 16 * KIB), repeats=1), "tier_profile", None).bytes,
        ]
    frame = aura.published().to_pandas()
    assert frame["name"].tolist() == ["text_embeddings", "tier_profile"]
    assert frame["partition"].tolist()[0] == "notes"
    assert frame["partition"].isna().tolist() == [False, True]
    assert frame["type"].tolist() == ["EmbeddingTable", "TierProfile"]
    assert frame["rows"][0] == 5
    assert frame["bytes"].tolist() == sizes
    assert str(frame["created_at"].dtype).endswith("UTC]")
