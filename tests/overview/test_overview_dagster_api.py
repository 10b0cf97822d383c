"""Asking Dagster for an asset: a real web server, and whatever else may answer at its address."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import pytest

from aura.overview import dagster_api
from aura.overview.dagster_api import DagsterError, materializable, materialize

STARTUP_SECONDS = 300
DEFINITIONS = """
import dagster as dg

@dg.asset
def plain(): ...

@dg.asset(partitions_def=dg.StaticPartitionsDefinition([f"p{number:02d}" for number in range(20)]))
def parted(): ...

@dg.asset(partitions_def=dg.DynamicPartitionsDefinition(name="sources"))
def waiting(): ...

@dg.asset(config_schema={"size": int})
def configured(): ...

defs = dg.Definitions([plain, parted, waiting, configured, dg.AssetSpec("external")])
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def answers(address):
    try:
        with urllib.request.urlopen(f"{address}/server_info", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@pytest.fixture(scope="module")
def dagster(tmp_path_factory):
    """Address of a web server with DEFINITIONS, and the directory of its instance; no daemon takes what is queued."""
    home = tmp_path_factory.mktemp("dagster")
    (home / "definitions.py").write_text(DEFINITIONS)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    port = free_port()
    log = home / "web.log"
    environment = {**os.environ, "DAGSTER_HOME": str(home), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        command = [str(Path(sys.executable).with_name("dagster-webserver")), "-h", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(
            [*command, "-f", "definitions.py"], cwd=home, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + STARTUP_SECONDS
        while not answers(address):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield address, home
    finally:
        server.terminate()
        server.wait(60)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_can_be_asked_for_is_told_with_its_partitions(dagster):
    address, _ = dagster
    parts = tuple(f"p{number:02d}" for number in range(20))
    assert materializable(address) == {"configured": None, "parted": parts, "plain": None, "waiting": ()}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_of_the_asset_alone_is_queued_with_its_partition(dagster, monkeypatch):
    address, home = dagster
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        for asset, partition in (("plain", None), ("parted", "p07")):
            run = instance.get_run_by_id(materialize(address, asset, partition))
            assert run.asset_selection == {dg.AssetKey(asset)}
            assert run.tags.get("dagster/partition") == partition
            assert run.status is dg.DagsterRunStatus.QUEUED


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("asset", "partition", "said"),
    [
        ("nothing", None, "has no asset 'nothing'"),
        ("plain", "p07", "plain has no partitions .* leave out 'p07'"),
        ("parted", "p99", "parted has no partition 'p99' .* it has p00, .*, p11 and 8 more"),
        ("parted", None, "no partition is named .* it has p00, "),
        ("waiting", "notes", "has no partition 'notes' .* it has none yet: register a source"),
        ("configured", None, "refuses to materialize configured: .*config"),
    ],
)
def test_what_cannot_be_materialized_is_said(dagster, asset, partition, said):
    with pytest.raises(DagsterError, match=f"(?s){said}"):
        materialize(dagster[0], asset, partition)


@pytest.fixture
def stranger():
    """A server that answers everything with the status and the text that it is given; its address, and how to give."""
    given = [200, b""]

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(given[0])
            self.send_header("Content-Length", str(len(given[1])))
            self.end_headers()
            self.wfile.write(given[1])

        def log_message(self, *_):
            """Nothing on the terminal."""

    def give(status, text):
        given[:] = [status, text.encode()]

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", give
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [200, 401, 404, 502])
@pytest.mark.parametrize(
    "text",
    [
        "", "<html>", "null", "[]", "3", '"data"', "{}", '{"data": null}', '{"data": {}}', '{"data": {"asked": null}}',
        '{"data": {"asked": []}}', '{"data": {"asked": {"node": {"name": "x"}}}}', '{"errors": "no"}',
        '{"errors": [{}]}', '{"detail": "Not Found"}',
    ],
)  # fmt: skip
def test_what_is_not_dagster_is_said_with_the_remedy(stranger, status, text):
    address, give = stranger
    give(status, text)
    with pytest.raises(DagsterError, match=rf"{address} is not Dagster.*HTTP {status}.*AURA_SERVICES__DAGSTER_PORT"):
        materialize(address, "plain", None)


@pytest.mark.parametrize("status", [200, 400])
def test_a_dagster_of_another_version_is_said_with_what_it_does_not_understand(stranger, status):
    address, give = stranger
    give(status, json.dumps({"errors": [{"message": "Cannot query field 'asked'"}], "data": None}))
    with pytest.raises(DagsterError, match=r"Cannot query field 'asked'.*make up"):
        materialize(address, "plain", None)


def test_nothing_that_listens_is_said_with_the_remedy():
    with pytest.raises(DagsterError, match=r"does not answer .*make up"):
        materialize(f"http://127.0.0.1:{free_port()}", "plain", None)


def test_silence_ends(monkeypatch):
    monkeypatch.setattr(dagster_api, "TIMEOUT_SECONDS", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(DagsterError, match=r"does not answer .*make up"),
    ):
        materialize(f"http://127.0.0.1:{silent.getsockname()[1]}", "plain", None)
