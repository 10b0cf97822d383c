"""Expert weights as objects of the tiered store: one for each expert of each layer, and one that describes the model.

Belongs here: keys, writing once, reading, removing. Does not: inference (`runtime`), what moves between tiers.

The objects of an expert are named arrays, so the tiers hand them out as views. The description is written last and
removed first: who is killed on the way leaves a model that is not there, and objects that the next `put` or `remove` of
the same name takes away. Objects are never changed while a description names them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, unquote

import numpy as np
import xxhash
from filelock import FileLock, Timeout

from aura.experts.offload.errors import ModelFilesError, NameTakenError, OffloadError, UnknownModelError
from aura.tiers.blocks import content_version, rough_bytes
from aura.tiers.places import EXPERTS
from aura.tiers.records import Entry, Tier
from aura.tiers.store import TieredStore
from aura.tiers.values import Part

if TYPE_CHECKING:
    from aura.experts.offload.kernel import Weights

WRITE_BYTES = 32 << 20
"""Experts are written in batches of about this size."""
LOCK_SECONDS = 600.0
"""Longest wait for another process that puts or removes a model."""


@dataclass(frozen=True, slots=True)
class ExpertModel:
    """What a description says.

    Attributes:
        name: Name of the model in the store.
        source: Its directory, which holds everything but the experts.
        fingerprint: Of the directory's files when the experts were taken from them.
        digest: XXH3-128 over the weights of all experts.
        layer_digests: The same of each layer.
        experts: Number of experts in each layer.
        dtypes: By name of a tensor, its dtype, which numpy may lack.
        bytes: Of all objects.
    """

    name: str
    source: str
    fingerprint: str
    digest: str
    layer_digests: tuple[str, ...]
    experts: tuple[int, ...]
    dtypes: dict[str, str]
    bytes: int

    @property
    def layers(self) -> int:
        """Number of layers with experts."""
        return len(self.experts)

    @property
    def keys(self) -> list[str]:
        """Keys of all experts, in order."""
        return [
            expert_key(self.name, layer, expert) for layer, count in enumerate(self.experts) for expert in range(count)
        ]


def model_key(name: str) -> str:
    """Key of a model's description.

    Raises:
        ValueError: The name is empty.
    """
    if not name:
        raise ValueError("the name of a model is not empty")
    return f"{EXPERTS}{quote(name, safe='')}"


def expert_key(name: str, layer: int, expert: int) -> str:
    """Key of one expert."""
    return f"{model_key(name)}/{layer:03d}/{expert:04d}"


class ExpertStore:
    """The experts of any number of models in a tiered store, which stays the caller's to close."""

    def __init__(self, store: TieredStore) -> None:
        self.store = store

    def put(
        self,
        directory: Path,
        name: str | None = None,
        *,
        tell: Callable[[str, float], None] = lambda _said, _part: None,
    ) -> ExpertModel:
        """Take the experts of a model directory into the store, one layer in memory at a time, durable and verified.

        What is there already is not written again.

        Args:
            directory: A model of `transformers` with safetensors files.
            name: Name in the store; None takes that of the directory.
            tell: Is told of each layer, and of the part of all that has been taken.

        Raises:
            ModelFilesError: The directory is no model with experts.
            NameTakenError: Experts with other weights are there under this name.
            OffloadError: Another process has been changing experts for too long.
            StoreError: The store failed; then the model is not there, or as before.
        """
        from aura.experts.offload.checkpoint import fingerprint, read_layers
        from aura.experts.offload.layout import dtype_name, expert_weights, to_arrays

        directory = directory.resolve()
        name = name or directory.name
        before_reading = fingerprint(directory)
        with self._changing():
            known = self._find(name)
            there = self._keys(name)
            if known is None and there:
                self.store.write({}, there)
                there = set()
            digests: list[str] = []
            counts: list[int] = []
            dtypes: dict[str, str] = {}
            for number, (layer, part_read) in enumerate(read_layers(directory)):
                weights = [expert_weights(layer.module, expert) for expert in range(layer.experts)]
                parts: dict[str, Part] = {
                    expert_key(name, number, expert): to_arrays(own) for expert, own in enumerate(weights)
                }
                dtypes |= {tensor: dtype_name(kept.dtype) for tensor, kept in weights[0].items()}
                counts.append(layer.experts)
                digests.append(content_version({key.rpartition("/")[2]: [part] for key, part in parts.items()})[0])
                if known is not None and known.layer_digests[number : number + 1] != (digests[-1],):
                    raise _taken(known)
                if not parts.keys() <= there:
                    self._write(parts)
                size = rough_bytes(next(iter(parts.values())))
                tell(f"layer {number}: {layer.experts} experts of {size:,} bytes", part_read)
                del weights, parts
            if known is not None and len(known.layer_digests) > len(digests):
                raise _taken(known)
            if fingerprint(directory) != before_reading:
                raise ModelFilesError(f"{directory} changed while it was read; put it again")
            digest = xxhash.xxh3_128_hexdigest("".join(digests).encode())
            sizes = {entry.key: entry.bytes for entry in self.store.entries(f"{model_key(name)}/")}
            model = ExpertModel(
                name=name,
                source=str(directory),
                fingerprint=before_reading,
                digest=digest,
                layer_digests=tuple(digests),
                experts=tuple(counts),
                dtypes=dtypes,
                bytes=sum(sizes.values()),
            )
            self.store.time_gets(model.keys, Tier.L3)  # reads and verifies every one, and logs no access
            if model != known:
                self.store.write({model_key(name): json.dumps(asdict(model), sort_keys=True).encode()})
        return model

    def models(self) -> list[ExpertModel]:
        """The models that are there, by name."""
        keys = [entry.key for entry in self.store.entries(EXPERTS) if entry.key.count("/") == EXPERTS.count("/")]
        found = (self._find(unquote(key.removeprefix(EXPERTS))) for key in keys)
        return sorted((model for model in found if model is not None), key=lambda model: model.name)

    def model(self, name: str) -> ExpertModel:
        """What is known of a model.

        Raises:
            UnknownModelError: It is not there.
        """
        model = self._find(name)
        if model is None:
            names = ", ".join(known.name for known in self.models()) or "none"
            raise UnknownModelError(
                f"no model {name!r} has its experts in the store; there are: {names}. `aura experts put` takes them in"
            )
        return model

    def entries(self, name: str) -> list[Entry]:
        """The objects of a model's experts, with their sizes and tiers, in order of the layers."""
        return self.store.entries(f"{model_key(name)}/")

    def remove(self, name: str) -> int:
        """Take a model out, what a killed process left of it included, in one durable batch.

        Returns:
            Number of experts that were removed.

        Raises:
            UnknownModelError: There is nothing under this name.
            OffloadError: Another process has been changing experts for too long.
        """
        with self._changing():
            there = self._keys(name)
            if not there and not self.store.contains(model_key(name)):
                self.model(name)
            self.store.write({}, [model_key(name), *there])
        return len(there)

    def _write(self, parts: Mapping[str, Part]) -> None:
        batch: dict[str, Part] = {}
        size = 0
        for key, part in parts.items():
            batch[key] = part
            size += rough_bytes(part)
            if size >= WRITE_BYTES:
                self.store.write(batch)
                batch, size = {}, 0
        if batch:
            self.store.write(batch)

    def _find(self, name: str) -> ExpertModel | None:
        if not self.store.contains(model_key(name)):
            return None
        fields = json.loads(cast("bytes", self.store.get(model_key(name))))
        fields["layer_digests"], fields["experts"] = tuple(fields["layer_digests"]), tuple(fields["experts"])
        return ExpertModel(**fields)

    def _keys(self, name: str) -> set[str]:
        return {entry.key for entry in self.entries(name)}

    @contextmanager
    def _changing(self) -> Iterator[None]:
        lock = self.store.directory / "experts.lock"
        try:
            with FileLock(lock, timeout=LOCK_SECONDS):
                yield
        except Timeout as error:
            raise OffloadError(
                f"another process has been changing experts for over {LOCK_SECONDS:.0f} s; wait for it or end it (it"
                f" holds {lock})"
            ) from error


def _taken(known: ExpertModel) -> NameTakenError:
    return NameTakenError(
        f"other experts are in the store as {known.name!r}, from {known.source}: give another name, or remove them"
        f" first (`aura experts remove {known.name}`)"
    )


def weights_of(part: Part, dtypes: Mapping[str, str]) -> Weights:
    """An expert's object as tensors that are views of it, where numpy has the dtype or not."""
    from aura.experts.offload.layout import from_array, named_dtype

    arrays = cast("Mapping[str, np.ndarray]", part)
    return {name: from_array(array, named_dtype(dtypes[name])) for name, array in arrays.items()}
