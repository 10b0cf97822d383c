"""What a person asks of a running Dagster from outside: which assets there are, and to materialize one.

Belongs here: three calls of its GraphQL API, whose answers are checked. Does not: definitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import httpx2
from pydantic import BaseModel, Field, RootModel, ValidationError

TIMEOUT_SECONDS = 10.0
"""Longest wait for one answer."""

NAMED = 12
"""Partitions that an error names."""

_ASSETS = """
query Assets {
  asked: assetNodes { key: assetKey { path } isMaterializable isPartitioned partitionKeys }
}
"""

_WHERE = """
query Where($key: AssetKeyInput!) {
  asked: assetNodeOrError(assetKey: $key) {
    ... on AssetNode { node: repository { name location { name } } jobNames isPartitioned partitionKeys }
  }
}
"""

_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  asked: launchPipelineExecution(executionParams: $params) {
    kind: __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on Error { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""

_ASSET_JOB = "__ASSET_JOB"


class _Named(BaseModel):
    name: str


class _Repository(_Named):
    location: _Named


class _Where(BaseModel):
    """Where an asset is defined; without `node` if it is not."""

    node: _Repository | None = None
    jobs: list[str] = Field(default=[], alias="jobNames")
    partitioned: bool = Field(default=False, alias="isPartitioned")
    partitions: list[str] = Field(default=[], alias="partitionKeys")


class _Key(BaseModel):
    path: list[str]


class _Asset(BaseModel):
    """An asset; an external one cannot be materialized."""

    key: _Key
    materializable: bool = Field(alias="isMaterializable")
    partitioned: bool = Field(alias="isPartitioned")
    partitions: list[str] = Field(alias="partitionKeys")


class _Assets(RootModel[list[_Asset]]):
    """All assets."""


class _Run(BaseModel):
    id: str = Field(alias="runId")


class _Message(BaseModel):
    message: str


class _Launched(BaseModel):
    """A run, or the reasons why there is none."""

    kind: str
    run: _Run | None = None
    message: str | None = None
    errors: list[_Message] = []


class _Refusal(BaseModel):
    """GraphQL's answer to what it does not understand."""

    errors: list[_Message] = Field(min_length=1)


Answer = TypeVar("Answer", _Assets, _Where, _Launched)


class DagsterError(RuntimeError):
    """Dagster does not answer, or refuses; the message says what to do."""


def materializable(address: str) -> Mapping[str, tuple[str, ...] | None]:
    """Which assets Dagster can be asked for.

    Args:
        address: Of its web server, such as http://127.0.0.1:3000.

    Returns:
        The partitions that each asset has now, None for an asset without, in order of the names.

    Raises:
        DagsterError: It does not answer in time.
    """
    assets = _ask(address, _ASSETS, {}, _Assets).root
    found = {"/".join(each.key.path): each for each in assets if each.materializable}
    return {name: tuple(each.partitions) if each.partitioned else None for name, each in sorted(found.items())}


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
    where = _ask(address, _WHERE, {"key": key}, _Where)
    if where.node is None:
        raise DagsterError(f"Dagster at {address} has no asset {asset!r}. Is it another project's?")
    _check_partition(address, asset, partition, where)
    jobs = [name for name in where.jobs if name.startswith(_ASSET_JOB)]
    params = {
        "mode": "default",
        "selector": {
            "repositoryName": where.node.name,
            "repositoryLocationName": where.node.location.name,
            "pipelineName": jobs[0] if jobs else _ASSET_JOB,
            "assetSelection": [key],
            "assetCheckSelection": None,
        },
        "runConfigData": {},
        "executionMetadata": {
            "tags": [{"key": "dagster/partition", "value": partition}] if partition is not None else []
        },
    }
    launched = _ask(address, _LAUNCH, {"params": params}, _Launched)
    if launched.run is None:
        reasons = [launched.message, *(each.message for each in launched.errors)]
        raise DagsterError(
            f"Dagster refuses to materialize {asset}: {' '.join(filter(None, reasons)) or launched.kind}"
        )
    return launched.run.id


def _check_partition(address: str, asset: str, partition: str | None, where: _Where) -> None:
    if not where.partitioned:
        if partition is not None:
            raise DagsterError(f"{asset} has no partitions in Dagster at {address}: leave out {partition!r}")
        return
    if partition in where.partitions:
        return
    known = where.partitions
    others = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
    has = f"it has {', '.join(known[:NAMED])}{others}" if known else "it has none yet: register a source"
    fault = "is partitioned, and no partition is named" if partition is None else f"has no partition {partition!r}"
    raise DagsterError(f"{asset} {fault} in Dagster at {address}; {has}")


def _ask(address: str, query: str, variables: dict[str, object], form: type[Answer]) -> Answer:
    """What stands under `asked` in the answer, in its form.

    Raises:
        DagsterError: Nothing answers in time, or something else than Dagster does, or a Dagster that is too old or new.
    """
    try:
        answer = httpx2.post(
            f"{address}/graphql", json={"query": query, "variables": variables}, timeout=TIMEOUT_SECONDS
        )
    except httpx2.HTTPError as error:
        raise DagsterError(f"Dagster at {address} does not answer ({error}). Start it with `make up`.") from error
    try:
        told = answer.json()
    except ValueError as error:
        raise _stranger(address, answer, "no JSON") from error
    if isinstance(told, dict) and told.get("errors"):
        try:
            refusal = _Refusal.model_validate(told)
        except ValidationError as error:
            raise _stranger(address, answer, "other JSON") from error
        raise DagsterError(
            f"Dagster at {address} does not understand ({refusal.errors[0].message}): it is of another version. "
            "Start this project's own with `make up`."
        )
    try:
        return form.model_validate(told["data"]["asked"])
    except (KeyError, TypeError, ValidationError) as error:
        raise _stranger(address, answer, "other JSON") from error


def _stranger(address: str, answer: httpx2.Response, what: str) -> DagsterError:
    return DagsterError(
        f"What answers at {address} is not Dagster, or a proxy before it: HTTP {answer.status_code} with {what}. Start "
        "Dagster with `make up`, or set AURA_SERVICES__DAGSTER_PORT to its port."
    )
