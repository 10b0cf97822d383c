"""Sends the spans of `aura.measure.cost.measure` to an OpenTelemetry collector, if one is configured.

Belongs here: the process-wide provider and its OTLP/HTTP exporter. Does not: what spans carry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry import trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_TRACES_PATH = "/v1/traces"
_EXPORT_TIMEOUT_SECONDS = 5.0


class TracingError(ValueError):
    """Tracing that cannot be set up as asked."""


@dataclass(frozen=True)
class Tracing:
    """The state of tracing in this process.

    Attributes:
        endpoint: Where spans go, None if nowhere.
    """

    endpoint: str | None
    _provider: TracerProvider | None = None

    def flush(self, *, timeout_seconds: float = _EXPORT_TIMEOUT_SECONDS) -> bool:
        """Send what is waiting. Also happens at exit, and every five seconds.

        Args:
            timeout_seconds: How long to wait at most.

        Returns:
            Whether nothing is left waiting; True when nothing is exported at all.
        """
        return self._provider is None or self._provider.force_flush(int(timeout_seconds * 1000))


def configure_tracing(
    service_name: str, otlp_endpoint: str | None, headers: Mapping[str, str] | None = None
) -> Tracing:
    """Set up tracing for this process. Call once, early.

    Without an endpoint nothing is exported, nothing is imported, and a span costs about 7 us of CPU. With one, spans
    are sent in batches by a thread; a collector that is down costs the spans and a logged warning, never the work: an
    export gives up after 5 s.

    Args:
        service_name: The resource attribute `service.name`.
        otlp_endpoint: Base address of an OTLP/HTTP collector, as in OTEL_EXPORTER_OTLP_ENDPOINT
            ("http://127.0.0.1:4318"); `/v1/traces` is appended. None exports nothing.
        headers: Sent with each export, for example authorization.

    Returns:
        The state, to flush before a process is killed.

    Raises:
        TracingError: If the endpoint is no http(s) address, the exporter is not installed, or there is a provider.
    """
    if otlp_endpoint is None:
        return Tracing(endpoint=None)
    endpoint = _traces_url(otlp_endpoint)
    current = trace.get_tracer_provider()
    if not isinstance(current, trace.ProxyTracerProvider):
        raise TracingError(
            f"a tracer provider is set already ({type(current).__name__}), spans cannot also go to {endpoint}; "
            "call configure_tracing once, and leave the endpoint unset where another tool instruments the process"
        )
    provider = _provider(service_name, endpoint, headers)
    trace.set_tracer_provider(provider)
    return Tracing(endpoint=endpoint, _provider=provider)


def _traces_url(endpoint: str) -> str:
    address = urlsplit(endpoint)
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise TracingError(f"the OTLP endpoint is {endpoint!r}; expected an address such as http://127.0.0.1:4318")
    return endpoint if address.path.endswith(_TRACES_PATH) else endpoint.rstrip("/") + _TRACES_PATH


def _provider(service_name: str, endpoint: str, headers: Mapping[str, str] | None) -> TracerProvider:
    # 0.2 s together, only needed where spans are exported; the exporter is an extra.
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise TracingError(
            f"sending spans to {endpoint} needs the OTLP exporter; install it with `pip install 'aura[otlp]'`, or "
            "leave the endpoint unset"
        ) from error
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter(endpoint=endpoint, headers=headers, timeout=_EXPORT_TIMEOUT_SECONDS)
    provider = TracerProvider(resource=Resource.create({"service.name": service_name}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
