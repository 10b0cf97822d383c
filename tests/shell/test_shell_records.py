"""Where the cost of a materialization is kept: MLflow runs, the model registry, spans."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from shell_graph import Graph, changed

from aura.measure.history import CostHistory

COSTS = ("wall_seconds", "cpu_seconds", "peak_memory_mib")

SHELL_PROCESS = Path(__file__).with_name("shell_process.py")


@pytest.fixture(scope="module")
def client(materialized) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(tracking_uri=materialized.graph.settings.tracking_uri)


def test_every_materialization_has_a_run_with_the_same_figures(materialized, client) -> None:
    for outcome in (materialized.first, materialized.tiers):
        for name, values in outcome.materialized.items():
            run = client.get_run(values["mlflow_run"])
            assert run.info.status == "FINISHED"
            assert run.data.tags["dagster.run_id"] == outcome.run_id
            assert run.data.tags["aura.asset"] == name
            partition = None if name.startswith("tier_") else materialized.graph.source
            assert run.data.tags.get("aura.partition") == partition
            assert run.data.params["outcome"] == "made"
            metrics = run.data.metrics
            assert metrics["rows"] == values["dagster/row_count"]
            shared = [figure for figure in metrics if figure in values]
            assert set(COSTS) <= set(shared)
            for figure in shared:
                assert metrics[figure] == pytest.approx(values[figure], rel=1e-4), (name, figure)


def test_the_checks_are_metrics_too(materialized, client) -> None:
    metrics = client.get_run(materialized.first.materialized["text_embeddings"]["mlflow_run"]).data.metrics
    assert (metrics["check_unit_norms"], metrics["check_no_collapse"]) == (1.0, 1.0)


def test_the_history_tells_what_was_made_from_what_was_reused(materialized) -> None:
    settings = materialized.graph.settings
    history = CostHistory(settings.tracking_uri, settings.measure.mlflow_experiment)
    series = history.series("embedding_diagrams")
    assert [cost.run_id for cost in series] == [materialized.first.run_id, materialized.second.run_id]
    assert [cost.reused for cost in series] == [False, True]
    latest = {cost.asset: cost.tags["outcome"] for cost in history.latest()}
    assert {name for name, outcome in latest.items() if outcome == "reused"} == materialized.second.reused
    made = (materialized.second.materialized.keys() | materialized.tiers.materialized) - materialized.second.reused
    assert {name for name, outcome in latest.items() if outcome == "made"} == made


def test_the_model_is_registered_with_its_lineage_and_predicts_like_the_published_one(materialized, client) -> None:
    values = materialized.first.materialized["expert_model"]
    name = f"aura-experts-{materialized.graph.source}"
    version = client.get_model_version_by_alias(name, "current")
    assert values["registered_model"] == f"models:/{name}/{version.version}"
    assert version.run_id == values["mlflow_run"]
    assert version.tags["dagster.run_id"] == materialized.first.run_id
    assert version.tags["aura.asset"] == "expert_model"
    assert version.tags["aura.partition"] == materialized.graph.source
    mlflow.set_tracking_uri(materialized.graph.settings.tracking_uri)
    loaded = mlflow.pyfunc.load_model(str(values["registered_model"]))
    embeddings = materialized.graph.load("text_embeddings")
    predicted = loaded.predict(embeddings.vectors)
    assert set(predicted["label"]) <= {"decimal", "email", "turtle"}
    right = np.mean(predicted["label"].to_numpy() == np.array(embeddings.table["label"].to_pylist()))
    assert right > values["majority_accuracy"]


def test_a_reused_model_is_not_registered_again(materialized, client) -> None:
    versions = client.search_model_versions(f"name='aura-experts-{materialized.graph.source}'")
    assert [int(version.version) for version in versions] == [1]


def test_energy_without_counters_is_said_to_be_unavailable_and_no_joules_appear(graph) -> None:
    off = Graph(changed(graph.settings, measure={"energy": "off"}))
    values = off.run_selection(["corpus_manifest"]).materialized["corpus_manifest"]
    assert str(values["energy"]).startswith("unavailable: ")
    assert not [name for name in values if name.startswith("joules")]


def test_modelled_energy_is_labelled_with_the_model_and_its_assumption(graph) -> None:
    modelled = Graph(changed(graph.settings, measure={"energy": "modelled", "watts_per_core": 7.0}))
    values = modelled.run_selection(["corpus_manifest"]).materialized["corpus_manifest"]
    assert str(values["energy"]).startswith("modelled: ")
    assert "7 W per busy core" in str(values["energy"])
    assert values["joules_modelled"] == pytest.approx(7.0 * values["cpu_seconds"], rel=1e-3)
    assert "joules_measured" not in values
    settings = graph.settings
    (cost,) = CostHistory(settings.tracking_uri, settings.measure.mlflow_experiment).latest()
    assert (cost.energy_source, cost.joules) == ("modelled", pytest.approx(values["joules_modelled"], rel=1e-3))


def test_a_store_of_figures_that_cannot_be_written_costs_the_figures_and_not_the_value(graph) -> None:
    (graph.settings.home / "mlflow" / "mlflow.db").write_text("this is no database", encoding="utf-8")
    outcome = graph.run_selection(["corpus_manifest"])
    assert outcome.success
    assert "mlflow_run" not in outcome.materialized["corpus_manifest"]
    assert set(graph.published()) == {"corpus_manifest"}


class Collector(ThreadingHTTPServer):
    """Keeps the spans that OTLP exporters send."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Intake)
        self.requests: list[tuple[str | None, ExportTraceServiceRequest]] = []


class Intake(BaseHTTPRequestHandler):
    """Answers every export with success."""

    server: Collector

    def do_POST(self) -> None:
        """Decode and keep a request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.headers.get("Authorization"), ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Keep the terminal quiet."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run_process(source: str, *assets: str, **environment: str) -> dict[str, object]:
    # The provider of spans is set once per process, so the run gets one of its own.
    finished = subprocess.run(
        [sys.executable, str(SHELL_PROCESS), source, *assets],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


def test_each_step_is_a_span_with_its_cost_when_an_endpoint_is_configured(graph, collector) -> None:
    outcome = run_process(
        graph.source,
        "corpus_manifest",
        AURA_MEASURE__OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}",
        AURA_MEASURE__OTLP_TOKEN="orange",
    )
    assert outcome["success"], outcome
    assert {authorization for authorization, _ in collector.requests} == {"Bearer orange"}
    spans = [
        span
        for _, message in collector.requests
        for resource_spans in message.resource_spans
        for scope in resource_spans.scope_spans
        for span in scope.spans
    ]
    (span,) = [span for span in spans if span.name == f"corpus_manifest[{graph.source}]"]
    attributes = {pair.key: pair.value for pair in span.attributes}
    assert attributes["aura.wall_seconds"].double_value > 0
    assert attributes["aura.peak_memory_bytes"].int_value > 0
    assert attributes["aura.energy.source"].string_value in {"measured", "unavailable"}


def test_without_an_endpoint_no_provider_of_spans_is_set(materialized) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    assert materialized.first.success
    assert not isinstance(trace.get_tracer_provider(), TracerProvider)
