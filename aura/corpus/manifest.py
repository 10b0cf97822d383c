"""The manifest of a source: what it holds, addressed by content, and what was set aside and why.

Belongs here: the Arrow schema, its rules, comparison with an earlier manifest. Does not: reading a source.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aura.corpus.errors import ManifestSchemaError
from aura.corpus.rows import MODALITIES, ManifestRow, Modality
from aura.tiers.values import Part

OK = "ok"
SET_ASIDE = "set aside"

SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("modality", pa.string()),
        pa.field("label", pa.string()),
        pa.field("sublabel", pa.string()),
        pa.field("group", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("text", pa.large_string()),
        pa.field("status", pa.string()),
        pa.field("reason", pa.string()),
    ]
)

_PART = "items"
_METADATA_KEY = b"aura"


@dataclass(frozen=True)
class ManifestChanges:
    """How the usable items of two manifests differ; every field holds uris in manifest order.

    An item that is set aside now and was usable before counts as removed, the other way round as added.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]


@dataclass(frozen=True)
class CorpusManifest:
    """What a source holds.

    `table` has the columns of `SCHEMA`, one row per uri. A row with status "ok" has an `item_id` (blake2b-128 of the
    content, hex), a modality and a size in bytes; text items carry their text. A row with status "set aside" has a
    reason instead. Two uris with the same content share an `item_id`; items that are about the same thing share a
    `group`, which is null for an item on its own.

    Raises:
        ManifestSchemaError: the table breaks one of these rules.
    """

    source: str
    table: pa.Table

    def __post_init__(self) -> None:
        _check_schema(self.table)
        metadata = {_METADATA_KEY: json.dumps({"source": self.source}).encode()}
        table = self.table.combine_chunks().replace_schema_metadata(metadata)
        _check_values(table)
        object.__setattr__(self, "table", table)

    @classmethod
    def from_rows(cls, source: str, rows: Iterable[ManifestRow]) -> Self:
        """Build the manifest of `source` from rows in the order given."""
        columns = list(zip(*map(_as_tuple, rows), strict=True)) or [()] * len(SCHEMA)
        arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
        return cls(source, pa.Table.from_arrays(arrays, schema=SCHEMA))

    def items(self, modality: Modality) -> pa.Table:
        """The usable items of one modality, one row per distinct `item_id` (the first), in manifest order."""
        usable = self.table.filter(
            pc.and_(pc.equal(self.table["status"], OK), pc.equal(self.table["modality"], modality))
        )
        codes = usable["item_id"].combine_chunks().dictionary_encode().indices.to_numpy()
        _, first = np.unique(codes, return_index=True)
        return usable.take(np.sort(first))

    def set_aside(self) -> pa.Table:
        """What could not be used: columns uri, modality, bytes, reason, in manifest order."""
        rows = self.table.filter(pc.equal(self.table["status"], SET_ASIDE))
        return rows.select(["uri", "modality", "bytes", "reason"])

    def counts(self) -> pa.Table:
        """Rows and bytes per modality and status, sorted: columns modality, status, rows (int64), bytes (int64)."""
        grouped = self.table.group_by(["modality", "status"]).aggregate([([], "count_all"), ("bytes", "sum")])
        named = pa.table(
            {
                "modality": grouped["modality"],
                "status": grouped["status"],
                "rows": grouped["count_all"],
                "bytes": pc.fill_null(grouped["bytes_sum"], 0),
            }
        )
        return named.sort_by([("modality", "ascending"), ("status", "ascending")])

    def changes_since(self, previous: CorpusManifest | None) -> ManifestChanges:
        """Compare by uri and item_id with an earlier manifest; None stands for an empty one."""
        now = _usable(self)
        then = _usable(previous) if previous is not None else {}
        return ManifestChanges(
            added=tuple(uri for uri in now if uri not in then),
            changed=tuple(uri for uri, item_id in now.items() if then.get(uri, item_id) != item_id),
            removed=tuple(uri for uri in then if uri not in now),
            unchanged=tuple(uri for uri, item_id in now.items() if then.get(uri) == item_id),
        )

    def to_parts(self) -> Mapping[str, Part]:
        """One part, `items`: the table, with the source's name in its metadata."""
        return {_PART: self.table}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put a manifest together again; raises `ManifestSchemaError` if the parts do not hold one."""
        table = parts.get(_PART)
        if not isinstance(table, pa.Table):
            raise ManifestSchemaError(
                f"a manifest is one Arrow table called {_PART!r}, got the parts {sorted(parts)}; "
                f"materialize the manifest again"
            )
        return cls(_source_of(table), table)


def _as_tuple(row: ManifestRow) -> tuple[str | int | None, ...]:
    status = OK if row.reason is None else SET_ASIDE
    described = (row.item_id, row.uri, row.modality, row.label, row.sublabel, row.group)
    return *described, row.size, row.text, status, row.reason


def _usable(manifest: CorpusManifest) -> dict[str, str]:
    rows = manifest.table.filter(pc.equal(manifest.table["status"], OK))
    return dict(zip(rows["uri"].to_pylist(), rows["item_id"].to_pylist(), strict=True))


def _source_of(table: pa.Table) -> str:
    raw = (table.schema.metadata or {}).get(_METADATA_KEY)
    if raw is None:
        raise ManifestSchemaError("the table's schema metadata has no key 'aura', so its source is unknown")
    metadata = json.loads(raw)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("source"), str):
        raise ManifestSchemaError(f"the table's metadata names no source: {raw!r}")
    return str(metadata["source"])


def _check_schema(table: pa.Table) -> None:
    if not table.schema.equals(SCHEMA, check_metadata=False):
        found = ", ".join(f"{field.name}: {field.type}" for field in table.schema)
        expected = ", ".join(f"{field.name}: {field.type}" for field in SCHEMA)
        raise ManifestSchemaError(f"a manifest has the columns ({expected}), got ({found})")


def _check_values(table: pa.Table) -> None:
    uris = table["uri"]
    if uris.null_count or len(uris.unique()) != len(uris):
        raise ManifestSchemaError(f"every uri of a manifest is set and unique, got {_repeated(uris)}")
    usable = pc.fill_null(pc.equal(table["status"], OK), False)  # noqa: FBT003 - positional only in Arrow
    aside = pc.fill_null(pc.equal(table["status"], SET_ASIDE), False)  # noqa: FBT003 - positional only in Arrow
    is_text = pc.and_(usable, pc.is_in(table["modality"], pa.array(["text"])))
    known = pc.is_in(table["modality"], pa.array([*MODALITIES, None]))
    addressed = pc.fill_null(pc.match_substring_regex(table["item_id"], "^[0-9a-f]{32}$"), False)  # noqa: FBT003
    has = {name: pc.is_valid(table[name]) for name in ("item_id", "modality", "bytes", "text", "reason")}
    rules = (
        (pc.or_(usable, aside), "has the status 'ok' or 'set aside'"),
        (known, f"has a modality among {', '.join(MODALITIES)}, or none"),
        (
            _implies(usable, pc.and_(addressed, has["modality"])),
            "that is ok has an item_id of 32 hex digits, a modality",
        ),
        (_implies(usable, has["bytes"]), "that is ok has its size in bytes"),
        (pc.equal(has["text"], is_text), "carries a text exactly if it is a usable text item"),
        (pc.equal(has["reason"], aside), "has a reason exactly if it is set aside"),
        (_implies(aside, pc.invert(has["item_id"])), "that is set aside has no item_id"),
    )
    for holds, rule in rules:
        broken = uris.filter(pc.invert(holds))
        if len(broken):
            raise ManifestSchemaError(f"every row of a manifest {rule}; broken by {broken[0].as_py()!r}")


def _implies(condition: pa.ChunkedArray, consequence: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.or_(pc.invert(condition), consequence)


def _repeated(uris: pa.ChunkedArray) -> str:
    if uris.null_count:
        return f"{uris.null_count} without a uri"
    counts = pc.value_counts(uris)
    repeated = counts.filter(pc.greater(pc.struct_field(counts, "counts"), 1))
    return f"{repeated[0]['values'].as_py()!r} more than once"
