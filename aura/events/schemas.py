"""The JSON Schemas (2020-12) of the events' data: one file per type and version, and what may change between versions.

Belongs here: finding a schema, checking data against it, the rules of compatibility. Does not: the format of the event
around the data (`wire`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from aura.events.compiled import Check, compile_check
from aura.events.errors import EventInvalidError
from aura.events.event import URN

DIRECTORY = Path(__file__).with_name("schemas")
FILE_NAME = re.compile(r"(?P<type>[a-z.]+)\.v(?P<version>[1-9][0-9]*)\.json")

Schema = Mapping[str, Any]


class SchemaSet:
    """The schemas in a directory, read and compiled when first needed."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._directory = directory
        self._checks: dict[tuple[str, int], Check] = {}

    def versions(self) -> dict[str, list[int]]:
        """Versions of each event type, ascending."""
        found: dict[str, list[int]] = {}
        for path in sorted(self._directory.iterdir()):
            name = FILE_NAME.fullmatch(path.name)
            if name is not None:
                found.setdefault(name["type"], []).append(int(name["version"]))
        return {kind: sorted(versions) for kind, versions in found.items()}

    def load(self, kind: str, version: int) -> Schema:
        """Return a schema as it stands in its file.

        Raises:
            EventInvalidError: There is no such schema.
        """
        path = self._directory / f"{kind}.v{version}.json"
        if not FILE_NAME.fullmatch(path.name) or not path.is_file():
            known = self.versions()
            hint = f"versions {known[kind]} are known" if kind in known else f"known types: {', '.join(known)}"
            raise EventInvalidError(
                f"There is no schema of {kind!r} version {version}; {hint}. A newer AURA may know it."
            )
        schema: Schema = json.loads(path.read_text(encoding="utf-8"))
        if schema.get("$id") != f"{URN}{kind}:{version}":
            raise EventInvalidError(f"{path} has the $id {schema.get('$id')!r}; expected {URN}{kind}:{version}")
        return schema

    def check(self, kind: str, version: int, data: Any) -> None:  # noqa: ANN401  a JSON value
        """Check data against its schema.

        Raises:
            EventInvalidError: There is no such schema, or the data does not fit it; the message says where.
        """
        certainly = self._checks.get((kind, version))
        if certainly is None:
            certainly = self._checks[kind, version] = compile_check(self.load(kind, version))
        if not certainly(data):
            explain(self.load(kind, version), data)


def explain(schema: Schema, data: Any) -> None:  # noqa: ANN401  a JSON value
    """Check data with the full validator.

    Raises:
        EventInvalidError: The data does not fit; names the place in it that is most to blame.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(schema).iter_errors(data))
    if error is not None:
        where = error.json_path.removeprefix("$").removeprefix(".") or "the data"
        raise EventInvalidError(f"{where} does not fit {schema['$id']}: {error.message[:500]}")


@cache
def packaged_schemas() -> SchemaSet:
    """The schemas that AURA ships."""
    return SchemaSet()


def compatibility_problems(older: Schema, newer: Schema) -> Iterator[str]:
    """Name what makes a newer schema reject data that the older one accepted.

    Allowed: new optional fields, wider types, wider bounds, more enum values. Forbidden: a removed, retyped or narrowed
    field, a field that becomes required, a lost value of an enum.
    """
    yield from _problems(older, newer, "the data")


def _problems(older: Schema, newer: Schema, where: str) -> Iterator[str]:
    lost = _types(older) - _types(newer)
    if lost:
        yield f"{where}: the type {', '.join(sorted(lost))} is no longer accepted"
    if "enum" in newer and ("enum" not in older or set(older["enum"]) - set(newer["enum"])):
        yield f"{where}: values of the enum were removed, or an enum was added"
    yield from _narrowed(older, newer, where)
    if "pattern" in newer and newer["pattern"] != older.get("pattern"):
        yield f"{where}: the pattern was added or changed"
    if "items" in newer:
        yield from _problems(older.get("items", {}), newer["items"], f"{where}[]")
    yield from _object_problems(older, newer, where)


def _types(schema: Schema) -> set[str]:
    kinds = schema.get("type", ["object", "array", "string", "number", "boolean", "null"])
    found = {kinds} if isinstance(kinds, str) else set(kinds)
    return found | {"integer"} if "number" in found else found


def _narrowed(older: Schema, newer: Schema, where: str) -> Iterator[str]:
    for name in ("minimum", "minLength", "minItems"):
        if newer.get(name, float("-inf")) > older.get(name, float("-inf")):
            yield f"{where}: {name} was raised to {newer[name]}"
    for name in ("maximum", "maxLength", "maxItems"):
        if newer.get(name, float("inf")) < older.get(name, float("inf")):
            yield f"{where}: {name} was lowered to {newer[name]}"


def _object_problems(older: Schema, newer: Schema, where: str) -> Iterator[str]:
    old, new = older.get("properties", {}), newer.get("properties", {})
    for name in sorted(set(newer.get("required", ())) - set(older.get("required", ()))):
        yield f"{where}.{name}: became required"
    for name, schema in old.items():
        if name not in new:
            yield f"{where}.{name}: was removed"
        else:
            yield from _problems(schema, new[name], f"{where}.{name}")
    before, after = older.get("additionalProperties", True), newer.get("additionalProperties", True)
    if before is not False and after is False:
        yield f"{where}: other properties are no longer accepted"
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _problems(before, after, f"{where}.*")
