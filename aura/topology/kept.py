"""The form in which topology keeps its values: one Arrow table with the provenance as JSON in its metadata.

Belongs here: taking such a value apart and putting it together. Does not: what the columns and the provenance mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from aura.tiers.values import Part

METADATA_KEY = b"aura"

Provenance = TypeVar("Provenance")


def kept(table: pa.Table, provenance: Provenance, adapter: TypeAdapter[Provenance]) -> pa.Table:
    """The table in one chunk, with its provenance."""
    return table.combine_chunks().replace_schema_metadata({METADATA_KEY: adapter.dump_json(provenance)})


def kept_table(parts: Mapping[str, Part], part: str, what: str, error: type[ValueError]) -> tuple[pa.Table, bytes]:
    """The table of a value without its metadata, and the provenance as JSON.

    Args:
        parts: Of the value.
        part: Name of the table.
        what: What the value is, in the plural, for the message.
        error: What to raise where the part is missing, is no table or has no provenance.
    """
    table = parts.get(part)
    if not isinstance(table, pa.Table):
        raise error(f"{what} are kept as one Arrow table named {part!r}, got the parts {sorted(parts)}")
    metadata: bytes | None = (table.schema.metadata or {}).get(METADATA_KEY)
    if metadata is None:
        raise error(f"the table {part!r} has no metadata {METADATA_KEY!r}: it was not written as {what}")
    return table.replace_schema_metadata(None), metadata


def read_provenance(
    metadata: bytes, part: str, adapter: TypeAdapter[Provenance], error: type[ValueError]
) -> Provenance:
    """The provenance out of its JSON; raises `error` where it is malformed."""
    try:
        return adapter.validate_json(metadata)
    except ValidationError as reason:
        raise error(f"the table {part!r} has a malformed provenance: {reason}") from reason
