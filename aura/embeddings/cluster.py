"""Windows of items encoded on a Ray cluster, for corpora beyond one machine.

Belongs here: the stage for Ray Data, and the way there and back. Does not: encoding (`aura.embeddings.windows`).

The stage is the encoder of this machine in an actor: the same windows give the same bytes on the same hardware. (The
last bits of a joint model's vectors depend on the number of torch's threads too, and an actor has one.) It can be put
into any Ray Data pipeline of texts with identifiers:

    ray.data.read_parquet("corpus.parquet").map_batches(
        EncoderStage, fn_constructor_args=(EncoderRecipe(settings.embeddings, "text"),), batch_size=TEXTS,
        batch_format="pyarrow", num_gpus=1,
    )

aura is installed on every machine of the cluster, in the same version.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

from aura.corpus.errors import CorpusError
from aura.embeddings.encoder import Encoder, Vectors
from aura.embeddings.errors import ClusterError, EmbeddingError, EncodingError
from aura.embeddings.opening import Encoders
from aura.embeddings.spaces import PublishedSpace
from aura.embeddings.table import EmbeddingModel
from aura.embeddings.windows import EncodedWindow, Read, encode_window
from aura.settings_sections import EmbeddingSettings

if TYPE_CHECKING:
    from ray.data import DataContext, Dataset

RESTARTS = 3
"""Deaths of an actor after which the work has failed; Ray's default is to try for ever, also where an item kills it."""

CONNECT_SECONDS = 10.0
"""For the address to answer at all."""

_ATTEMPTS = "RAY_gcs_server_port_wait_time_s"
_COUNTS = ("tokens", "chunked", "truncated")


@dataclass(frozen=True)
class EncoderRecipe:
    """What another process needs to open the same encoder.

    Attributes:
        settings: Which models are configured; directories have to be there on every machine.
        modality: "text", "image" or "audio".
        space: The joint space that is meant; None for the modality's own model.
    """

    settings: EmbeddingSettings
    modality: str
    space: PublishedSpace | None = None

    def open(self) -> Encoder[Any]:
        """The encoder.

        Raises:
            EncodingError: no model is configured for the modality.
        """
        encoders = Encoders(self.settings)
        if self.space is not None:
            return self.space.open(encoders).encoder(self.modality)
        own = encoders.of(self.modality)
        if own is None:
            raise EncodingError(f"no model is configured for {self.modality} items")
        return own


class EncoderStage:
    """A stage of Ray Data: a batch of items in, their vectors out."""

    def __init__(self, recipe: EncoderRecipe, read: Read | None = None) -> None:
        self._encoder = recipe.open()
        self._read = read

    def __call__(self, items: pa.Table) -> pa.Table:
        """Encode a batch.

        Args:
            items: Columns item_id, and text, or uri where there is a `read`.

        Returns:
            One row per item: item_id; vector, a list of float32, null where the item is refused; reason, null where it
            is not; and, the same in every row, the batch's tokens, chunked and truncated items and its model as JSON.
        """
        window = encode_window(items, self._encoder, self._read)
        count = items.num_rows
        kept = np.setdiff1d(np.arange(count), list(window.refused))
        offsets = np.zeros(count + 1, np.int64)
        offsets[kept + 1] = window.model.dimension
        has_vector = np.isin(np.arange(count), kept)
        vectors = pa.LargeListArray.from_arrays(
            pa.array(np.cumsum(offsets)), pa.array(window.vectors.reshape(-1)), mask=pa.array(~has_vector)
        )
        columns = {
            "item_id": items["item_id"],
            "vector": vectors,
            "reason": pa.array([window.refused.get(place) for place in range(count)], pa.string()),
            "model": pa.array([json.dumps(asdict(window.model))] * count, pa.string()),
        }
        counts = {name: pa.array([getattr(window, name)] * count, pa.int64()) for name in _COUNTS}
        return pa.table({**columns, **counts})


class _WindowStage:
    """The stage for `Cluster`: a row is a window, so that none is cut or joined with another on its way.

    An error that is meant for people comes back in the place of a result: Ray would pass on the text of a traceback.
    """

    def __init__(self, recipe: EncoderRecipe, read: Read | None) -> None:
        self._encode: Callable[[pa.Table], pa.Table]
        try:
            self._encode = EncoderStage(recipe, read)
        except EmbeddingError as error:
            self._encode = partial(_fail, error)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Encode the windows of a batch."""
        return pa.concat_tables(
            self._answer(place, content)
            for place, content in zip(rows["place"].to_pylist(), rows["content"], strict=True)
        )

    def _answer(self, place: int, content: pa.LargeBinaryScalar) -> pa.Table:
        try:
            return _row(place, self._encode(_content(content)), None)
        except (EmbeddingError, CorpusError) as error:
            return _row(place, pa.table({}), str(error))


def _fail(error: EmbeddingError, _: pa.Table) -> pa.Table:
    raise error


def _row(place: int, content: pa.Table, failure: str | None = None) -> pa.Table:
    """A table as one row: a slice takes only its own bytes along."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, content.schema) as stream:
        stream.write_table(content)
    packed = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), 1, [None, pa.py_buffer(np.array([0, sink.tell()], np.int64)), sink.getvalue()]
    )
    return pa.table({"place": [place], "content": packed, "failure": pa.array([failure], pa.string())})


def _content(packed: pa.LargeBinaryScalar) -> pa.Table:
    return pa.ipc.open_stream(packed.as_buffer()).read_all()


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that encodes.

    Attributes:
        address: `auto` for the one that this machine belongs to, or host:port; this machine is a node of it.
        num_gpus: GPUs of an actor, where the cluster has any.
    """

    address: str
    num_gpus: float = 0.0

    def encode(
        self, recipe: EncoderRecipe, read: Read | None = None
    ) -> Callable[[Iterator[pa.Table]], Iterator[EncodedWindow]]:
        """What `embed_items` takes to have windows encoded on the cluster.

        Args:
            recipe: Which encoder.
            read: How content is read; it goes to the other machines, which have to see the same files.

        Raises:
            ClusterError: Ray is not installed, the cluster cannot be reached, or its work failed.
        """
        return lambda windows: self._encoded(list(windows), recipe, read)

    def _encoded(self, windows: list[pa.Table], recipe: EncoderRecipe, read: Read | None) -> Iterator[EncodedWindow]:
        if not windows:
            return
        with _connected(self.address):
            import ray

            try:
                rows = self._stage(windows, recipe, read).iter_batches(batch_size=1, batch_format="pyarrow")
                for place, row in enumerate(rows):
                    yield _window(row, place)
            except (EncodingError, ray.exceptions.RayError) as error:
                raise self._failure(error) from error

    def _failure(self, error: Exception) -> ClusterError:
        return ClusterError(f"encoding on the Ray cluster {self.address!r} failed: {error}")

    def _stage(self, windows: list[pa.Table], recipe: EncoderRecipe, read: Read | None) -> Dataset:
        """One row per window, in their order."""
        import ray.data

        gpus, actors = self._actors()
        most = min(actors, len(windows))
        wanted = ["item_id", "uri"] if read is not None else ["item_id", "text"]
        rows = [_row(place, window.select(wanted)) for place, window in enumerate(windows)]
        with ray.data.DataContext.current(_in_order(ray.data.DataContext.get_current())), warnings.catch_warnings():
            # How often an actor is restarted has no parameter of its own yet.
            warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
            return ray.data.from_arrow(rows).map_batches(
                _WindowStage,
                fn_constructor_args=(recipe, read),
                batch_size=1,
                batch_format="pyarrow",
                num_cpus=None if gpus else 1,
                num_gpus=gpus or None,
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most, initial_size=most),
                max_restarts=RESTARTS,
                max_task_retries=RESTARTS,
            )

    def _actors(self) -> tuple[float, int]:
        """GPUs of an actor, and how many actors the cluster has room for."""
        import ray

        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        if 0 < self.num_gpus <= resources.get("GPU", 0):
            return self.num_gpus, int(resources["GPU"] // self.num_gpus)
        processors = int(resources.get("CPU", 0))
        if not processors:
            raise ClusterError(f"the Ray cluster {self.address!r} has no processors; add a node to it")
        return 0, processors


def _in_order(context: DataContext) -> DataContext:
    """The same, but results come in the order of what they are of, and nothing is printed."""
    mine = context.copy()
    mine.execution_options.preserve_order = True
    mine.enable_progress_bars = False
    mine.print_on_execution_start = False
    return mine


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """This process as a driver of the cluster; a connection that is there already is used, and left."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ClusterError(f"Ray cannot be imported ({error}): install the extra aura[ray]") from error
    if address.startswith("ray://"):
        raise ClusterError(
            f"Ray Data does not run in a client of a cluster, which {address!r} asks for: run this on a machine of the "
            f"cluster, and set AURA_EMBEDDINGS__RAY_ADDRESS to auto"
        )
    if ray.is_initialized():
        yield
        return
    try:
        _check_answers(address)
        with _one_attempt():
            ray.init(address, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, ValueError, RuntimeError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address!r} ({' '.join(str(error).split())}): start one with "
            f"`ray start --head`, or unset AURA_EMBEDDINGS__RAY_ADDRESS"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise OSError where nothing listens, which Ray takes a quarter of an hour to find out."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    place = urlsplit(f"//{address}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), CONNECT_SECONDS).close()


@contextmanager
def _one_attempt() -> Iterator[None]:
    """Ray tries to connect once, which takes 40 s at most where something else answers, and not twenty times."""
    before = os.environ.get(_ATTEMPTS)
    os.environ.setdefault(_ATTEMPTS, "1")
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ATTEMPTS]


def _window(row: pa.Table, place: int) -> EncodedWindow:
    """What the stage gave for one window."""
    failure = row["failure"][0].as_py()
    if failure is not None:
        raise EncodingError(failure)
    if row["place"][0].as_py() != place:
        raise EncodingError(f"window {row['place'][0].as_py()} came back in the place of window {place}")
    batch = _content(row["content"][0])
    reasons = batch["reason"].to_pylist()
    model = EmbeddingModel(**json.loads(batch["model"][0].as_py()))
    flat = batch["vector"].combine_chunks().drop_null().flatten().to_numpy(zero_copy_only=False)
    vectors: Vectors = flat.astype(np.float32, copy=False).reshape(-1, model.dimension)
    return EncodedWindow(
        vectors=vectors,
        refused={place: reason for place, reason in enumerate(reasons) if reason is not None},
        model=model,
        **{name: int(batch[name][0].as_py()) for name in _COUNTS},
    )
