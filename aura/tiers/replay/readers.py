"""Readers of access traces, the format chosen by content.

Belongs here: each file format, what a damaged file says. Does not: what is done with a trace.

Formats:
    routes: expert lookups of a mixture-of-experts model (BigMoeOnEdge, `# route_trace v1`). One access per expert of a
        (turn, phase, step, layer) batch, in file order; in the prefill phase a batch spans the steps. The key is
        `layer << 32 | expert`, the size the layer's `expert_bytes`.
    decoding: the same file without its prefill phase; only where it is asked for.
    blocks: KV-cache requests as JSON lines (Mooncake, FAST'25); the blocks of `hash_ids` in order.
    int64, int32: big-endian keys of fixed width without a header (the traces of the Caffeine and cache2k simulators).
    text: one access a line, `key` or `key,bytes`, whole numbers; lines that start with # are comments.

Any of them may be compressed with xz or gzip.
"""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from aura.tiers.replay.trace import Trace

Format = Literal["routes", "decoding", "blocks", "int64", "int32", "text"]
FORMATS: tuple[Format, ...] = get_args(Format)
PROBE_BYTES = 1 << 16
"""Bytes at the start of a file that decide on its format; enough that keys of a binary trace recur in it."""
LAYER_SHIFT = 32
ROUTE_COLUMNS = ("turn", "phase", "step", "layer", "slot", "expert")

Lines: TypeAlias = IO[bytes] | gzip.GzipFile
Accesses: TypeAlias = Iterator[tuple[int, int]]
"""Key and bytes; bytes are 0 where the format has none."""


class TraceError(ValueError):
    """A trace file that cannot be read: it names the file, the line or byte, and what is wrong there."""


def read_trace(path: Path, *, limit: int | None = None, layout: Format | None = None) -> Trace:
    """Read the first accesses of a trace file.

    Args:
        path: The file.
        limit: Number of accesses after which reading stops; None reads all.
        layout: Its format; None decides by its content. The width of binary keys is guessed by which of the two makes
            more keys recur, so it has to be given for a binary trace in which hardly any key recurs.

    Returns:
        The trace, named after the file without its suffixes. Memory is 16 bytes an access with sizes, else 8.

    Raises:
        TraceError: The file is damaged or not a trace.
        OSError: The file cannot be opened.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}: at least one access has to be read")
    try:
        with _opened(path) as stream:
            chosen = layout or _layout_of(stream.read(PROBE_BYTES), path)
        with _opened(path) as stream:
            if chosen in ("int64", "int32"):
                ids, sizes = _read_keys(stream, path, 8 if chosen == "int64" else 4, limit), None
            else:
                ids, sizes = _gathered(islice(_LINE_FORMATS[chosen](stream, path), limit), path)
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise TraceError(f"{path} is damaged: the compressed data cannot be read ({error})") from error
    if not len(ids):
        raise TraceError(f"{path} holds no access")
    return Trace(path.name.split(".")[0], ids, sizes)


def _opened(path: Path) -> Lines:
    if path.suffix == ".xz":
        return lzma.open(path, "rb")
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    return path.open("rb")


def _layout_of(head: bytes, path: Path) -> Format:
    if not head:
        raise TraceError(f"{path} is empty")
    if head.startswith(b"# route_trace"):
        return "routes"
    if head.lstrip().startswith(b"{"):
        return "blocks"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return "text"
    if len(head) < 8:
        return "int32"
    words = np.frombuffer(head[: len(head) // 8 * 8], dtype=">u4").reshape(-1, 2)
    # Two keys of 32 bits beside each other recur together more rarely than each alone; the halves of one key do not.
    halves = max(len(np.unique(words[:, 0])), len(np.unique(words[:, 1])))
    return "int64" if len(np.unique(words, axis=0)) <= 1.02 * halves else "int32"


def _read_keys(stream: Lines, path: Path, width: int, limit: int | None) -> NDArray[np.int64]:
    data = stream.read() if limit is None else stream.read(limit * width)
    if len(data) % width:
        whole = len(data) // width * width
        raise TraceError(f"{path} is damaged: {len(data) - whole} bytes after byte {whole} are no key of {width} bytes")
    return np.frombuffer(data, dtype=f">i{width}").astype(np.int64)


def _gathered(accesses: Accesses, path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    try:
        flat = np.fromiter(chain.from_iterable(accesses), dtype=np.int64)
    except OverflowError as error:
        raise TraceError(f"{path} is damaged: a key or a size does not fit 64 bits ({error})") from error
    table = flat.reshape(-1, 2)
    sized = table[:, 1] > 0
    if sized.any() and not sized.all():
        raise TraceError(f"{path} gives a size for {sized.sum()} of {len(table)} accesses; give all or none")
    return np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1]) if sized.any() else None


def _lines(stream: Lines, path: Path) -> Iterator[tuple[int, str]]:
    for number, raw in enumerate(stream, start=1):
        try:
            yield number, raw.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise _damaged(path, number, "not UTF-8") from error


def _damaged(path: Path, number: int, what: str) -> TraceError:
    return TraceError(f"{path}, line {number}: {what}")


def _blocks(stream: Lines, path: Path) -> Accesses:
    for number, line in _lines(stream, path):
        if not line:
            continue
        try:
            request = json.loads(line)
        except json.JSONDecodeError as error:
            raise _damaged(path, number, f"not JSON ({error})") from error
        blocks = request.get("hash_ids") if isinstance(request, dict) else None
        if not isinstance(blocks, list) or not all(type(block) is int for block in blocks):
            raise _damaged(path, number, 'no whole numbers under "hash_ids"')
        for block in blocks:
            yield block, 0


def _text(stream: Lines, path: Path) -> Accesses:
    for number, line in _lines(stream, path):
        if not line or line.startswith("#"):
            continue
        fields = line.split(",")
        try:
            key, size = int(fields[0]), int(fields[1]) if len(fields) > 1 else 0
        except ValueError as error:
            raise _damaged(path, number, f"{line[:60]!r} is not `key` or `key,bytes`") from error
        if len(fields) > 2 or (len(fields) == 2 and size <= 0):
            raise _damaged(path, number, f"{line[:60]!r} is not `key` or `key,bytes` with positive bytes")
        yield key, size


def _routes(stream: Lines, path: Path, *, prefill: bool = True) -> Accesses:
    sizes: dict[int, int] = {}
    columns: list[str] | None = None
    batch: tuple[int, ...] | None = None
    seen: set[int] = set()
    for number, line in _lines(stream, path):
        if line.startswith("#"):
            sizes.update(_layer_size(line, path, number))
            continue
        if columns is None:
            columns = line.split(",")
            if columns[: len(ROUTE_COLUMNS)] != list(ROUTE_COLUMNS):
                raise _damaged(path, number, f"the columns do not begin with {','.join(ROUTE_COLUMNS)}")
            continue
        fields = line.split(",")
        if len(fields) != len(columns):
            raise _damaged(path, number, f"{len(fields)} fields, expected {len(columns)}")
        try:
            turn, phase, step, layer, _, expert = (int(field) for field in fields[: len(ROUTE_COLUMNS)])
        except ValueError as error:
            raise _damaged(path, number, f"{line[:60]!r} does not begin with six whole numbers") from error
        if layer not in sizes:
            raise _damaged(path, number, f"layer {layer} has no line `# layer={layer} expert_bytes=...` above")
        now = (turn, phase, step if phase else -1, layer)
        if now != batch:
            batch, seen = now, set()
        if expert not in seen and (phase or prefill):
            seen.add(expert)
            yield layer << LAYER_SHIFT | expert, sizes[layer]


def _layer_size(line: str, path: Path, number: int) -> dict[int, int]:
    fields = dict(pair.split("=", 1) for pair in line[1:].split() if "=" in pair)
    if not fields.keys() >= {"layer", "expert_bytes"}:
        return {}
    try:
        layer, size = int(fields["layer"]), int(fields["expert_bytes"])
    except ValueError as error:
        raise _damaged(path, number, f"{line[:60]!r} has a layer or size that is no whole number") from error
    if size <= 0:
        raise _damaged(path, number, f"the experts of layer {layer} have {size} bytes")
    return {layer: size}


_LINE_FORMATS: dict[str, Callable[[Lines, Path], Accesses]] = {
    "routes": _routes,
    "decoding": partial(_routes, prefill=False),
    "blocks": _blocks,
    "text": _text,
}
