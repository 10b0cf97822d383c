"""Requests that a model with experts has answered become partitions, each kept by one successful run."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from shell_graph import changed
from typer.testing import CliRunner

from aura.cli import app
from aura.experts.routing.requests import RequestActivations, publish_request
from aura.tiers.catalog import Catalog
from aura.tiers.opening import open_configured_store
from aura.tiers.places import blocks_prefix
from aura_assets.partitions import requests
from resources.events import Events

AT = datetime(2026, 1, 5, 10, tzinfo=UTC)


def tell(graph, *ids, matrix=((2, 1), (0, 3))):
    with Events(graph.settings).open() as log:
        for request in ids:
            publish_request(log, RequestActivations(request, "m", 3, np.array(matrix), AT), source="tests")


class Daemon:
    """What Dagster's daemon does with the sensor."""

    def __init__(self, graph, instance):
        self.graph, self.instance, self.cursor = graph, instance, None

    def tick(self):
        """Look, register the partitions, run what is asked for; the partitions that were run."""
        definitions = self.graph.definitions()
        resources = {"events": Events(self.graph.settings)}
        sensor = definitions.resolve_sensor_def("expert_requests")
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor, resources=resources) as context:
            evaluated = sensor(context)
        self.cursor = evaluated.cursor
        for wanted in evaluated.dynamic_partitions_requests:
            self.instance.add_dynamic_partitions(wanted.partitions_def_name, list(wanted.partition_keys))
        job = definitions.resolve_job_def("requests")
        for request in evaluated.run_requests:
            job.execute_in_process(
                instance=self.instance,
                partition_key=request.partition_key,
                tags=dict(request.tags),
                run_config={**request.run_config, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                raise_on_error=False,
            )
        return [request.partition_key for request in evaluated.run_requests]


@pytest.fixture
def daemon(graph):
    with graph.instance() as instance:
        yield Daemon(graph, instance)


def test_each_request_is_kept_once(graph, daemon) -> None:
    tell(graph, "a", "b")
    assert daemon.tick() == ["a", "b"]
    assert sorted(daemon.instance.get_dynamic_partitions(requests.name)) == ["a", "b"]
    assert daemon.tick() == []
    tell(graph, "c")
    assert daemon.tick() == ["c"]
    daemon.cursor = None
    assert daemon.tick() == [], "the cursor only saves reading"
    kept = graph.load("request_activations", "b")
    assert isinstance(kept, RequestActivations)
    assert kept.matrix.tolist() == [[2, 1], [0, 3]]


def test_the_latest_requests_are_kept_and_older_ones_go_with_their_partitions(graph, daemon) -> None:
    daemon.graph = replace(graph, settings=changed(graph.settings, experts={"kept_requests": 2}))
    tell(graph, "a")
    daemon.tick()
    tell(graph, "lossy", matrix=[[2, 1], [0, 2]])
    daemon.tick()
    tell(graph, "c", "b")
    assert daemon.tick() == ["b", "c"]
    assert daemon.instance.get_dynamic_partitions(requests.name) == ["lossy", "b", "c"]
    tell(graph, "d")
    daemon.tick()
    assert daemon.instance.get_dynamic_partitions(requests.name) == ["c", "d"]
    with open_configured_store(graph.settings) as store:
        kept = [each.partition for each in Catalog(store).published() if each.name == "request_activations"]
        assert kept == ["c", "d"]
        assert store.entries(blocks_prefix("request_activations", "b")) == []
    daemon.cursor = None
    assert daemon.tick() == [], "what was kept once does not come back"


def test_a_request_whose_tokens_are_lost_is_not_published(graph, daemon) -> None:
    tell(graph, "lossy", matrix=[[2, 1], [0, 2]])
    assert daemon.tick() == ["lossy"]
    assert "request_activations" not in graph.published("lossy")
    assert daemon.tick() == [], "the next attempt waits"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen", "aura", "switch"])
def test_what_a_model_answers_on_the_command_line_is_kept(graph, daemon, tmp_path, monkeypatch, kind) -> None:
    """Also where capacity drops some of it, and where an encoder and a decoder are given different tokens."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "experts_offload"))
    from offload_models import save_with_letters

    def aura(*arguments):
        done = CliRunner().invoke(app, ["experts", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output

    aura("put", str(save_with_letters(kind, tmp_path / "letters")))
    aura("run", "letters", "aaaaaaaa", "--tokens", "5", "--request", "real")

    assert daemon.tick() == ["real"]
    kept = graph.load("request_activations", "real")
    assert isinstance(kept, RequestActivations)
    assert (kept.request, kept.model) == ("real", "letters")
    assert (kept.dropped > 0).any() == (kind != "qwen")
