"""What the encoders of all modalities share: a network that is loaded late, settled precision, provenance.

Belongs here: loading through `transformers`, the switch to bfloat16 and back. Does not: where the files are
(`aura.embeddings.weights`) and what a modality feeds its network.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from aura.embeddings.attention import use_in
from aura.embeddings.encoder import (
    Device,
    DtypeSetting,
    Precision,
    Vectors,
    check_weights,
    parity_holds,
    resolve_device,
    smallest_cosine,
    unit_rows,
    wanted_precision,
)
from aura.embeddings.errors import EncodingError
from aura.embeddings.table import EmbeddingModel
from aura.embeddings.weights import ModelFiles

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Undo = Callable[[], None]

LOADING_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError)
"""What the loading libraries raise for files that are damaged, or of another kind of model."""

MESSAGE_CHARACTERS = 240

MIN_REARRANGED = 0.99999
"""Smallest cosine between a network and its rearranged form in the same arithmetic."""

_log = logging.getLogger(__name__)


class PretrainedNetwork:
    """A network of `transformers`, loaded when it is first needed; encoders of several modalities may share one."""

    def __init__(self, files: ModelFiles, device: Device = "auto") -> None:
        self.files = files
        self._device = device

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return "_loaded" in self.__dict__

    @property
    def network(self) -> PreTrainedModel:
        """The network, in float32 as loaded; `to_bfloat16` changes parts of it in place."""
        return self._loaded[0]

    @property
    def has_pooler(self) -> bool:
        """Whether the checkpoint came with the weights of the pooling layer."""
        return self._loaded[1]

    @cached_property
    def _loaded(self) -> tuple[PreTrainedModel, bool]:
        network, lacks_pooler = load_network(self.files.directory, self.files.name)
        network.to(resolve_device(self._device))  # type: ignore[arg-type]
        return network, not lacks_pooler

    def tower(self, *prefixes: str) -> torch.nn.Module:
        """The parts that encode one modality; the whole network where none is called so.

        Args:
            prefixes: How the names of the parts begin.
        """
        import torch

        parts = [child for name, child in self.network.named_children() if name.startswith(prefixes)]
        return torch.nn.ModuleList(parts) if parts else self.network


def load_network(directory: Path, name: str) -> tuple[PreTrainedModel, bool]:
    """Load a network of `transformers` in float32 from safetensors, complete or not at all.

    Returns:
        The network, and whether it lacks the weights of its pooling layer.

    Raises:
        EncodingError: the files cannot be loaded, or lack weights.
    """
    import torch
    from transformers import AutoModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        network, loading = AutoModel.from_pretrained(
            str(directory),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except LOADING_ERRORS as error:
        raise EncodingError(f"model {name!r} in {directory} cannot be loaded: {in_brief(error)}") from error
    return network.eval(), check_weights(loading["missing_keys"], name)


def in_brief(error: Exception) -> str:
    """The beginning of a library's message: some list every model that there is."""
    message = " ".join(str(error).split()) or type(error).__name__
    return message if len(message) <= MESSAGE_CHARACTERS else f"{message[:MESSAGE_CHARACTERS]}..."


def to_bfloat16(module: torch.nn.Module) -> Undo:
    """Convert a module in place; what is returned puts the float32 numbers back, bit for bit."""
    import torch

    before = [(tensor, tensor.data) for tensor in (*module.parameters(), *module.buffers())]
    module.to(torch.bfloat16)
    attend_as_before = use_in(module)

    def undo() -> None:
        attend_as_before()
        for tensor, data in before:
            tensor.data = data

    return undo


@dataclass(frozen=True)
class Settled:
    """What a network was found to do well: the arithmetic, its parity, and how long its vectors are."""

    precision: Precision
    parity_cosine: float | None
    dimension: int


class NetworkEncoder(ABC):
    """Base of the encoders: a name, a fingerprint, and a network that settles its arithmetic when it is loaded.

    The arithmetic is chosen on fixed inputs (`aura.embeddings.probes`), not on the first ones that come, so that a
    model gives the same vectors in every process on the same hardware.
    """

    def __init__(self, files: ModelFiles, settings: str, device: Device, dtype: DtypeSetting) -> None:
        self._files = files
        self._settings = settings
        self._device = device
        self._dtype = dtype

    @property
    def name(self) -> str:
        """What the user calls the model."""
        return self._files.name

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the model's files and the settings that decide the vectors; the model is not loaded for it."""
        return self._files.digest(f"{self._settings} dtype={self._dtype}")

    @property
    def is_loaded(self) -> bool:
        """Whether the network is in memory and its arithmetic settled."""
        return "_settled" in self.__dict__

    @property
    def model(self) -> EmbeddingModel:
        """Provenance; loads the model if it is not loaded yet."""
        settled = self._settled
        return EmbeddingModel(
            name=self.name,
            fingerprint=self.fingerprint,
            revision=self._files.revision,
            dimension=settled.dimension,
            dtype=settled.precision,
            parity_cosine=settled.parity_cosine,
        )

    @abstractmethod
    def _probe(self) -> Vectors:
        """Vectors of the modality's fixed inputs, of any length; loads the network."""

    @abstractmethod
    def _to_bfloat16(self) -> Undo:
        """Go over to bfloat16."""

    def _rearrange(self) -> Undo | None:
        """Go over to a form that computes the same faster; None where there is none."""
        return None

    @cached_property
    def _settled(self) -> Settled:
        device = resolve_device(self._device)
        reference = self._probe()
        if not unit_rows(reference)[1].any():
            raise EncodingError(
                f"model {self.name!r} gives vectors that are zero or not finite for all of {len(reference)} ordinary "
                f"inputs; check its weights: save or download the model again"
            )
        parity: float | None = None
        if wanted_precision(self._dtype, device) == "bfloat16":
            undo = self._to_bfloat16()
            holds, parity = parity_holds(reference, self._probe(), self.name)
            if holds:
                return Settled("bfloat16", parity, reference.shape[1])
            undo()
        self._rearrange_if_equal(reference)
        return Settled("float32", parity, reference.shape[1])

    def _rearrange_if_equal(self, reference: Vectors) -> None:
        undo = self._rearrange()
        if undo is None:
            return
        cosine = smallest_cosine(reference, self._probe())
        if cosine < MIN_REARRANGED:
            _log.warning("model %s: its packed form differs (cosine %.6f); using the library's", self.name, cosine)
            undo()


def named_settings(**settings: object) -> str:
    """Settings in one string, for a fingerprint."""
    return " ".join(f"{name}={value}" for name, value in settings.items())
