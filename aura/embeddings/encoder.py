"""What an encoder is: the port between `aura.embeddings.incremental` and the models.

Belongs here: the protocols, what an encoding returns, and the choice of arithmetic that every model shares. Does not:
the models themselves (`aura.embeddings.text`, `aura.embeddings.image`, `aura.embeddings.audio`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from aura.embeddings.errors import EncodingError
from aura.embeddings.table import EmbeddingModel

Device = Literal["auto", "cpu", "cuda"]
DtypeSetting = Literal["auto", "float32", "bfloat16"]
Precision = Literal["float32", "bfloat16"]
LongInputs = Literal["chunk", "truncate"]
Progress = Callable[[int, int], None]
Vectors = NDArray[np.float32]

NO_DIRECTION = "cannot be encoded: its vector is zero or not finite; check the input, or set the dtype to float32"
"""Why an input is refused of which the model makes nothing that can be compared."""

MIN_PARITY = 0.999
"""Smallest cosine between the bfloat16 and the float32 vector of an input at which bfloat16 is used."""

_log = logging.getLogger(__name__)

Content_contra = TypeVar("Content_contra", contravariant=True)


@dataclass(frozen=True)
class Encoded:
    """The vectors of a sequence of inputs.

    Attributes:
        vectors: [m, d] float32 of length 1, one per input that is not refused, in input order.
        refused: Why an input has no vector, by its position.
        tokens: Tokens that went through the model, padding not counted; 0 where there are none.
        truncated: Inputs of which the end was cut off, since they are longer than what is encoded of one input.
        chunked: Inputs longer than the model's limit that were encoded in more than one window.
    """

    vectors: Vectors
    refused: Mapping[int, str] = field(default_factory=dict)
    tokens: int = 0
    truncated: int = 0
    chunked: int = 0


class Encoder(Protocol[Content_contra]):
    """A model that turns inputs into unit vectors."""

    @property
    def name(self) -> str:
        """What the user calls the model."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest of everything that decides the vectors; known without loading the model."""
        ...

    @property
    def model(self) -> EmbeddingModel:
        """Provenance; loads the model if it is not loaded yet."""
        ...

    def encode(self, inputs: Sequence[Content_contra], progress: Progress | None = None) -> Encoded:
        """Encode inputs; loads the model at the first call.

        Args:
            inputs: What the model takes, in any order.
            progress: Called with (done, total) inputs.

        Raises:
            EncodingError: the model cannot be loaded or gives vectors that cannot be used.
        """
        ...


class SharedSpace(Protocol):
    """Encoders of several modalities whose vectors can be compared with each other."""

    @property
    def name(self) -> str:
        """What the user calls the model."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest of everything that decides the vectors, the same for all its encoders."""
        ...

    @property
    def modalities(self) -> tuple[str, ...]:
        """What can be encoded: "text", "image", "audio"."""
        ...

    def encoder(self, modality: str) -> Encoder[Any]:
        """The encoder of one modality: of `str` for texts, of `bytes` for the others.

        Raises:
            EncodingError: the space does not have the modality.
        """
        ...


def resolve_device(device: Device) -> str:
    """The torch device that a setting means on this machine.

    Raises:
        EncodingError: CUDA is asked for and there is none.
    """
    import torch

    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise EncodingError("the device 'cuda' is asked for and torch finds none; set the device to 'auto' or 'cpu'")
    return "cuda"


def wanted_precision(setting: DtypeSetting, device: str) -> Precision:
    """The arithmetic to try first: "auto" is bfloat16 where the hardware multiplies in it.

    On a CPU that is AMX or AVX512-BF16: elsewhere bfloat16 is emulated and slower than float32.

    Raises:
        EncodingError: bfloat16 is asked for on hardware without it.
    """
    import torch

    if device == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        native = bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    if setting == "bfloat16" and not native:
        raise EncodingError(f"bfloat16 is asked for and this {device} has none; set the dtype to 'auto' or 'float32'")
    return "bfloat16" if native and setting != "float32" else "float32"


def check_weights(missing: Collection[str], name: str) -> bool:
    """Refuse a checkpoint that lacks weights, which the loading library would replace by random numbers.

    Args:
        missing: Names of the parameters that the checkpoint does not have.
        name: Name of the model.

    Returns:
        Whether the pooling layer is missing, which many checkpoints leave out and nobody has to use.

    Raises:
        EncodingError: anything else is missing.
    """
    others = sorted(key for key in missing if not key.startswith("pooler."))
    if others:
        raise EncodingError(
            f"model {name!r} lacks {len(others)} of its weights, the first is {others[0]!r}; they would be random: "
            f"save or download the model again"
        )
    return bool(missing)


def parity_holds(reference: Vectors, candidate: Vectors, name: str) -> tuple[bool, float]:
    """Compare vectors of the same inputs, of any length, row by row.

    Returns:
        Whether the smallest cosine reaches `MIN_PARITY`, and that cosine; a candidate without a direction has 0.
    """
    smallest = smallest_cosine(reference, candidate)
    if smallest < MIN_PARITY:
        _log.warning(
            "model %s loses accuracy in bfloat16 (smallest cosine to float32 %.5f, expected at least %s); "
            "using float32",
            name,
            smallest,
            MIN_PARITY,
        )
    return smallest >= MIN_PARITY, smallest


def smallest_cosine(reference: Vectors, candidate: Vectors) -> float:
    """Smallest cosine between the vectors of the same inputs, of any length.

    Inputs whose reference has no direction are left out, since nothing can be compared with them; a candidate without
    one has 0, and so has a reference in which no input has one.
    """
    norms = _norms(reference)
    rows = np.isfinite(norms) & (norms > 0)
    if not rows.any():
        return 0.0
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        dots = np.einsum("nd,nd->n", reference[rows], candidate[rows], dtype=np.float64)
        cosines = dots / (norms[rows] * _norms(candidate[rows]))
    return float(np.where(np.isfinite(cosines), cosines, 0.0).min())


def _norms(vectors: Vectors) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    return norms


def unit_rows(vectors: Vectors) -> tuple[Vectors, NDArray[np.bool_]]:
    """Scale the rows of a model's output to L2 length 1.

    Returns:
        The rows [n, d], and which of them [n] have a direction: the others are zero or not finite, and come back as
        zeros.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        norms = np.linalg.norm(vectors, axis=1)
    directed: NDArray[np.bool_] = np.isfinite(norms) & (norms > 0)
    unit = np.zeros_like(vectors)
    np.divide(vectors, norms[:, None], out=unit, where=directed[:, None])
    return unit, directed
