"""What a person asks of a running Dagster from outside: to materialize an asset.

Belongs here: two calls of its GraphQL API. Does not: definitions.
"""

from __future__ import annotations

from typing import Any

import httpx2

TIMEOUT_SECONDS = 10.0

_WHERE = """
query Where($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) {
    ... on AssetNode { jobNames isPartitioned partitionKeys repository { name location { name } } }
    ... on AssetNotFoundError { message }
  }
}
"""

_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on UnauthorizedError { message }
  }
}
"""

_ASSET_JOB = "__ASSET_JOB"


class DagsterError(RuntimeError):
    """Dagster does not answer, or refuses; the message says what to do."""


def materialize(address: str, asset: str, partition: str | None) -> str:
    """Ask Dagster to materialize an asset.

    Args:
        address: Of its web server, such as http://127.0.0.1:3000.
        asset: Name of the asset.
        partition: Name of the partition; None for an asset without.

    Returns:
        The id of the run, which is queued when this returns.

    Raises:
        DagsterError: It does not answer in time, does not know the asset or partition, or refuses.
    """
    key = {"path": [asset]}
    node = _ask(address, _WHERE, {"key": key})["assetNodeOrError"]
    if "repository" not in node:
        raise DagsterError(f"Dagster at {address} has no asset {asset!r}. Is it another project's?")
    if node["isPartitioned"] and partition not in node["partitionKeys"]:
        raise DagsterError(
            f"{asset} has no partition {partition!r} in Dagster at {address}; it has {', '.join(node['partitionKeys'])}"
        )
    jobs = [name for name in node["jobNames"] if name.startswith(_ASSET_JOB)]
    params = {
        "mode": "default",
        "selector": {
            "repositoryName": node["repository"]["name"],
            "repositoryLocationName": node["repository"]["location"]["name"],
            "pipelineName": jobs[0] if jobs else _ASSET_JOB,
            "assetSelection": [key],
            "assetCheckSelection": None,
        },
        "runConfigData": {},
        "executionMetadata": {
            "tags": [{"key": "dagster/partition", "value": partition}] if partition is not None else []
        },
    }
    launched = _ask(address, _LAUNCH, {"params": params})["launchPipelineExecution"]
    if launched["__typename"] != "LaunchRunSuccess":
        reasons = [launched.get("message", ""), *(each["message"] for each in launched.get("errors", []))]
        raise DagsterError(f"Dagster refuses to materialize {asset}: {' '.join(filter(None, reasons)) or launched}")
    run_id: str = launched["run"]["runId"]
    return run_id


def _ask(address: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = httpx2.post(
            f"{address}/graphql", json={"query": query, "variables": variables}, timeout=TIMEOUT_SECONDS
        )
        answer.raise_for_status()
        told = answer.json()
    except (httpx2.HTTPError, ValueError) as error:
        raise DagsterError(f"Dagster at {address} does not answer ({error}). Start it with `make up`.") from error
    if told.get("errors"):
        raise DagsterError(f"Dagster at {address} does not understand: {told['errors'][0].get('message')}")
    data: dict[str, Any] = told["data"]
    return data
