"""Windows of items: what is read and encoded at a time, here or on another machine.

Belongs here: cutting, and one window from items to vectors.
Does not: which items (`aura.embeddings.incremental`), other machines (`aura.embeddings.cluster`).

The last bits of a vector depend on what else is encoded with it, so a window is encoded as a whole, wherever that is:
the same windows give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from aura.corpus.errors import ItemChangedError
from aura.embeddings.encoder import Encoder, Progress, Vectors
from aura.embeddings.table import EmbeddingModel

TEXTS = 4096
"""Texts in a window: enough to sort them into batches of similar length."""

FILES = 256
"""Images or sounds in a window: their content is in memory at the same time."""

WINDOW_BYTES = 128 * 2**20
"""Bytes of them in a window; a larger one has a window to itself."""

Read = Callable[[str, str], bytes]
"""From a uri and an item_id to the content; raises `ItemChangedError` where it is another now."""


@dataclass(frozen=True)
class EncodedWindow:
    """What became of a window.

    Attributes:
        vectors: [m, d] float32 of length 1, of the items that have one, in their order.
        refused: Why an item has none, by its place in the window and in the order of the places.
        model: What they were encoded with.
        tokens: Tokens that went through the model, padding not counted; 0 where there are none.
        chunked: Items that were encoded in more than one piece.
        truncated: Items whose end was cut off.
    """

    vectors: Vectors
    refused: Mapping[int, str]
    model: EmbeddingModel
    tokens: int = 0
    chunked: int = 0
    truncated: int = 0


def cut(items: pa.Table, *, is_text: bool) -> Iterator[pa.Table]:
    """The windows of a table, in order; those of files by the column bytes too, where there is one."""
    most = TEXTS if is_text else FILES
    sizes = [0] * items.num_rows if is_text or "bytes" not in items.column_names else items["bytes"].to_pylist()
    start = held = 0
    for row, size in enumerate(sizes):
        if row > start and (row - start == most or held + size > WINDOW_BYTES):
            yield items.slice(start, row - start)
            start, held = row, 0
        held += size
    if start < items.num_rows:
        yield items.slice(start)


def encode_window(
    items: pa.Table, encoder: Encoder[Any], read: Read | None, progress: Progress | None = None
) -> EncodedWindow:
    """Read the items of a window and encode them.

    Args:
        items: Columns item_id, uri, and text where `read` is None.
        encoder: The model.
        read: How content is read; None for the column text.
        progress: Called with (done, total) of the items that could be read.

    Raises:
        EncodingError: the model cannot be loaded or gives vectors that cannot be used.
    """
    readable, contents, unread = _contents(items, read)
    encoded = encoder.encode(contents, progress)
    refused = {readable[place]: reason for place, reason in encoded.refused.items()}
    without = dict(sorted((unread | refused).items()))
    return EncodedWindow(encoded.vectors, without, encoder.model, encoded.tokens, encoded.chunked, encoded.truncated)


def _contents(items: pa.Table, read: Read | None) -> tuple[list[int], list[Any], dict[int, str]]:
    """The places of what can be read, the contents, and why the others cannot."""
    if read is None:
        return list(range(items.num_rows)), items["text"].to_pylist(), {}
    readable: list[int] = []
    contents: list[bytes] = []
    unread: dict[int, str] = {}
    for place, (uri, item_id) in enumerate(zip(items["uri"].to_pylist(), items["item_id"].to_pylist(), strict=True)):
        try:
            contents.append(read(uri, item_id))
        except ItemChangedError as error:
            unread[place] = str(error)
        else:
            readable.append(place)
    return readable, contents, unread
