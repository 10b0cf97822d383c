"""Homes for the real graph on a small real corpus.

A test that changes something takes `graph` (a fresh home); one that only reads takes `materialized`, which has been
run once for the whole session.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from shell_graph import Graph, Outcome, small_settings, write_corpus
from shell_models import save_word_model

from aura.measure.mlflow_store import create_database, database_path
from aura.settings import Settings


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside():
    """Settings of the person who runs the tests do not reach them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("AURA_") or name == "DAGSTER_HOME":
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def corpus_template(tmp_path_factory) -> Path:
    """The small corpus, to be copied."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "library")


@pytest.fixture(scope="session")
def text_model(tmp_path_factory, corpus_template) -> Path:
    """Directory of a fast text model whose vectors tell the labels of the small corpus apart."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(corpus_template.rglob("*.txt"))]
    return save_word_model(tmp_path_factory.mktemp("models") / "words", texts)


@pytest.fixture
def corpus_directory(tmp_path, corpus_template) -> Path:
    """A corpus of one's own: about sixty texts in three labelled directories."""
    return Path(shutil.copytree(corpus_template, tmp_path / "library"))


@pytest.fixture(scope="session")
def tracking_database(tmp_path_factory) -> Path:
    """An empty MLflow database, to be copied: its migrations cost seconds."""
    database = tmp_path_factory.mktemp("tracking") / "mlflow.db"
    create_database(database)
    return database


@pytest.fixture
def home(tmp_path, monkeypatch, text_model, tracking_database) -> Settings:
    """Settings of a fresh home, for processes that are started too."""
    settings = small_settings(tmp_path / "home", text_model)
    database = database_path(settings.tracking_uri)
    database.parent.mkdir(parents=True)
    shutil.copyfile(tracking_database, database)
    monkeypatch.setenv("AURA_HOME", str(settings.home))
    monkeypatch.setenv("DAGSTER_HOME", str(settings.dagster_home))
    for section in ("embeddings", "topology", "experts", "tiers"):
        for name, value in getattr(settings, section).model_dump(mode="json", exclude_unset=True).items():
            if value is not None:
                monkeypatch.setenv(f"AURA_{section.upper()}__{name.upper()}", str(value))
    return settings


@pytest.fixture
def graph(home, corpus_directory) -> Graph:
    """A graph in a fresh home with the small corpus registered; nothing has run yet."""
    graph = Graph(home)
    graph.register(corpus_directory)
    return graph


@dataclass(frozen=True)
class Materialized:
    """A graph whose corpus job ran twice and whose tiers job ran once; only to be read."""

    graph: Graph
    first: Outcome
    second: Outcome
    tiers: Outcome


@pytest.fixture(scope="session")
def materialized(tmp_path_factory, corpus_template, text_model) -> Materialized:
    """Run once for all tests that only look at the result."""
    graph = Graph(small_settings(tmp_path_factory.mktemp("materialized"), text_model))
    graph.register(corpus_template)
    return Materialized(graph, graph.run("corpus"), graph.run("corpus"), graph.run("tiers"))
