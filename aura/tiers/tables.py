"""Arrow tables as parts of a stored value: a fixed schema, and scalars as JSON in the schema's metadata.

Belongs here: putting scalars into a table's metadata, reading them back, and the check that a table is what its type
expects. Does not: any particular value's columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import pyarrow as pa

from aura.tiers.published import CatalogError
from aura.tiers.values import Part

METADATA_KEY = b"aura"

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None


class ValueSchemaError(CatalogError, ValueError):
    """The parts of a stored value are not what its type expects."""


def with_scalars(table: pa.Table, scalars: Mapping[str, Json]) -> pa.Table:
    """Attach scalars to a table, deterministically (sorted keys, no NaN)."""
    text = json.dumps(scalars, sort_keys=True, allow_nan=False)
    return table.replace_schema_metadata({METADATA_KEY: text.encode()})


def scalars_of(table: pa.Table, what: str) -> dict[str, Json]:
    """Read the scalars that `with_scalars` attached.

    Args:
        table: The table that carries them.
        what: Name of the value, for the error.

    Raises:
        ValueSchemaError: There are none.
    """
    metadata = table.schema.metadata or {}
    if METADATA_KEY not in metadata:
        raise ValueSchemaError(f"{what}: the schema's metadata lacks the key {METADATA_KEY!r}; publish the value again")
    scalars: dict[str, Json] = json.loads(metadata[METADATA_KEY])
    return scalars


def table_part(parts: Mapping[str, Part], name: str, schema: pa.Schema, what: str) -> pa.Table:
    """Take one table out of a value's parts and check its columns.

    Args:
        parts: The parts that the catalog read.
        name: The part.
        schema: Columns, types and order that it must have; metadata is not compared.
        what: Name of the value, for the error.

    Raises:
        ValueSchemaError: The part is missing, is no table, or has another schema.
    """
    table = parts.get(name)
    if not isinstance(table, pa.Table):
        found = "missing" if table is None else f"a {type(table).__name__}"
        raise ValueSchemaError(f"{what}: part {name!r} is {found}, expected an Arrow table; parts: {sorted(parts)}")
    return checked_table(table, schema, f"{what}, part {name!r}")


def checked_table(table: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
    """Return the table if its columns, types and order are those of `schema`.

    Raises:
        ValueSchemaError: They are not; the message has the columns that differ.
    """
    if not table.schema.equals(schema, check_metadata=False):
        raise ValueSchemaError(f"{what} {_difference(table.schema, schema)}")
    return table


def _told(field: pa.Field) -> str:
    return f"{field.name}: {field.type}{'' if field.nullable else ' not null'}"


def _difference(found: pa.Schema, expected: pa.Schema) -> str:
    there, wanted = ({field.name: _told(field) for field in schema} for schema in (found, expected))
    missing = [field for name, field in wanted.items() if name not in there]
    unknown = [field for name, field in there.items() if name not in wanted]
    other = [f"{there[name]} instead of {field}" for name, field in wanted.items() if there.get(name, field) != field]
    differences = (("lacks", missing), ("has besides", unknown), ("has", other))
    told = "; ".join(f"{verb} {', '.join(fields)}" for verb, fields in differences if fields)
    return told or f"has its columns in the order {', '.join(found.names)} instead of {', '.join(expected.names)}"
