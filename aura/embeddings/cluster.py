"""Windows of items encoded on a Ray cluster, for corpora beyond one machine.

Belongs here: the stage for Ray Data, and the way there and back. Does not: encoding (`aura.embeddings.windows`).

The stage is the encoder of this machine in an actor: the same windows give the same bytes on the same hardware. It can
be put into any Ray Data pipeline:

    ray.data.read_parquet("s3://corpus").map_batches(
        EncoderStage, fn_constructor_args=(EncoderRecipe(settings.embeddings, "text"),), batch_size=TEXTS,
        batch_format="pyarrow", num_gpus=1,
    )
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from aura.embeddings.encoder import Encoder, Vectors
from aura.embeddings.errors import ClusterError, EncodingError
from aura.embeddings.opening import Encoders
from aura.embeddings.spaces import PublishedSpace
from aura.embeddings.table import EmbeddingModel
from aura.embeddings.windows import EncodedWindow, Read, encode_window
from aura.settings_sections import EmbeddingSettings

if TYPE_CHECKING:
    from ray.data import Dataset

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
            items: Columns item_id, uri, and text where there is no `read`.

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


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that encodes.

    Attributes:
        address: `auto` for the one that this machine belongs to, host:port, or ray://host:port.
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
                for batch in self._stage(windows, recipe, read).iter_batches(batch_size=None, batch_format="pyarrow"):
                    yield _window(batch)
            except ray.exceptions.RayError as error:
                raise ClusterError(f"encoding on the Ray cluster {self.address!r} failed: {error}") from error

    def _stage(self, windows: list[pa.Table], recipe: EncoderRecipe, read: Read | None) -> Dataset:
        """One block per window, in their order."""
        import ray.data

        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = self.num_gpus if resources.get("GPU", 0) >= self.num_gpus else 0
        actors = int(resources["GPU"] // gpus) if gpus else int(resources.get("CPU", 1))
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        wanted = ["item_id", "uri", *(["text"] if read is None else [])]
        return ray.data.from_arrow([window.select(wanted) for window in windows]).map_batches(
            EncoderStage,
            fn_constructor_args=(recipe, read),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=None if gpus else 1,
            num_gpus=gpus or None,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(actors, len(windows))),
        )


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """This process as a driver of the cluster; a connection that is there already is used, and left."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ClusterError(f"Ray cannot be imported ({error}): install the extra aura[ray]") from error
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address!r} ({str(error).splitlines()[0]}): start one with `ray start --head`, "
            f"or unset AURA_EMBEDDINGS__RAY_ADDRESS"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _window(batch: pa.Table) -> EncodedWindow:
    """What the stage gave for one window."""
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
