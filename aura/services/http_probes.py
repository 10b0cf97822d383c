"""What is asked of the services that speak HTTP or gRPC: Dagster, MLflow's server, Temporal, Prometheus, Grafana."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx2

from aura.measure.mlflow_store import database_path
from aura.services.file_probes import mlflow_database_probe
from aura.services.probe import Probe, ProbeError, connect, not_configured
from aura.settings import LOOPBACK, Settings

_DAGSTER_QUERY = "{ version instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"
_TEMPORAL_SERVICE = b"temporal.api.workflowservice.v1.WorkflowService"
_SERVING = b"\x08\x01"  # HealthCheckResponse: field 1, `status`, is SERVING


def _get(url: str, call_seconds: float, **options: Any) -> httpx2.Response:  # noqa: ANN401  httpx's own options
    """One request; `json=` makes it a POST.

    Raises:
        OSError: Nobody can be reached there.
        ProbeError: The answer is not a success.
    """
    at = urlsplit(url)
    connect(at.hostname or "", at.port or (443 if at.scheme == "https" else 80), call_seconds).close()
    try:
        answer = httpx2.request("POST" if "json" in options else "GET", url, timeout=call_seconds, **options)
    except httpx2.TimeoutException as error:
        raise TimeoutError from error
    if not answer.is_success:
        raise ProbeError(f"{url} answered {answer.status_code} {answer.reason_phrase}")
    return answer


def _json(answer: httpx2.Response, *path: str) -> Any:  # noqa: ANN401  JSON
    try:
        value = answer.json()
        for name in path:
            value = value[name]
    except (ValueError, KeyError, TypeError) as error:
        raise ProbeError(f"{answer.url} answered something else than expected: is it another server?") from error
    return value


def dagster_probe(settings: Settings) -> Probe:
    """A GraphQL query for the version and the daemons: a UI without its daemon starts nothing."""
    address = f"http://{LOOPBACK}:{settings.services.dagster_port}"

    def run(call_seconds: float) -> str | None:
        answer = _get(f"{address}/graphql", call_seconds, json={"query": _DAGSTER_QUERY})
        data = _json(answer, "data")
        silent = [
            daemon["daemonType"].lower()
            for daemon in _json(answer, "data", "instance", "daemonHealth", "allDaemonStatuses")
            if daemon["required"] and not daemon["healthy"]
        ]
        if silent:
            raise ProbeError(f"the UI answers, and these daemons give no sign of life: {', '.join(silent)}")
        return str(data["version"])

    remedy = "Start it (`make up`) or correct services.dagster_port (AURA_SERVICES__DAGSTER_PORT)."
    return Probe("dagster", "GraphQL query for version and daemons", address, remedy, run)


def mlflow_probe(settings: Settings) -> Probe:
    """The server's health and version, or a query on the SQLite file that replaces it."""
    database = database_path(settings.tracking_uri)
    if database is not None:
        return mlflow_database_probe(database)
    address = settings.tracking_uri.rstrip("/")

    def run(call_seconds: float) -> str | None:
        if _get(f"{address}/health", call_seconds).text.strip() != "OK":
            raise ProbeError(f"{address}/health answered something else than OK: is it another server?")
        return _get(f"{address}/version", call_seconds).text.strip()

    remedy = "Start it or correct measure.mlflow_uri (AURA_MEASURE__MLFLOW_URI)."
    return Probe("mlflow", "health and version", address, remedy, run)


def temporal_probe(settings: Settings) -> Probe:
    """The gRPC health check of the frontend."""
    address = settings.services.temporal
    if address is None:
        return not_configured("temporal", "services.temporal is not set")
    at = urlsplit(f"//{address}")
    import grpc  # type: ignore[import-untyped]  # comes with Dagster

    def run(call_seconds: float) -> str | None:
        connect(at.hostname or "", at.port or 7233, call_seconds).close()
        with grpc.insecure_channel(address) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            request = b"\x0a" + bytes([len(_TEMPORAL_SERVICE)]) + _TEMPORAL_SERVICE  # field 1, `service`
            try:
                answer: bytes = check(request, timeout=call_seconds)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise TimeoutError from error
                raise ProbeError(f"the health check failed: {error.code().name}, {error.details()}") from error
        if answer != _SERVING:
            raise ProbeError("the frontend answers and does not serve")
        return None

    remedy = "Start it or correct services.temporal (AURA_SERVICES__TEMPORAL)."
    return Probe("temporal", "gRPC health check of the frontend", address, remedy, run)


def prometheus_probe(settings: Settings) -> Probe:
    """Readiness and build information."""
    address = settings.services.prometheus
    if address is None:
        return not_configured("prometheus", "services.prometheus is not set")
    base = address.rstrip("/")

    def run(call_seconds: float) -> str | None:
        _get(f"{base}/-/ready", call_seconds)
        return str(_json(_get(f"{base}/api/v1/status/buildinfo", call_seconds), "data", "version"))

    remedy = "Start it or correct services.prometheus (AURA_SERVICES__PROMETHEUS)."
    return Probe("prometheus", "readiness and build information", base, remedy, run)


def grafana_probe(settings: Settings) -> Probe:
    """Health, which includes Grafana's own database."""
    address = settings.services.grafana
    if address is None:
        return not_configured("grafana", "services.grafana is not set")
    base = address.rstrip("/")

    def run(call_seconds: float) -> str | None:
        answer = _get(f"{base}/api/health", call_seconds)
        if _json(answer, "database") != "ok":
            raise ProbeError("Grafana answers, and its database does not")
        return str(_json(answer, "version"))

    remedy = "Start it or correct services.grafana (AURA_SERVICES__GRAFANA)."
    return Probe("grafana", "health", base, remedy, run)
