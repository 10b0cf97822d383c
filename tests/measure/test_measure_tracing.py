"""Spans sent over OTLP to a real HTTP server, which decodes them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from aura.measure.tracing import TracingError, configure_tracing


class Collector(ThreadingHTTPServer):
    """Keeps what OTLP exporters send."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), CollectorHandler)
        self.requests: list[tuple[str, str | None, ExportTraceServiceRequest]] = []

    @property
    def address(self) -> str:
        """Base address, as one would configure it."""
        return f"http://127.0.0.1:{self.server_port}"


class CollectorHandler(BaseHTTPRequestHandler):
    """Answers every export with success."""

    server: Collector

    def do_POST(self) -> None:
        """Decode and keep a request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        message = ExportTraceServiceRequest.FromString(body)
        self.server.requests.append((self.path, self.headers.get("Authorization"), message))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Keep the terminal quiet."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # The tracer provider is set once per process.
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


MEASURE_AND_SEND = """
import sys
from aura.measure.cost import measure
from aura.measure.energy import ModelledCpu
from aura.measure.tracing import configure_tracing

configure_tracing("aura-test", sys.argv[1], {"Authorization": "Bearer secret"})
try:
    with measure("outer", meter=ModelledCpu(10.0), attributes={"aura.group": "topology"}):
        with measure("inner", meter=ModelledCpu(10.0)):
            raise ValueError("broken input")
except ValueError:
    pass
"""


def test_spans_reach_the_collector_with_figures_parents_and_exceptions_when_the_process_ends(collector) -> None:
    finished = run(MEASURE_AND_SEND, collector.address)
    assert finished.returncode == 0, finished.stderr
    ((path, authorization, message),) = collector.requests
    assert path == "/v1/traces"
    assert authorization == "Bearer secret"
    (resource_spans,) = message.resource_spans
    resource = {pair.key: pair.value.string_value for pair in resource_spans.resource.attributes}
    assert resource["service.name"] == "aura-test"
    spans = {span.name: span for scope in resource_spans.scope_spans for span in scope.spans}
    assert set(spans) == {"outer", "inner"}
    assert spans["inner"].parent_span_id == spans["outer"].span_id
    figures = {pair.key: pair.value for pair in spans["outer"].attributes}
    assert figures["aura.group"].string_value == "topology"
    assert figures["aura.energy.source"].string_value == "modelled"
    assert figures["aura.wall_seconds"].double_value > 0
    assert figures["aura.peak_memory_bytes"].int_value > 0
    exception = {pair.key: pair.value.string_value for pair in spans["inner"].events[0].attributes}
    assert exception["exception.message"] == "broken input"


def test_flush_sends_what_is_waiting(collector) -> None:
    code = """
import os, sys
from aura.measure.cost import measure
from aura.measure.energy import open_meter
from aura.measure.tracing import configure_tracing

tracing = configure_tracing("aura-test", sys.argv[1] + "/v1/traces")
with measure("work", meter=open_meter("off")):
    pass
assert tracing.flush()
os._exit(0)
"""
    finished = run(code, collector.address)
    assert finished.returncode == 0, finished.stderr
    assert [path for path, _, _ in collector.requests] == ["/v1/traces"]


def test_a_collector_that_is_down_does_not_fail_the_work() -> None:
    finished = run(MEASURE_AND_SEND, "http://127.0.0.1:9")
    assert finished.returncode == 0, finished.stderr


def test_without_an_endpoint_nothing_is_exported_and_there_is_nothing_to_flush() -> None:
    tracing = configure_tracing("aura-test", None)
    assert tracing.endpoint is None
    assert tracing.flush()


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://", ""])
def test_an_endpoint_that_is_no_address_is_refused_by_name(endpoint: str) -> None:
    with pytest.raises(TracingError, match="expected an address"):
        configure_tracing("aura-test", endpoint)


def test_a_missing_exporter_names_the_extra_to_install() -> None:
    finished = run(
        "import sys; sys.modules['opentelemetry.exporter'] = None\n"
        "from aura.measure.tracing import configure_tracing; configure_tracing('aura', 'http://127.0.0.1:4318')"
    )
    assert "TracingError" in finished.stderr
    assert "aura[otlp]" in finished.stderr


def test_a_second_provider_is_refused() -> None:
    finished = run(
        "from aura.measure.tracing import configure_tracing as configure\n"
        "configure('aura', 'http://127.0.0.1:9'); configure('aura', 'http://127.0.0.1:4318')"
    )
    assert "a tracer provider is set already" in finished.stderr
