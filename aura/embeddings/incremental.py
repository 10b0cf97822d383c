"""Vectors for the items of a manifest, computing only those that are not there yet.

Belongs here: what is re-used, what is encoded, what disappears, and the report of it. Does not: models and batching.

An item is addressed by its content, so its vector holds as long as the model does. A model counts as the same if its
fingerprint and the arithmetic that it settled on are the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from aura.embeddings.encoder import Encoder, Progress, Vectors
from aura.embeddings.errors import EmbeddingTableError, EncodingError
from aura.embeddings.table import DESCRIPTION_COLUMNS, EmbeddingModel, EmbeddingTable
from aura.embeddings.windows import EncodedWindow, Read, cut, encode_window

_log = logging.getLogger(__name__)

Elsewhere = Callable[[Iterator[pa.Table]], Iterator[EncodedWindow]]
"""Encodes windows on other machines and gives the results in their order."""


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
        seconds: Wall time of reading and encoding, without loading the model in this process.
        load_seconds: Wall time of loading the model and its library; 0 where nothing had to be loaded.
        tokens: Tokens that went through the model, padding not counted; 0 where there are none.
        chunked: Encoded items longer than the model's window, whose vector is the mean of those of their pieces.
        truncated: Encoded items whose end was cut off.
    """

    reason: str
    encoded: int
    reused: int
    removed: int
    set_aside: tuple[ItemSetAside, ...]
    seconds: float
    load_seconds: float
    tokens: int
    chunked: int
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
    model: EmbeddingModel | None = None
    seconds: float = 0.0
    load_seconds: float = 0.0
    tokens: int = 0
    chunked: int = 0
    truncated: int = 0


def embed_items(
    items: pa.Table,
    encoder: Encoder[Any],
    *,
    previous: EmbeddingTable | None = None,
    read: Read | None = None,
    progress: Progress | None = None,
    elsewhere: Elsewhere | None = None,
) -> tuple[EmbeddingTable, EmbeddingReport]:
    """Bring a table of embeddings up to date with a manifest's items.

    Args:
        items: Columns item_id (each once), uri, modality, label, sublabel, and text where `read` is None.
        encoder: The model. It is loaded only to encode here, or where no table tells its dimension.
        previous: The table of an earlier run. Its vectors are re-used if its model is this one.
        read: From a uri and the item_id that was listed under it to the content; None for the column text. An item
            for which it raises `ItemChangedError` is set aside, and so is one that the encoder refuses.
        progress: Called with (done, total) of the items to encode.
        elsewhere: Encodes in place of this process, with the same model.

    Returns:
        One row per item that has a vector, in the order of `items`, and the report.

    Raises:
        EmbeddingTableError: the items lack a column, or an item_id is repeated.
        EncodingError: the model cannot be loaded or gives vectors that cannot be used, or `elsewhere` encoded with
            another one.
    """
    _check_items(items, needs_text=read is None)
    ids: list[str] = items["item_id"].to_pylist()
    reused = _reusable(ids, previous, encoder.fingerprint)

    def encode(rows: list[int]) -> _Encoding:
        windows = list(cut(items.take(pa.array(rows, pa.int64())), is_text=read is None))
        started = time.perf_counter()
        if windows and elsewhere is None:
            _log.info("encoding %d items with %s", len(rows), encoder.model)
        loaded = time.perf_counter()
        results = _here(windows, encoder, read, progress) if elsewhere is None else elsewhere(iter(windows))
        encoding = _gathered(rows, windows, results, progress)
        _check_model(encoding.model, encoder.fingerprint)
        return replace(encoding, load_seconds=loaded - started, seconds=time.perf_counter() - loaded)

    encoding = encode([row for row in range(len(ids)) if row not in reused])
    if previous is not None and reused and _other_arithmetic(encoding, previous.model):
        reused = {}
        again = encode(list(range(len(ids))))
        spent = {"seconds": encoding.seconds, "load_seconds": encoding.load_seconds}
        encoding = replace(again, **{name: getattr(again, name) + before for name, before in spent.items()})
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
        chunked=encoding.chunked,
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


def _other_arithmetic(encoding: _Encoding, before: EmbeddingModel) -> bool:
    """Whether there are vectors now that those of an earlier run cannot be mixed with."""
    return encoding.model is not None and bool(encoding.rows) and encoding.model.dtype != before.dtype


def _check_model(model: EmbeddingModel | None, fingerprint: str) -> None:
    if model is not None and model.fingerprint != fingerprint:
        raise EncodingError(
            f"the items were encoded with {model}, and the model here is {fingerprint[:8]}: put the same files on all "
            f"machines"
        )


def _common_model(results: Sequence[EncodedWindow]) -> EmbeddingModel | None:
    """What all windows were encoded with; the parity is that of the worst."""
    models = [result.model for result in results]
    for model in models[1:]:
        if (model.fingerprint, model.dtype) != (models[0].fingerprint, models[0].dtype):
            raise EncodingError(
                f"some items were encoded with {models[0]} and some with {model}: put the same files on all machines, "
                f"and set AURA_EMBEDDINGS__DTYPE to float32 where their hardware differs"
            )
    parities = [model.parity_cosine for model in models if model.parity_cosine is not None]
    return replace(models[0], parity_cosine=min(parities, default=None)) if models else None


def _gathered(
    rows: list[int], windows: list[pa.Table], results: Iterator[EncodedWindow], progress: Progress | None
) -> _Encoding:
    """The results of the windows of some rows, put together."""
    encoded: list[int] = []
    refused: dict[int, str] = {}
    done: list[EncodedWindow] = []
    start = 0
    for window, result in zip(windows, results, strict=True):
        of_window = rows[start : start + window.num_rows]
        encoded += [row for place, row in enumerate(of_window) if place not in result.refused]
        refused |= {of_window[place]: reason for place, reason in result.refused.items()}
        done.append(result)
        start += window.num_rows
        if progress is not None:
            progress(start, len(rows))
    return _Encoding(
        rows=encoded,
        vectors=np.concatenate([result.vectors for result in done]) if done else np.empty((0, 0), np.float32),
        refused=refused,
        model=_common_model(done),
        tokens=sum(result.tokens for result in done),
        chunked=sum(result.chunked for result in done),
        truncated=sum(result.truncated for result in done),
    )


def _here(
    windows: list[pa.Table], encoder: Encoder[Any], read: Read | None, progress: Progress | None
) -> Iterator[EncodedWindow]:
    total = sum(window.num_rows for window in windows)
    start = 0
    for window in windows:
        yield encode_window(window, encoder, read, _offset(progress, start, total))
        start += window.num_rows


def _offset(progress: Progress | None, start: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, _: progress(start + done, total)


def _assemble(
    items: pa.Table,
    encoder: Encoder[Any],
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
    encoder: Encoder[Any], previous: EmbeddingTable | None, encoding: _Encoding, *, has_reused: bool
) -> EmbeddingModel:
    """The model of the new table; the parity of all its vectors is that of the worse run."""
    if previous is None or previous.model.fingerprint != encoder.fingerprint:
        return encoding.model or encoder.model
    if encoding.model is None or not encoding.rows:
        return previous.model
    model = encoding.model
    if not has_reused:
        return model
    parities = [p for p in (previous.model.parity_cosine, model.parity_cosine) if p is not None]
    return replace(model, parity_cosine=min(parities, default=None))


def _reason(previous: EmbeddingTable | None, model: EmbeddingModel, encoding: _Encoding) -> str:
    if previous is None:
        return "first run"
    if (previous.model.fingerprint, previous.model.dtype) != (model.fingerprint, model.dtype):
        return f"model changed: {previous.model} -> {model}"
    return "incremental" if encoding.rows else "nothing new"
