"""The table of vectors with the model they came from.

Belongs here: the Arrow schema, its rules, provenance. Does not: how vectors are computed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aura.embeddings.errors import EmbeddingTableError
from aura.tiers.values import Part

DESCRIPTION_COLUMNS = ("item_id", "uri", "modality", "label", "sublabel")
"""The string columns that say what a vector stands for; the last two may be null."""

_PART = "embeddings"
_METADATA_KEY = b"aura"


@dataclass(frozen=True)
class EmbeddingModel:
    """Where vectors come from.

    Attributes:
        name: Hub name, directory or package of the model.
        fingerprint: Digest of weights, tokenizer or image processor, pooling and encoding settings (hex).
        revision: Commit of a hub model, version of a packaged one, None for a directory.
        dimension: Length of a vector.
        dtype: Arithmetic of the forward pass, "float32" or "bfloat16", or "text bfloat16, image float32" where the
            towers of a shared model differ; the vectors are float32 either way.
        parity_cosine: Smallest cosine between bfloat16 and float32 vectors of the same sampled inputs; None where
            only float32 was used.
    """

    name: str
    fingerprint: str
    revision: str | None
    dimension: int
    dtype: str
    parity_cosine: float | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint[:8]}, {self.dtype})"


@dataclass(frozen=True)
class EmbeddingTable:
    """One L2-normalisable float32 vector per item, in the order of the manifest.

    `table` has the columns item_id, uri, modality, label, sublabel (string; the last two may be null) and vector
    (fixed_size_list<float32>[d] with d = `model.dimension`); an item_id occurs once.

    Raises:
        EmbeddingTableError: the table breaks one of these rules, or a vector is not finite.
    """

    table: pa.Table
    model: EmbeddingModel

    def __post_init__(self) -> None:
        expected = table_schema(self.model.dimension)
        if not self.table.schema.equals(expected, check_metadata=False):
            found = ", ".join(f"{field.name}: {field.type}" for field in self.table.schema)
            wanted = ", ".join(f"{field.name}: {field.type}" for field in expected)
            raise EmbeddingTableError(f"a table of embeddings has the columns ({wanted}), got ({found})")
        metadata = {_METADATA_KEY: json.dumps(asdict(self.model), sort_keys=True).encode()}
        table = self.table.combine_chunks().replace_schema_metadata(metadata)
        object.__setattr__(self, "table", table)
        _check_values(self)

    @classmethod
    def build(cls, items: pa.Table, vectors: NDArray[np.float32], model: EmbeddingModel) -> Self:
        """Put vectors beside the items they stand for.

        Args:
            items: Rows with the columns item_id, uri, modality, label and sublabel; others are left out.
            vectors: [n, d] float32, one per row of `items`.
            model: Where the vectors come from.

        Raises:
            EmbeddingTableError: shape, dtype or a value is wrong.
        """
        if vectors.dtype != np.float32 or vectors.shape != (items.num_rows, model.dimension):
            raise EmbeddingTableError(
                f"{model} needs float32 vectors of shape {(items.num_rows, model.dimension)}, "
                f"got {vectors.dtype} of shape {vectors.shape}"
            )
        missing = [name for name in DESCRIPTION_COLUMNS if name not in items.column_names]
        if missing:
            raise EmbeddingTableError(f"the items have no column {missing[0]!r}, only {items.column_names}")
        flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
        columns = [items[name].cast(pa.string()) for name in DESCRIPTION_COLUMNS]
        vector = pa.FixedSizeListArray.from_arrays(flat, model.dimension)
        return cls(pa.Table.from_arrays([*columns, vector], schema=table_schema(model.dimension)), model)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The vectors, [n, d] float32, read-only: a view of the Arrow buffer, not a copy."""
        if not self.table.num_rows:
            return np.empty((0, self.model.dimension), np.float32)
        flat = self.table["vector"].chunk(0).flatten().to_numpy(zero_copy_only=True)
        vectors: NDArray[np.float32] = flat.reshape(self.table.num_rows, self.model.dimension)
        return vectors

    def to_parts(self) -> Mapping[str, Part]:
        """One part, `embeddings`: the table, with the model in its metadata."""
        return {_PART: self.table}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put a table together again; raises `EmbeddingTableError` if the parts do not hold one."""
        table = parts.get(_PART)
        if not isinstance(table, pa.Table):
            raise EmbeddingTableError(
                f"embeddings are one Arrow table called {_PART!r}, got the parts {sorted(parts)}; "
                f"materialize the embeddings again"
            )
        return cls(table, _model_of(table))


def table_schema(dimension: int) -> pa.Schema:
    """The schema of a table of `dimension`-long vectors, without metadata."""
    texts = [pa.field(name, pa.string()) for name in DESCRIPTION_COLUMNS]
    return pa.schema([*texts, pa.field("vector", pa.list_(pa.float32(), dimension))])


def _check_values(embeddings: EmbeddingTable) -> None:
    table = embeddings.table
    for name in ("item_id", "uri", "modality", "vector"):
        if table[name].null_count:
            raise EmbeddingTableError(f"column {name!r} has {table[name].null_count} nulls, expected none")
    ids = table["item_id"]
    if len(ids.unique()) != len(ids):
        raise EmbeddingTableError(f"{len(ids) - len(ids.unique())} item_ids occur more than once, expected each once")
    finite = np.isfinite(embeddings.vectors).all(axis=1)
    if not finite.all():
        first = table["uri"][int(np.argmin(finite))].as_py()
        raise EmbeddingTableError(
            f"{int((~finite).sum())} vectors of {embeddings.model} are not finite, the first is that of {first!r}; "
            f"check the model's weights, or encode in float32"
        )


def _model_of(table: pa.Table) -> EmbeddingModel:
    raw = (table.schema.metadata or {}).get(_METADATA_KEY)
    if raw is None:
        raise EmbeddingTableError("the table's schema metadata has no key 'aura', so its model is unknown")
    try:
        return EmbeddingModel(**json.loads(raw))
    except (TypeError, ValueError) as error:
        raise EmbeddingTableError(f"the table's metadata describes no model: {raw!r}") from error
