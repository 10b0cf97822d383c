"""What a person finds after the whole graph has run: values, checks, metadata, places."""

from __future__ import annotations

import ast
import base64
import re
from pathlib import Path

import dagster as dg
import pyarrow.compute as pc
import pytest

from aura.corpus.manifest import CorpusManifest
from aura.embeddings.table import EmbeddingTable
from aura.experts.model import ExpertModel
from aura.experts.routing.table import RoutingTable
from aura.search.index import SearchIndex
from aura.tiers.planning.placement import TierPlacement
from aura.tiers.planning.profile import TierProfile
from aura.tiers.records import Tier
from aura.topology.cycles import RepresentativeCycles
from aura.topology.diagrams import PersistenceDiagrams
from aura.topology.drift.embeddings import DriftReference
from aura.topology.drift.report import DriftReport
from aura.topology.subsamples import AveragedLandscapes
from aura.topology.vectors import TopologyVectors
from aura_assets.build import ASSETS

VALUES = {
    "corpus_manifest": CorpusManifest,
    "text_embeddings": EmbeddingTable,
    "text_index": SearchIndex,
    "embedding_diagrams": PersistenceDiagrams,
    "diagram_vectors": TopologyVectors,
    "averaged_landscapes": AveragedLandscapes,
    "embedding_loops": RepresentativeCycles,
    "expert_model": ExpertModel,
    "expert_routing_table": RoutingTable,
    "drift_reference": DriftReference,
    "embedding_drift": DriftReport,
    "network_reference": DriftReference,
    "network_drift": DriftReport,
}
"""What the corpus job makes of a source without images, by asset."""

TIER_VALUES = {"tier_profile": TierProfile, "tier_placement": TierPlacement}

NOTEBOOKS = {f"{name}_notebook" for name in ("tour", "topology", "routing", "placement", "costs")}
APART = {"language_text", "language_models", "moe_versus_dense", "request_activations"} | NOTEBOOKS
"""What only jobs of its own make; other files run them."""

NAMES = sorted(key.to_user_string() for asset in ASSETS for key in asset.keys)

PLOTS = {
    "text_embeddings": {"principal_components"},
    "embedding_diagrams": {"barcode", "diagram", "betti"},
    "diagram_vectors": {"persistence_image"},
    "averaged_landscapes": {"landscapes"},
    "embedding_drift": {"drift"},
    "network_drift": {"drift"},
    "expert_model": {"training"},
    "expert_routing_table": {"load", "specialisation"},
    "tier_profile": {"latency"},
    "tier_placement": {"before_and_after"},
}

TABLES = {
    "corpus_manifest": "items",
    "embedding_loops": "loops",
    "expert_routing_table": "experts",
    "tier_profile": "costs",
    "tier_placement": "tiers",
}


def outcome(materialized, name):
    return materialized.tiers if name in TIER_VALUES else materialized.first


def test_one_run_makes_every_asset_of_a_source_of_texts(materialized) -> None:
    assert materialized.first.failed == {}
    assert set(materialized.first.materialized) == set(VALUES)
    left_out = materialized.first.left_out
    assert set(left_out) == {"image_embeddings", "audio_embeddings", "joint_model"}
    assert left_out["image_embeddings"] == "skipped: no image items in this source"
    assert "a joint model needs items of two modalities" in left_out["joint_model"]
    assert materialized.first.skipped == set(NAMES) - set(VALUES) - set(TIER_VALUES) - APART - set(left_out)
    assert materialized.tiers.failed == {}
    assert set(materialized.tiers.materialized) == set(TIER_VALUES)


@pytest.mark.parametrize("name", NAMES)
def test_every_asset_says_who_owns_it_what_it_is_and_what_guards_it(materialized, name) -> None:
    definitions = materialized.graph.definitions()
    graph = definitions.resolve_asset_graph()
    node = graph.get(dg.AssetKey(name))
    assert node.owners
    assert node.group_name not in (None, "default")
    assert 1 <= len(node.kinds) <= 3
    assert len(node.description or "") > 40
    asked_for = name == "corpus_manifest" or name in APART
    assert (node.automation_condition is None) == asked_for
    assert [key for key in graph.asset_check_keys if key.asset_key == node.key]


@pytest.mark.parametrize("name", [*VALUES, *TIER_VALUES])
def test_every_check_that_is_declared_is_evaluated_and_passes(materialized, name) -> None:
    graph = materialized.graph.definitions().resolve_asset_graph()
    declared = {key.name for key in graph.asset_check_keys if key.asset_key == dg.AssetKey(name)}
    checks = outcome(materialized, name).checks
    assert {check for asset, check in checks if asset == name} == declared
    for (asset, check), evaluation in checks.items():
        blocking = evaluation.severity == dg.AssetCheckSeverity.ERROR
        assert evaluation.passed or not blocking, (asset, check, evaluation.description)
        assert evaluation.description


@pytest.mark.parametrize("name", [*VALUES, *TIER_VALUES])
def test_every_materialization_has_its_cost_as_typed_metadata(materialized, name) -> None:
    entries = outcome(materialized, name).entries[name]
    assert isinstance(entries["dagster/row_count"], dg.IntMetadataValue)
    assert isinstance(entries["bytes"], dg.IntMetadataValue)
    for figure in ("wall_seconds", "cpu_seconds", "peak_memory_mib", "store_seconds"):
        assert isinstance(entries[figure], dg.FloatMetadataValue | dg.IntMetadataValue)
        assert entries[figure].value > 0
    assert re.match(r"(measured|modelled|unavailable): \w", entries["energy"].value)
    with_joules = {key for key in entries if key.startswith("joules_")}
    source = entries["energy"].value.split(":")[0]
    assert with_joules == (set() if source == "unavailable" else {f"joules_{source}"})


@pytest.mark.parametrize("name", PLOTS)
def test_the_plots_are_pictures_that_the_ui_can_draw(materialized, name) -> None:
    entries = outcome(materialized, name).entries[name]
    for plot in PLOTS[name]:
        embedded = re.fullmatch(r"!\[.+\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", entries[plot].value)
        assert embedded, plot
        png = base64.b64decode(embedded[1])
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        assert 2_000 < len(png) < 100_000


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_drawn_with_a_cell_per_column(materialized, name) -> None:
    lines = outcome(materialized, name).entries[name][TABLES[name]].value.splitlines()
    assert len(lines) > 2
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


@pytest.mark.parametrize(("name", "kind"), [*VALUES.items(), *TIER_VALUES.items()])
def test_a_value_is_loaded_as_the_type_that_was_published(materialized, name, kind) -> None:
    value = materialized.graph.load(name, None if name in TIER_VALUES else materialized.graph.source)
    assert type(value) is kind


def test_the_rows_are_those_of_the_value(materialized) -> None:
    rows = {name: values["dagster/row_count"] for name, values in materialized.first.materialized.items()}
    assert rows["corpus_manifest"] == materialized.graph.load("corpus_manifest").table.num_rows == 60
    assert rows["text_embeddings"] == materialized.graph.load("text_embeddings").table.num_rows == 60
    assert rows["embedding_diagrams"] == materialized.graph.load("embedding_diagrams").table.num_rows
    assert rows["expert_routing_table"] == materialized.graph.settings.experts.experts


def test_the_labels_are_the_directories_and_reach_the_routing_table(materialized) -> None:
    routing = materialized.graph.load("expert_routing_table")
    assert set(routing.labels["label"].to_pylist()) == {"decimal", "email", "turtle"}


def test_the_published_version_is_the_data_version_that_dagster_knows(materialized) -> None:
    published = materialized.graph.published()
    assert {name: published[name] for name in VALUES} == materialized.second.data_versions


def test_an_unchanged_source_encodes_nothing_and_recomputes_nothing(materialized) -> None:
    second = materialized.second
    assert second.success
    assert second.materialized["corpus_manifest"]["unchanged"] == 60
    embeddings = second.materialized["text_embeddings"]
    assert (embeddings["encoded"], embeddings["reused_vectors"], embeddings["why"]) == (0, 60, "nothing new")
    assert second.reused == set(VALUES) - {
        "corpus_manifest",
        "text_embeddings",
        "diagram_vectors",
        "drift_reference",
        "network_reference",
    }
    assert second.data_versions == materialized.first.data_versions


def test_what_is_reused_is_still_checked(materialized) -> None:
    for name in materialized.second.reused:
        checks = {check for asset, check in materialized.second.checks if asset == name}
        assert checks == {check for asset, check in materialized.first.checks if asset == name}


def test_nothing_that_is_kept_is_a_pickle(materialized) -> None:
    home = materialized.graph.settings.home
    files = [path for path in home.rglob("*") if path.is_file()]
    assert any(path.is_relative_to(materialized.graph.settings.artifact_root) for path in files)
    assert [path for path in files if path.suffix in {".pkl", ".pickle", ".pt", ".pth", ".joblib"}] == []
    # Protocols 2 to 5 begin with these two bytes and end with a full stop; a torch archive holds a data.pkl.
    pickles = re.compile(rb"\A\x80[\x02-\x05].*\.\Z", re.DOTALL)
    contents = {path: path.read_bytes() for path in files if path.stat().st_size < 50_000_000}
    assert [path for path, content in contents.items() if pickles.match(content) or b"data.pkl" in content] == []


def test_no_block_in_the_store_is_a_pickle(materialized) -> None:
    with materialized.graph.store() as store:
        kinds = {entry.kind for entry in store.entries("values/")}
    assert kinds <= {"table", "tensors", "bytes"}


def test_no_module_of_the_house_imports_pickle() -> None:
    project = Path(__file__).resolve().parents[2]
    for folder in ("aura", "aura_assets", "resources", "sensors"):
        for path in (project / folder).rglob("*.py"):
            imported = {
                name.name
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.Import | ast.ImportFrom)
                for name in [*node.names, *([ast.alias(node.module or "")] if isinstance(node, ast.ImportFrom) else [])]
            }
            assert not imported & {"pickle", "cloudpickle", "joblib", "dill"}, path


def test_a_placement_is_applied_within_the_capacities_while_the_store_stays_open(graph) -> None:
    with graph.store() as store:
        graph.run("corpus")
        outcome = graph.run("tiers")
        assert outcome.failed == {}
        placement = graph.load("tier_placement", None)
        lives = {entry.key: entry.tier for entry in store.entries()}
        objects = placement.objects
        wanted = dict(zip(objects["key"].to_pylist(), objects["tier_after"].to_pylist(), strict=True))
        # The profile before this one was replaced since.
        wanted = {key: tier for key, tier in wanted.items() if key in lives}
        assert len(wanted) >= 5
        assert set(wanted.values()) > {"L3"}, "the reads of the chain are worth a faster tier"
        assert {key: lives[key] for key in wanted} == wanted
        for state in store.tiers():
            if state.tier is not Tier.L3:
                assert state.used_bytes <= (state.capacity_bytes or 0)
        moved = pc.sum(pc.less(objects["tier_after"], objects["tier_before"])).as_py()
        assert outcome.materialized["tier_placement"]["promoted"] == moved > 0
