"""`aura status` against real servers: working, refused, paused, and not what they should be."""

from __future__ import annotations

import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jsonschema
import pytest

from aura.measure.mlflow_store import create_database
from aura.services.dependencies import DEPENDENCIES, Severity, consequences, start_order
from aura.services.status import SCHEMA_FILE, check_services
from aura.settings import Settings
from aura.tiers.budgets import TierBudgets
from aura.tiers.store import open_store

SCHEMA = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def settings_with(home: Path, **sections) -> Settings:
    services = {"dagster_port": free_port(), **sections.pop("services", {})}
    return Settings.model_validate({"home": home, "services": services, **sections})


def findings(settings: Settings, **options):
    report = check_services(settings, now=NOW, **options)
    jsonschema.validate(report.to_json(), SCHEMA, cls=jsonschema.Draft202012Validator)
    return report, {service.name: service for service in report.services}


def point_at(monkeypatch, *servers) -> None:
    for server in servers:
        for variable, value in server.variables.items():
            monkeypatch.setenv(variable, value)


def test_the_schema_of_the_report_is_itself_valid():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_nothing_configured_is_neither_working_nor_failed(tmp_path):
    report, found = findings(settings_with(tmp_path / "home"))
    states = {name: service.finding.state for name, service in found.items()}
    # Dagster has a port whatever is configured.
    assert states.pop("dagster") == "failed"
    assert set(states.values()) == {"not_configured"}
    assert not report.healthy
    assert found["dagster"].finding.error == "nothing listens there"
    assert "make up" in found["dagster"].finding.probe.remedy
    assert all(found[name].finding.probe.absent for name in states)


@pytest.mark.servers
@pytest.mark.slow
def test_each_real_server_does_its_operation_and_tells_its_version(tmp_path, monkeypatch, request):
    kafka, neo4j, redis, postgres = (request.getfixturevalue(name) for name in ("kafka", "neo4j", "redis", "postgres"))
    point_at(monkeypatch, kafka, neo4j, redis, postgres)
    _, found = findings(settings_with(tmp_path / "home"), call_seconds=30, total_seconds=60)
    for name in ("kafka", "neo4j", "redis", "postgres"):
        assert found[name].finding.state == "ok", found[name].finding.error
        assert found[name].finding.seconds > 0
    # What Kafka 4.1 finalizes when it formats its storage.
    assert found["kafka"].finding.version == "metadata.version 27"
    for server in (neo4j, redis, postgres):
        assert found[server.recipe.name].finding.version == server.answer()
    assert found["event_log"].finding.state == found["graph"].finding.state == "not_configured"
    assert {d.on for d in found["dagster"].needs} == {"kafka", "neo4j", "postgres"}


@pytest.mark.servers
def test_a_paused_server_costs_the_time_out_and_not_more_than_the_deadline(tmp_path, monkeypatch, redis, postgres):
    point_at(monkeypatch, redis, postgres)
    settings = settings_with(tmp_path / "home")
    redis.pause()
    try:
        report, found = findings(settings, call_seconds=2, total_seconds=60)
        assert found["redis"].finding.error == "no answer within 2 s"
        assert "aura services up redis" in found["redis"].finding.probe.remedy
        assert found["postgres"].finding.state == "ok", found["postgres"].finding.error
        assert not report.healthy
        # A probe that would wait longer than everybody together may.
        _, found = findings(settings, call_seconds=600, total_seconds=1)
        assert found["redis"].finding.error == "no answer within 1 s"
    finally:
        redis.resume()


@pytest.mark.servers
@pytest.mark.slow
def test_paused_java_servers_cost_the_time_out_too(tmp_path, monkeypatch, kafka, neo4j):
    point_at(monkeypatch, kafka, neo4j)
    kafka.pause()
    neo4j.pause()
    try:
        _, found = findings(settings_with(tmp_path / "home"), call_seconds=2, total_seconds=60)
    finally:
        kafka.resume()
        neo4j.resume()
    assert found["kafka"].finding.error == "no answer within 2 s"
    assert found["neo4j"].finding.error == "no answer within 2 s"
    assert [c.severity for c in found["kafka"].when_down] == [Severity.DEGRADES]


@pytest.mark.servers
def test_a_wrong_password_is_told_apart_from_a_server_that_is_down(tmp_path, monkeypatch, postgres):
    point_at(monkeypatch, postgres)
    monkeypatch.setenv("AURA_POSTGRES__PASSWORD", "not-it-4711")
    _, found = findings(settings_with(tmp_path / "home"))
    assert "password authentication failed" in found["postgres"].finding.error
    assert "not-it-4711" not in json.dumps(found["postgres"].finding.error)


@pytest.mark.parametrize(
    ("variable", "address", "service"),
    [
        ("AURA_EVENTS__KAFKA", "127.0.0.1:{port}", "kafka"),
        ("AURA_GRAPH__NEO4J", "bolt://127.0.0.1:{port}", "neo4j"),
        ("AURA_REDIS__URL", "redis://127.0.0.1:{port}/0", "redis"),
        ("AURA_POSTGRES__ADDRESS", "postgresql://127.0.0.1:{port}/aura", "postgres"),
        ("AURA_MEASURE__MLFLOW_URI", "http://127.0.0.1:{port}", "mlflow"),
        ("AURA_SERVICES__TEMPORAL", "127.0.0.1:{port}", "temporal"),
        ("AURA_SERVICES__PROMETHEUS", "http://127.0.0.1:{port}", "prometheus"),
        ("AURA_SERVICES__GRAFANA", "http://127.0.0.1:{port}", "grafana"),
    ],
)
def test_where_nothing_listens_it_says_so_and_which_setting_to_correct(
    variable, address, service, tmp_path, monkeypatch
):
    monkeypatch.setenv(variable, address.format(port=free_port()))
    _, found = findings(settings_with(tmp_path / "home"))
    assert found[service].finding.error == "nothing listens there"
    assert variable in found[service].finding.probe.remedy


class _AnythingElse(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"<html>something else</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  the name is the protocol's

    def log_message(self, *arguments):
        """Not on the terminal."""


@contextmanager
def listening(server: socketserver.BaseServer):
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_another_web_server_at_the_address_is_not_taken_for_the_service(tmp_path):
    with listening(ThreadingHTTPServer(("127.0.0.1", 0), _AnythingElse)) as port:
        address = f"http://127.0.0.1:{port}"
        settings = settings_with(
            tmp_path / "home",
            measure={"mlflow_uri": address},
            services={"dagster_port": port, "prometheus": address, "grafana": address},
        )
        _, found = findings(settings)
    for name in ("dagster", "mlflow", "prometheus", "grafana"):
        assert "another server" in found[name].finding.error, name


def test_the_health_service_of_grpc_is_asked_for_the_frontend_of_temporal(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    servicer = health.HealthServicer()
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        settings = settings_with(tmp_path / "home", services={"temporal": f"127.0.0.1:{port}"})
        assert "NOT_FOUND" in findings(settings)[1]["temporal"].finding.error
        name = "temporal.api.workflowservice.v1.WorkflowService"
        servicer.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        assert "does not serve" in findings(settings)[1]["temporal"].finding.error
        servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
        assert findings(settings)[1]["temporal"].finding.state == "ok"
    finally:
        server.stop(None)


def test_the_files_of_a_home_are_read_for_real_and_damage_shows(tmp_path):
    settings = settings_with(tmp_path / "home")
    create_database(tmp_path / "home" / "mlflow" / "mlflow.db")
    with open_store(settings.store_directory, budgets=TierBudgets(0, 2**20, 2**20)) as store:
        # Through this owner.
        _, found = findings(settings, call_seconds=30, total_seconds=60)
        assert found["store"].finding.state == "ok", found["store"].finding.error
        assert found["mlflow"].finding.state == "ok", found["mlflow"].finding.error
        assert store.entries("status/") == []
    # And without an owner.
    _, found = findings(settings, call_seconds=30, total_seconds=60)
    assert found["store"].finding.state == "ok", found["store"].finding.error

    settings.graph_file.parent.mkdir(parents=True)
    settings.graph_file.write_bytes(b"this is no database" * 400)
    _, found = findings(settings, call_seconds=30, total_seconds=60)
    assert "not a database" in found["graph"].finding.error
    assert str(settings.graph_file) in found["graph"].finding.probe.remedy


@pytest.mark.slow
def test_dagster_is_asked_for_its_version_and_its_daemon(tmp_path):
    import dagster as dg

    home = tmp_path / "dagster"
    home.mkdir()
    definitions = tmp_path / "empty.py"
    definitions.write_text("import dagster as dg\n\ndefs = dg.Definitions()\n")
    port = free_port()
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    here = Path(sys.executable).parent
    ui = subprocess.Popen(
        [here / "dagster-webserver", "-h", "127.0.0.1", "-p", str(port), "-f", definitions],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    daemon = None
    settings = settings_with(tmp_path / "home", services={"dagster_port": port})
    try:
        finding = _until(settings, "dagster", lambda found: found.error != "nothing listens there")
        assert "give no sign of life" in finding.error
        daemon = subprocess.Popen(
            [here / "dagster-daemon", "run", "-f", definitions],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        finding = _until(settings, "dagster", lambda found: found.state == "ok")
        assert finding.version == dg.__version__
    finally:
        for process in filter(None, (ui, daemon)):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.slow
def test_a_tracking_server_of_mlflow_is_asked_for_health_and_version(tmp_path):
    import importlib.metadata

    database = tmp_path / "mlflow.db"
    create_database(database)
    port = free_port()
    server = subprocess.Popen(
        [
            *(Path(sys.executable).parent / "mlflow", "server", "--backend-store-uri", f"sqlite:///{database}"),
            *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        ],
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        settings = settings_with(tmp_path / "home", measure={"mlflow_uri": f"http://127.0.0.1:{port}"})
        finding = _until(settings, "mlflow", lambda found: found.state == "ok")
        assert finding.version == importlib.metadata.version("mlflow")
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _until(settings, service, accepted):
    """The first finding that is accepted; a starting server gets two minutes."""
    waiting = threading.Event()
    for _ in range(240):
        finding = findings(settings, call_seconds=10, total_seconds=30)[1][service].finding
        if accepted(finding):
            return finding
        waiting.wait(0.5)
    pytest.fail(f"{service}: {finding.error}")


@pytest.mark.servers
def test_the_command_prints_a_report_that_fits_the_schema_and_exits_by_it(aura, redis):
    variables = {**redis.variables, "AURA_SERVICES__DAGSTER_PORT": str(free_port())}
    told = aura("status", "--json", **variables)
    assert told.returncode == 1, told.stderr
    report = json.loads(told.stdout)
    jsonschema.validate(report, SCHEMA, cls=jsonschema.Draft202012Validator)
    states = {service["service"]: service["state"] for service in report["services"]}
    assert states["redis"] == "ok"
    assert states["dagster"] == "failed"
    assert report["start_order"] == ["redis", "dagster"]
    for_people = aura("status", **variables)
    assert for_people.returncode == 1
    assert "dagster: nothing listens there. Start it (`make up`)" in for_people.stdout
    assert "Traceback" not in for_people.stderr


def test_services_start_after_those_that_they_need():
    everything = SCHEMA["$defs"]["service_name"]["enum"]
    order = start_order(everything)
    assert sorted(order) == sorted(everything)
    for dependency in DEPENDENCIES:
        assert order.index(dependency.on) < order.index(dependency.service)
    assert start_order(["dagster", "postgres"]) == ["postgres", "dagster"]


def test_a_failure_is_passed_on_and_a_degradation_is_not():
    present = {"redis", "store", "dagster", "postgres", "grafana"}
    down = {c.service: c.severity for c in consequences("redis", present)}
    assert down == {"store": Severity.DEGRADES}
    assert {c.service: c.severity for c in consequences("store", present)} == {"dagster": Severity.FAILS}
    assert consequences("grafana", present) == []
