"""Texts to vectors with a sentence transformer or the text side of a joint model.

Belongs here: texts to windows of tokens, batches of similar length, what is cut off counted. Does not: where the files
are (`aura.embeddings.weights`), the networks (`aura.embeddings.towers`) and which items are new
(`aura.embeddings.incremental`).

Sentence-BERT: Reimers and Gurevych 2019, arXiv 1908.10084. Padding costs as much as text, so texts are sorted by their
number of tokens and a batch is bounded by the tokens it is padded to, not by a count of texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aura.embeddings.chunks import MAX_CHUNKS, Chunking, pooled
from aura.embeddings.encoder import (
    NO_DIRECTION,
    Device,
    DtypeSetting,
    Encoded,
    LongInputs,
    Progress,
    Vectors,
    resolve_device,
)
from aura.embeddings.errors import EncodingError
from aura.embeddings.network import NetworkEncoder, Undo, named_settings
from aura.embeddings.probes import texts as probe_texts
from aura.embeddings.threads import in_threads
from aura.embeddings.towers import SentenceTower, TextTower
from aura.embeddings.weights import HUB_TIMEOUT_S, locate_model

BATCH_TOKENS = {"cpu": 1024, "cuda": 16384}
"""Padded tokens in a batch: on a CPU the widest layer's output then stays in the cache of a core."""

OVERLAP_TOKENS = 32
"""What two windows of a long text share: about two sentences."""

SLAB_TEXTS = 4096
"""Texts whose tokens are in memory at the same time, and out of which batches of similar length are formed."""

MAX_TOKEN_CHARACTERS = 128
"""Characters that a token stands for at most, on the average of a long text: what lies beyond is not even read."""


def open_text_encoder(
    name_or_path: str | None = None,
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    device: Device = "auto",
    dtype: DtypeSetting = "auto",
    long_inputs: LongInputs = "chunk",
    overlap: int = OVERLAP_TOKENS,
    max_chunks: int = MAX_CHUNKS,
    batch_tokens: int | None = None,
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
        long_inputs: Whether texts beyond the limit are encoded in windows, or cut off.
        overlap: Tokens that two windows share.
        max_chunks: Windows of one text; the rest is cut off.
        batch_tokens: Padded tokens in one batch; None for what suits the device.
        max_tokens: Longest window in tokens, where it is to be shorter than the model's own limit.
        hub_timeout_s: Seconds that one request to the hub may take.

    Raises:
        ModelFilesError: the model is not there, or has no safetensors weights.
        HubUnavailableError: the hub does not give the model.
    """
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens is at least 1, got {max_tokens}")
    files = locate_model(name_or_path, revision=revision, cache_dir=cache_dir, hub_timeout_s=hub_timeout_s)
    chunking = Chunking(long_inputs, overlap, max_chunks)
    return TextEncoder(
        SentenceTower(files, device, max_tokens),
        chunking,
        settings=named_settings(modality="text", max_tokens=max_tokens, chunking=chunking),
        device=device,
        dtype=dtype,
        batch_tokens=batch_tokens,
    )


@dataclass
class _Windows:
    """Texts as windows of token ids.

    Attributes:
        ids: Token ids of each window, special tokens included.
        owners: The text of each window, counted without those that are refused.
        own: Tokens of each window that are not in the one before.
        truncated: Texts of which the end was cut off.
        chunked: Texts of more than one window.
    """

    ids: list[list[int]] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    own: list[int] = field(default_factory=list)
    truncated: int = 0
    chunked: int = 0


class TextEncoder(NetworkEncoder):
    """A text model that is loaded when the first text comes."""

    def __init__(
        self,
        tower: TextTower,
        chunking: Chunking,
        *,
        settings: str,
        device: Device = "auto",
        dtype: DtypeSetting = "auto",
        batch_tokens: int | None = None,
    ) -> None:
        if batch_tokens is not None and batch_tokens < 1:
            raise ValueError(f"batch_tokens is at least 1, got {batch_tokens}")
        super().__init__(tower.files, settings, device, dtype)
        self._tower = tower
        self._chunking = chunking
        self._batch_tokens = batch_tokens

    def encode(self, inputs: Sequence[str], progress: Progress | None = None) -> Encoded:
        """Encode texts.

        The same texts in the same order give the same bytes. The last bits of a vector may depend on the texts it
        shares a batch with where the network is padded; MiniLM, which is packed, showed no such difference.

        Args:
            inputs: Texts, empty ones included; what is no valid Unicode, has no tokens, or
                is given no usable vector by the model is refused.
            progress: Called with (done, total) texts.

        Raises:
            EncodingError: the model cannot be loaded or gives vectors that cannot be used.
        """
        parts = [np.empty((0, self.model.dimension), np.float32)]
        refused: dict[int, str] = {}
        tokens = truncated = chunked = 0
        for start in range(0, len(inputs), SLAB_TEXTS):
            slab = inputs[start : start + SLAB_TEXTS]
            windows, unusable = self._windows(slab)
            refused |= {start + position: reason for position, reason in unusable.items()}

            def done(count: int, before: int = start + len(unusable)) -> None:
                if progress is not None:
                    progress(before + count, len(inputs))

            vectors, usable = self._encode(windows, done)
            parts.append(vectors[usable])
            with_windows = [position for position in range(len(slab)) if position not in unusable]
            refused |= {start + with_windows[row]: NO_DIRECTION for row in np.flatnonzero(~usable)}
            tokens += sum(map(len, windows.ids))
            truncated, chunked = truncated + windows.truncated, chunked + windows.chunked
        return Encoded(np.concatenate(parts), refused, tokens, truncated, chunked)

    def _encode(self, windows: _Windows, done: Callable[[int], None]) -> tuple[Vectors, NDArray[np.bool_]]:
        """Vectors of texts, and which have one; `done` is told how many of them are complete."""
        if not windows.ids:
            return np.empty((0, self.model.dimension), np.float32), np.empty(0, np.bool_)
        vectors = np.empty((len(windows.ids), self.model.dimension), np.float32)
        owners = np.asarray(windows.owners)
        missing = np.bincount(owners)
        device = resolve_device(self._device)
        lengths = np.array([len(ids) for ids in windows.ids], np.int64)

        def take(batch: NDArray[np.int64], rows: Vectors) -> None:
            vectors[batch] = rows
            before = int((missing == 0).sum())
            np.subtract.at(missing, owners[batch], 1)
            complete = int((missing == 0).sum())
            if complete > before:
                done(complete)

        in_threads(
            lambda batch: self._tower.forward([windows.ids[i] for i in batch]),
            length_sorted_batches(lengths, self._batch_tokens or BATCH_TOKENS[device]),
            take,
            device=device,
        )
        return pooled(vectors, windows.owners, windows.own)

    def _windows(self, texts: Sequence[str]) -> tuple[_Windows, dict[int, str]]:
        """Windows of the texts, and why a text has none."""
        limit = self._tower.limit
        before, after = self._special_tokens
        room = None if limit is None else max(limit - len(before) - len(after), 1)
        prompt = self._tower.prompt
        (instruction,) = self._token_ids([prompt])
        refused = {i: reason for i, text in enumerate(texts) if (reason := _unusable(text))}
        usable = [i for i in range(len(texts)) if i not in refused]
        most = None if room is None else room * self._chunking.max_chunks * MAX_TOKEN_CHARACTERS
        windows = _Windows()
        for position, ids in zip(usable, self._token_ids([prompt + texts[i][:most] for i in usable]), strict=True):
            if not ids and not before and not after:
                refused[position] = "cannot be encoded: the text has no tokens"
                continue
            # Every window begins with the prompt, unless its last token has merged with the text's first.
            lead = instruction if ids[: len(instruction)] == instruction else []
            body = ids[len(lead) :]
            space = None if room is None else max(room - len(lead), 1)
            cuts = self._chunking.windows(len(body), space, int(self._chunking.overlap))
            owner = windows.owners[-1] + 1 if windows.owners else 0
            windows.ids += [[*before, *lead, *body[cut.start : cut.end], *after] for cut in cuts]
            windows.own += [cut.own for cut in cuts]
            windows.owners += [owner] * len(cuts)
            windows.chunked += len(cuts) > 1
            windows.truncated += cuts[-1].end < len(body) or (most is not None and len(texts[position]) > most)
        return windows, refused

    def _token_ids(self, texts: list[str], *, special: bool = False) -> list[list[int]]:
        if not texts:
            return []
        # What spells a special token in a text is text: CLIP would end there.
        tokenized = self._tower.tokenizer(
            texts,
            add_special_tokens=special,
            split_special_tokens=True,
            return_attention_mask=False,
            truncation=False,
            verbose=False,
        )
        ids: list[list[int]] = tokenized["input_ids"]
        return ids

    @cached_property
    def _special_tokens(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and after the tokens of a text."""
        (plain,), (framed,) = self._token_ids(["a"]), self._token_ids(["a"], special=True)
        for start in range(len(framed) - len(plain) + 1):
            if plain and framed[start : start + len(plain)] == plain:
                return framed[:start], framed[start + len(plain) :]
        raise EncodingError(
            f"model {self.name!r} has a tokenizer that does not keep the tokens of a text together: {plain} in {framed}"
        )

    def _probe(self) -> Vectors:
        windows, _ = self._windows(probe_texts())
        vectors: list[Vectors] = []
        batches = length_sorted_batches(np.array([len(ids) for ids in windows.ids], np.int64), BATCH_TOKENS["cpu"])
        in_threads(
            lambda batch: self._tower.forward([windows.ids[i] for i in batch]),
            batches,
            lambda _, rows: vectors.append(rows),
            device=resolve_device(self._device),
        )
        return np.concatenate(vectors)

    def _to_bfloat16(self) -> Undo:
        return self._tower.to_bfloat16()

    def _rearrange(self) -> Undo | None:
        return self._tower.rearrange()


def _unusable(text: str) -> str | None:
    """Why a text cannot be encoded; None if it can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"cannot be encoded: character {error.start} of the text is half of a surrogate pair, no valid Unicode"
    return None


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
