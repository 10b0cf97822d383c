"""The assets: a text, three seeds, their comparison; nothing that starts by itself."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import dagster as dg
import pytest
from shell_graph import Graph, Outcome, outcome_of, small_settings

from aura.experts.language.comparison import MoeVersusDense
from aura.experts.language.models import LanguageModels
from aura.experts.language.presets import PRESETS
from aura.experts.language.tokens import LanguageText
from aura.graph.lineage import Version, materialization_node
from aura.graph.model import EdgeType
from aura.graph.opening import open_graph
from aura.measure.mlflow_store import create_database, database_path
from aura.settings import Settings
from aura.settings_sections import LanguageSettings
from aura_assets.build import build_defs
from aura_assets.language import language_config


@dataclass(frozen=True)
class Language:
    """A home, and its job."""

    settings: Settings

    @property
    def graph(self) -> Graph:
        return Graph(self.settings)

    def train(self, seed: str, **tags: str) -> Outcome:
        with self.graph.instance() as instance:
            result = (
                build_defs(self.settings)
                .resolve_job_def("language")
                .execute_in_process(instance=instance, raise_on_error=False, partition_key=seed, tags=tags)
            )
            return outcome_of(result)


@pytest.fixture(scope="module")
def tracking(tmp_path_factory) -> Path:
    database = tmp_path_factory.mktemp("tracking") / "mlflow.db"
    create_database(database)
    return database


@pytest.fixture(scope="module")
def trained(tmp_path_factory, text_directory, tracking):
    """All three seeds, one after the other."""
    home = tmp_path_factory.mktemp("language")
    settings = small_settings(home, None).model_copy(
        update={"language": LanguageSettings(text=str(text_directory), preset="tiny")}
    )
    database = database_path(settings.tracking_uri)
    database.parent.mkdir(parents=True)
    shutil.copyfile(tracking, database)
    language = Language(settings)
    return language, [language.train(seed) for seed in ("0", "1", "2")]


pytestmark = pytest.mark.slow


def test_every_seed_is_trained_and_the_last_one_completes_the_comparison(trained):
    language, (first, second, third) = trained
    assert [outcome.failed for outcome in (first, second, third)] == [{}, {}, {}]
    assert "seeds 1, 2 are not there yet" in first.left_out["moe_versus_dense"]
    assert set(third.materialized) == {"language_text", "language_models", "moe_versus_dense"}
    assert "PROVES NOTHING" in str(third.materialized["moe_versus_dense"]["found"])
    assert third.checks["moe_versus_dense", "all_seeds_are_done"].passed
    assert not third.checks["moe_versus_dense", "enough_tokens"].passed
    assert third.checks["language_text", "whole"].passed
    assert third.checks["language_models", "better_than_no_model"].passed
    with language.graph.catalog() as catalog:
        models = catalog.load("language_models", "0")
        comparison = catalog.load("moe_versus_dense", None)
        assert isinstance(catalog.load("language_text", None), LanguageText)
    assert isinstance(models, LanguageModels)
    assert isinstance(comparison, MoeVersusDense)
    assert [card.config.seed for card in comparison.cards] == [0, 1, 2]
    assert comparison.cards[0] == models.card


def test_the_comparison_is_made_from_all_seeds_and_they_from_the_text(trained):
    language, _ = trained
    with language.graph.catalog() as catalog:
        found = {(each.name, each.partition): each for each in catalog.published()}
    comparison = found["moe_versus_dense", None]
    text = found["language_text", None]
    models = {seed: found["language_models", seed] for seed in ("0", "1", "2")}
    for seed, each in models.items():
        assert comparison.provenance[f"input language_models[{seed}]"] == each.version
        assert each.provenance["input language_text"] == text.version
    with closing(open_graph(language.settings)) as graph:
        node = materialization_node(Version("moe_versus_dense", None, comparison.version)).id
        feeding = {each.node.id for each in graph.neighbours(node, "in", (EdgeType.FEEDS,))}
    assert feeding == {
        materialization_node(Version("language_models", seed, each.version)).id for seed, each in models.items()
    }


def test_a_seed_is_not_trained_again_while_its_text_and_settings_are_the_same(trained):
    language, _ = trained
    again = language.train("1")
    assert again.reused == {"language_models"}
    changed = Language(
        language.settings.model_copy(update={"language": language.settings.language.model_copy(update={"steps": 6})})
    )
    other = changed.train("1")
    assert "language_models" not in other.reused
    assert "differ in settings or text" in other.left_out["moe_versus_dense"]
    back = language.train("1")
    assert back.failed == {}
    assert "moe_versus_dense" in back.materialized


def test_each_seed_is_a_registered_model_that_a_person_finds(trained):
    import mlflow

    language, outcomes = trained
    uri = language.settings.tracking_uri
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    names = {model.name for model in client.search_registered_models()}
    assert names == {"aura-language-seed-0", "aura-language-seed-1", "aura-language-seed-2"}
    version = client.get_model_version_by_alias("aura-language-seed-2", "current")
    assert version.tags["aura.asset"] == "language_models"
    assert version.tags["aura.partition"] == "2"
    assert version.tags["dagster.run_id"] == outcomes[2].run_id
    assert "prove nothing" in version.tags["aura.proves_nothing"]
    assert outcomes[2].materialized["language_models"]["registered_model"] == "models:/aura-language-seed-2/1"


def test_nothing_of_it_starts_by_itself():
    repository = build_defs(Settings(home=Path("/nowhere")))
    specs = {spec.key.to_user_string(): spec for spec in repository.resolve_all_asset_specs()}
    for name in ("language_text", "language_models", "moe_versus_dense"):
        assert specs[name].automation_condition is None
        assert specs[name].freshness_policy is None
    corpus = repository.resolve_job_def("corpus")
    assert dg.AssetKey("language_models") not in corpus.asset_layer.executable_asset_keys


def test_the_defaults_are_the_preset_and_a_setting_changes_it():
    assert language_config(Settings(home=Path("/nowhere"))) == PRESETS["small"]
    settings = Settings(home=Path("/nowhere"), language=LanguageSettings(preset="tiny", experts=8, steps=3, threads=2))
    assert language_config(settings) == replace(PRESETS["tiny"], experts=8, steps=3, threads=2)
    assert Path(LanguageSettings(text="texts").text).is_absolute()
