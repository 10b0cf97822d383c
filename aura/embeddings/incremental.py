"""Vectors for the items of a manifest, computing only those that are not there yet.

Belongs here: what is re-used, what is encoded, what disappears, and the report of it. Does not: models and batching.

An item is addressed by its content, so its vector holds as long as the model does. A model counts as the same if its
fingerprint and the arithmetic that it settled on are the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import numpy as np
import pyarrow as pa

from aura.corpus.errors import ItemChangedError
from aura.embeddings.encoder import Encoder, Progress, Vectors
from aura.embeddings.errors import EmbeddingTableError
from aura.embeddings.table import DESCRIPTION_COLUMNS, EmbeddingModel, EmbeddingTable

_log = logging.getLogger(__name__)

READ_WINDOW = 256
"""Items whose content is in memory at the same time, where content has to be read."""

Content = TypeVar("Content", str, bytes)


@dataclass(frozen=True)
class ItemSetAside:
    """An item without a vector."""

    item_id: str
    uri: str
    reason: str


@dataclass(frozen=True)
class EmbeddingReport:
    """What a run did.

    Attributes:
        reason: "first run", "incremental", "nothing new" or "model changed: <old> -> <new>".
        encoded: Items that went through the model and have a vector.
        reused: Items whose vector was taken over, bit for bit.
        removed: Items that had a vector before and have none any more.
        set_aside: Items that have no vector, and why.
        seconds: Wall time of reading and encoding, without loading the model.
        load_seconds: Wall time of loading the model and its library; 0 where nothing had to be loaded.
        tokens: Tokens that went through the model, padding not counted; 0 for images.
        truncated: Encoded texts longer than the model's limit, of which only the beginning counts.
    """

    reason: str
    encoded: int
    reused: int
    removed: int
    set_aside: tuple[ItemSetAside, ...]
    seconds: float
    load_seconds: float
    tokens: int
    truncated: int

    @property
    def items_per_second(self) -> float | None:
        """Encoded items per second of reading and encoding; None where nothing was encoded."""
        return self.encoded / self.seconds if self.encoded else None


@dataclass(frozen=True)
class _Encoding:
    """The rows that went through the model, their vectors [m, d], and what it took."""

    rows: list[int]
    vectors: Vectors
    refused: dict[int, str]
    seconds: float
    load_seconds: float
    tokens: int
    truncated: int


def embed_items(
    items: pa.Table,
    encoder: Encoder[Content],
    *,
    previous: EmbeddingTable | None = None,
    read: Callable[[str, str], Content] | None = None,
    progress: Progress | None = None,
) -> tuple[EmbeddingTable, EmbeddingReport]:
    """Bring a table of embeddings up to date with a manifest's items.

    Args:
        items: Columns item_id (each once), uri, modality, label, sublabel, and text where `read` is None.
        encoder: The model. It is loaded only if there is something to encode, or no table that tells its dimension.
        previous: The table of an earlier run. Its vectors are re-used if its model is this one.
        read: From a uri and the item_id that was listed under it to the content; None for the column text. An item
            for which it raises `ItemChangedError` is set aside, and so is one that the encoder refuses.
        progress: Called with (done, total) of the items to encode.

    Returns:
        One row per item that has a vector, in the order of `items`, and the report.

    Raises:
        EmbeddingTableError: the items lack a column, or an item_id is repeated.
        EncodingError: the model cannot be loaded or gives vectors that cannot be used.
    """
    _check_items(items, needs_text=read is None)
    ids: list[str] = items["item_id"].to_pylist()
    reused = _reusable(ids, previous, encoder.fingerprint)
    encoding = _encode(items, [row for row in range(len(ids)) if row not in reused], encoder, read, progress)
    if previous is not None and reused and encoding.rows and encoder.model.dtype != previous.model.dtype:
        reused = {}
        encoding = _encode(items, list(range(len(ids))), encoder, read, progress)
    table = _assemble(items, encoder, previous, reused, encoding)
    report = EmbeddingReport(
        reason=_reason(previous, table.model, encoding),
        encoded=len(encoding.rows),
        reused=len(reused),
        removed=len(_rows_by_id(previous).keys() - set(table.table["item_id"].to_pylist())),
        set_aside=tuple(
            ItemSetAside(ids[row], items["uri"][row].as_py(), reason) for row, reason in encoding.refused.items()
        ),
        seconds=encoding.seconds,
        load_seconds=encoding.load_seconds,
        tokens=encoding.tokens,
        truncated=encoding.truncated,
    )
    return table, report


def _check_items(items: pa.Table, *, needs_text: bool) -> None:
    wanted = [*DESCRIPTION_COLUMNS, *(["text"] if needs_text else [])]
    missing = [name for name in wanted if name not in items.column_names]
    if missing:
        raise EmbeddingTableError(f"the items have no column {missing[0]!r}, only {items.column_names}")
    repeated = items.num_rows - len(items["item_id"].unique())
    if repeated:
        raise EmbeddingTableError(f"{repeated} item_ids occur more than once; pass `manifest.items(modality)`")
    if needs_text and items["text"].null_count:
        raise EmbeddingTableError(f"{items['text'].null_count} items have no text; pass `read` to have it read")


def _rows_by_id(table: EmbeddingTable | None) -> dict[str, int]:
    return {} if table is None else {item_id: row for row, item_id in enumerate(table.table["item_id"].to_pylist())}


def _reusable(ids: list[str], previous: EmbeddingTable | None, fingerprint: str) -> dict[int, int]:
    """From the row of an item to the row of its vector in `previous`, where that is of the same model."""
    if previous is None or previous.model.fingerprint != fingerprint:
        return {}
    before = _rows_by_id(previous)
    return {row: before[item_id] for row, item_id in enumerate(ids) if item_id in before}


def _encode(
    items: pa.Table,
    rows: list[int],
    encoder: Encoder[Content],
    read: Callable[[str, str], Content] | None,
    progress: Progress | None,
) -> _Encoding:
    started = time.perf_counter()
    load_seconds, tokens, truncated = 0.0, 0, 0
    refused: dict[int, str] = {}
    encoded_rows: list[int] = []
    parts: list[Vectors] = []
    window = len(rows) if read is None else READ_WINDOW
    for start in range(0, len(rows), max(window, 1)):
        readable, contents, unread = _contents(items, rows[start : start + window], read)
        refused |= unread
        if contents and not parts:
            before_load = time.perf_counter()
            _log.info("encoding %d items with %s", len(rows), encoder.model)
            load_seconds = time.perf_counter() - before_load
        if contents:
            encoded = encoder.encode(contents, _offset(progress, start, len(rows)))
            refused |= {readable[position]: reason for position, reason in encoded.refused.items()}
            encoded_rows += [row for position, row in enumerate(readable) if position not in encoded.refused]
            parts.append(encoded.vectors)
            tokens, truncated = tokens + encoded.tokens, truncated + encoded.truncated
        if progress is not None:
            progress(min(start + window, len(rows)), len(rows))
    vectors = np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
    seconds = time.perf_counter() - started - load_seconds
    return _Encoding(encoded_rows, vectors, refused, seconds, load_seconds, tokens, truncated)


def _contents(
    items: pa.Table, rows: list[int], read: Callable[[str, str], Content] | None
) -> tuple[list[int], list[Content], dict[int, str]]:
    """The rows that can be read, their contents, and why the others cannot."""
    if read is None:
        return rows, cast("list[Content]", items["text"].take(pa.array(rows, pa.int64())).to_pylist()), {}
    readable: list[int] = []
    contents: list[Content] = []
    unread: dict[int, str] = {}
    for row in rows:
        try:
            contents.append(read(items["uri"][row].as_py(), items["item_id"][row].as_py()))
        except ItemChangedError as error:
            unread[row] = str(error)
        else:
            readable.append(row)
    return readable, contents, unread


def _offset(progress: Progress | None, start: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, _: progress(start + done, total)


def _assemble(
    items: pa.Table,
    encoder: Encoder[Content],
    previous: EmbeddingTable | None,
    reused: dict[int, int],
    encoding: _Encoding,
) -> EmbeddingTable:
    model = _provenance(encoder, previous, encoding, has_reused=bool(reused))
    vectors = np.empty((items.num_rows, model.dimension), np.float32)
    has_vector = np.zeros(items.num_rows, bool)
    if previous is not None and reused:
        vectors[list(reused)] = previous.vectors[list(reused.values())]
        has_vector[list(reused)] = True
    if encoding.rows:
        vectors[encoding.rows] = encoding.vectors
        has_vector[encoding.rows] = True
    return EmbeddingTable.build(items.filter(pa.array(has_vector)), vectors[has_vector], model)


def _provenance(
    encoder: Encoder[Content], previous: EmbeddingTable | None, encoding: _Encoding, *, has_reused: bool
) -> EmbeddingModel:
    """The model of the new table; the parity of all its vectors is that of the worse run."""
    if previous is None or previous.model.fingerprint != encoder.fingerprint:
        return encoder.model
    if not encoding.rows:
        return previous.model
    parities = [p for p in (previous.model.parity_cosine, encoder.model.parity_cosine) if p is not None]
    return replace(encoder.model, parity_cosine=min(parities)) if has_reused and parities else encoder.model


def _reason(previous: EmbeddingTable | None, model: EmbeddingModel, encoding: _Encoding) -> str:
    if previous is None:
        return "first run"
    if (previous.model.fingerprint, previous.model.dtype) != (model.fingerprint, model.dtype):
        return f"model changed: {previous.model} -> {model}"
    return "incremental" if encoding.rows else "nothing new"
