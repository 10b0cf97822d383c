"""Texts to vectors with a sentence transformer.

Belongs here: lazy loading, batches of similar length, truncation counted. Does not: where the files are
(`aura.embeddings.weights`) and which items are new (`aura.embeddings.incremental`).

Sentence-BERT: Reimers and Gurevych 2019, arXiv 1908.10084. Padding costs as much as text, so texts are sorted by their
number of tokens and a batch is bounded by the tokens it is padded to, not by a count of texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from aura.embeddings.encoder import (
    Device,
    DtypeSetting,
    Encoded,
    Precision,
    Progress,
    Vectors,
    check_weights,
    parity_holds,
    parity_sample,
    resolve_device,
    unit_length,
    wanted_precision,
)
from aura.embeddings.errors import EncodingError
from aura.embeddings.table import EmbeddingModel
from aura.embeddings.weights import HUB_TIMEOUT_S, ModelFiles, locate_model

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BATCH_TOKENS = 4096
"""Padded tokens in a batch: MiniLM on two cores with AMX is fastest at 2048 to 4096 and slower from 8192 on."""


def open_text_encoder(
    name_or_path: str | None = None,
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    device: Device = "auto",
    dtype: DtypeSetting = "auto",
    batch_tokens: int = BATCH_TOKENS,
    max_tokens: int | None = None,
    hub_timeout_s: float = HUB_TIMEOUT_S,
) -> TextEncoder:
    """Find a text model; its weights are loaded at the first encoding.

    Args:
        name_or_path: Hub name or directory of a sentence transformer; None or "minilm" for the packaged
            all-MiniLM-L6-v2.
        revision: Branch, tag or commit of a hub model.
        cache_dir: Where hub models are kept; None for the hub library's own place.
        device: "auto" is CUDA if present.
        dtype: "auto" is bfloat16 where the hardware has it and its vectors agree with float32.
        batch_tokens: Padded tokens in one batch.
        max_tokens: Longest text in tokens; None for the model's own limit.
        hub_timeout_s: Seconds that one request to the hub may take.

    Raises:
        ModelFilesError: the model is not there, or has no safetensors weights.
        HubUnavailableError: the hub does not give the model.
    """
    files = locate_model(name_or_path, revision=revision, cache_dir=cache_dir, hub_timeout_s=hub_timeout_s)
    return TextEncoder(files, device=device, dtype=dtype, batch_tokens=batch_tokens, max_tokens=max_tokens)


class TextEncoder:
    """A sentence transformer that is loaded when the first text comes."""

    def __init__(
        self,
        files: ModelFiles,
        *,
        device: Device = "auto",
        dtype: DtypeSetting = "auto",
        batch_tokens: int = BATCH_TOKENS,
        max_tokens: int | None = None,
    ) -> None:
        if batch_tokens < 1 or (max_tokens is not None and max_tokens < 1):
            raise ValueError(f"batch_tokens and max_tokens are at least 1, got {batch_tokens} and {max_tokens}")
        self._files = files
        self._device = device
        self._dtype = dtype
        self._batch_tokens = batch_tokens
        self._max_tokens = max_tokens
        self._precision: Precision = "float32"
        self._precision_is_settled = False
        self._parity_cosine: float | None = None

    @property
    def name(self) -> str:
        """What the user calls the model."""
        return self._files.name

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the model's files, the dtype setting and the longest text; the model is not loaded for it."""
        return self._files.digest(f"text dtype={self._dtype} max_tokens={self._max_tokens}")

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return "_network" in self.__dict__

    @property
    def model(self) -> EmbeddingModel:
        """Provenance; loads the model if it is not loaded yet, and is final after the first encoding."""
        return EmbeddingModel(
            name=self.name,
            fingerprint=self.fingerprint,
            revision=self._files.revision,
            dimension=int(self._network.get_embedding_dimension() or 0),
            dtype=self._precision,
            parity_cosine=self._parity_cosine,
        )

    def encode(self, inputs: Sequence[str], progress: Progress | None = None) -> Encoded:
        """Encode texts.

        The same texts in the same order give the same bytes; the last bits of a vector depend on the texts it
        shares a batch with (MiniLM: a component changes by up to 2e-7 in float32 and 2e-3 in bfloat16).

        Args:
            inputs: Texts; what exceeds the model's limit is cut off and counted.
            progress: Called with (done, total) texts after each batch.

        Raises:
            EncodingError: the model cannot be loaded or gives vectors that cannot be used.
        """
        if not inputs:
            return Encoded(np.empty((0, self.model.dimension), np.float32))
        full_lengths = self._token_counts(inputs)
        limit = self._network.max_seq_length
        lengths = np.minimum(full_lengths, limit) if limit is not None else full_lengths
        if not self._precision_is_settled:
            self._settle_precision([inputs[i] for i in parity_sample(len(inputs))])
        vectors = np.empty((len(inputs), self.model.dimension), np.float32)
        done = 0
        for batch in length_sorted_batches(lengths, self._batch_tokens):
            vectors[batch] = unit_length(self._forward([inputs[i] for i in batch]), self.name)
            done += len(batch)
            if progress is not None:
                progress(done, len(inputs))
        return Encoded(vectors, tokens=int(lengths.sum()), truncated=int((full_lengths > lengths).sum()))

    @cached_property
    def _network(self) -> SentenceTransformer:
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # type: ignore[no-untyped-call]
        self._check_backbone()
        try:
            network = SentenceTransformer(
                str(self._files.directory),
                device=resolve_device(self._device),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            )
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise EncodingError(f"model {self.name!r} in {self._files.directory} cannot be loaded: {error}") from error
        if self._max_tokens is not None:
            network.max_seq_length = self._max_tokens
        return network.eval()

    def _check_backbone(self) -> None:
        """Load the transformer once by itself: a sentence transformer does not tell which weights were missing."""
        import torch
        from transformers import AutoModel

        directory = self._files.directory / backbone_folder(self._files.directory)
        if not (directory / "config.json").is_file():
            return
        try:
            _, loading = AutoModel.from_pretrained(
                str(directory),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise EncodingError(f"model {self.name!r} in {directory} cannot be loaded: {error}") from error
        check_weights(loading["missing_keys"], self.name)

    def _token_counts(self, texts: Sequence[str]) -> NDArray[np.int64]:
        from transformers import PreTrainedTokenizerBase

        tokenizer = self._network.tokenizer
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise EncodingError(f"model {self.name!r} has no transformers tokenizer, but {type(tokenizer).__name__}")
        prompt = self._network.prompts.get(self._network.default_prompt_name or "") or ""
        tokenized = tokenizer([prompt + text for text in texts], return_attention_mask=False, verbose=False)
        return np.array([len(ids) for ids in tokenized["input_ids"]], np.int64)

    def _settle_precision(self, sample: list[str]) -> None:
        import torch

        if wanted_precision(self._dtype, self._network.device.type) == "bfloat16":
            reference = self._forward(sample)
            self._network.to(torch.bfloat16)
            holds, self._parity_cosine = parity_holds(reference, self._forward(sample), self.name)
            if holds:
                self._precision = "bfloat16"
            else:
                del self._network
        self._precision_is_settled = True

    def _forward(self, texts: list[str]) -> Vectors:
        vectors = self._network.encode(texts, batch_size=len(texts), show_progress_bar=False, convert_to_tensor=True)
        rows: Vectors = vectors.float().cpu().numpy()
        return rows


def backbone_folder(directory: Path) -> str:
    """The folder of the transformer inside a sentence transformer's directory."""
    modules = directory / "modules.json"
    return str(json.loads(modules.read_text())[0]["path"]) if modules.is_file() else ""


def length_sorted_batches(lengths: NDArray[np.int64], batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Split inputs into batches of similar length.

    Args:
        lengths: [n] tokens of each input.
        batch_tokens: Largest count of inputs times longest input of a batch; a longer single input is its own batch.

    Yields:
        Positions of the inputs of a batch, longest first; every position occurs once.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        end = start + max(batch_tokens // longest, 1)
        yield order[start:end]
        start = end
