"""Sounds to vectors with an audio model: Whisper's encoder, CLAP and their like.

Belongs here: decoding in parallel with computing, windows of long sounds. Does not: where the files are
(`aura.embeddings.weights`), the networks (`aura.embeddings.hearing`) and which items are new
(`aura.embeddings.incremental`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

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
from aura.embeddings.errors import EncodingError, UnreadableSoundError
from aura.embeddings.hearing import Hearing, hearing
from aura.embeddings.network import (
    LOADING_ERRORS,
    NetworkEncoder,
    PretrainedNetwork,
    Undo,
    in_brief,
    named_settings,
    to_bfloat16,
)
from aura.embeddings.probes import sounds as probe_sounds
from aura.embeddings.sound import Samples, decode_sound
from aura.embeddings.threads import in_threads
from aura.embeddings.weights import HUB_TIMEOUT_S, locate_model

if TYPE_CHECKING:
    from transformers import SequenceFeatureExtractor

BATCH_SOUNDS = {"cpu": 4, "cuda": 32}
"""Windows in a batch: one of Whisper is 1,500 positions."""

OVERLAP_SECONDS = 1.0
"""What two windows of a long sound share: a spoken word."""


def open_audio_encoder(
    name_or_path: str | None,
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    device: Device = "auto",
    dtype: DtypeSetting = "auto",
    long_inputs: LongInputs = "chunk",
    overlap_s: float = OVERLAP_SECONDS,
    max_chunks: int = MAX_CHUNKS,
    batch_sounds: int | None = None,
    hub_timeout_s: float = HUB_TIMEOUT_S,
) -> AudioEncoder | None:
    """Find an audio model; its weights are loaded at the first encoding.

    Args:
        name_or_path: Hub name or directory; None means that no weights are configured.
        revision: Branch, tag or commit of a hub model.
        cache_dir: Where hub models are kept; None for the hub library's own place.
        device: "auto" is CUDA if present.
        dtype: "auto" is bfloat16 where the hardware has it and its vectors agree with float32.
        long_inputs: Whether sounds beyond the model's window are encoded in several, or cut off.
        overlap_s: Seconds that two windows share.
        max_chunks: Windows of one sound; the rest is cut off.
        batch_sounds: Windows in one batch; None for what suits the device.
        hub_timeout_s: Seconds that one request to the hub may take.

    Returns:
        The encoder, or None where no weights are configured.

    Raises:
        ModelFilesError: the model is not there, or has no safetensors weights.
        HubUnavailableError: the hub does not give the model.
    """
    if name_or_path is None:
        return None
    files = locate_model(name_or_path, revision=revision, cache_dir=cache_dir, hub_timeout_s=hub_timeout_s)
    chunking = Chunking(long_inputs, overlap_s, max_chunks)
    return AudioEncoder(
        PretrainedNetwork(files, device),
        chunking,
        settings=named_settings(modality="audio", chunking=chunking),
        device=device,
        dtype=dtype,
        batch_sounds=batch_sounds,
    )


@dataclass
class _Heard:
    """What has become of a batch of sounds."""

    vectors: Vectors | None = None
    refused: dict[int, str] = field(default_factory=dict)
    truncated: int = 0
    chunked: int = 0


class AudioEncoder(NetworkEncoder):
    """An audio model that is loaded when the first sound comes."""

    def __init__(
        self,
        pretrained: PretrainedNetwork,
        chunking: Chunking,
        *,
        settings: str,
        device: Device = "auto",
        dtype: DtypeSetting = "auto",
        batch_sounds: int | None = None,
    ) -> None:
        if batch_sounds is not None and batch_sounds < 1:
            raise ValueError(f"batch_sounds is at least 1, got {batch_sounds}")
        super().__init__(pretrained.files, settings, device, dtype)
        self._pretrained = pretrained
        self._chunking = chunking
        self._batch_sounds = batch_sounds

    def encode(self, inputs: Sequence[bytes], progress: Progress | None = None) -> Encoded:
        """Encode sounds; the same sounds in the same order give the same bytes.

        Args:
            inputs: Sounds as WAV, FLAC or whatever else libsndfile reads; what cannot be decoded is refused, and so
                is what the model gives no usable vector.
            progress: Called with (done, total) sounds after each batch.

        Raises:
            EncodingError: the model cannot be loaded or gives vectors that cannot be used.
        """
        parts = [np.empty((0, self.model.dimension), np.float32)]
        total = _Heard()
        device = resolve_device(self._device)
        size = self._batch_sounds or BATCH_SOUNDS[device]
        batches = [range(start, min(start + size, len(inputs))) for start in range(0, len(inputs), size)]

        def take(batch: range, heard: _Heard) -> None:
            if heard.vectors is not None:
                parts.append(heard.vectors)
            total.refused |= heard.refused
            total.truncated += heard.truncated
            total.chunked += heard.chunked
            if progress is not None:
                progress(batch.stop, len(inputs))

        in_threads(lambda batch: self._hear(inputs, batch, size), batches, take, device=device)
        return Encoded(np.concatenate(parts), total.refused, truncated=total.truncated, chunked=total.chunked)

    def _hear(self, inputs: Sequence[bytes], batch: range, size: int) -> _Heard:
        """Decode sounds, cut them into windows, and encode `size` windows at a time."""
        heard = _Heard()
        windows: list[Samples] = []
        owners: list[int] = []
        own: list[int] = []
        for position in batch:
            try:
                samples = decode_sound(inputs[position], self._rate)
            except UnreadableSoundError as error:
                heard.refused[position] = str(error)
                continue
            overlap = round(self._chunking.overlap * self._rate)
            cuts = self._chunking.windows(len(samples), self._hearing.window, overlap)
            owners += [owners[-1] + 1 if owners else 0] * len(cuts)
            own += [cut.own for cut in cuts]
            windows += [samples[cut.start : cut.end] for cut in cuts]
            heard.chunked += len(cuts) > 1
            heard.truncated += cuts[-1].end < len(samples)
        if windows:
            vectors = [self._forward(windows[start : start + size]) for start in range(0, len(windows), size)]
            found, usable = pooled(np.concatenate(vectors), owners, own)
            readable = [position for position in batch if position not in heard.refused]
            heard.refused |= {readable[row]: NO_DIRECTION for row in np.flatnonzero(~usable)}
            heard.vectors = found[usable]
        return heard

    @property
    def _rate(self) -> int:
        return int(self._extractor.sampling_rate)

    @cached_property
    def _extractor(self) -> SequenceFeatureExtractor:
        from transformers import AutoFeatureExtractor

        directory = self._files.directory
        remedy = "name an audio model, such as Whisper, CLAP or wav2vec 2.0, in a directory that holds its extractor"
        try:
            extractor = AutoFeatureExtractor.from_pretrained(  # type: ignore[no-untyped-call]
                str(directory), local_files_only=True, trust_remote_code=False
            )
        except LOADING_ERRORS as error:
            raise EncodingError(
                f"model {self.name!r} has no feature extractor for sounds that can be loaded from {directory}: "
                f"{in_brief(error)}; {remedy}"
            ) from error
        if not hasattr(extractor, "sampling_rate"):
            raise EncodingError(
                f"model {self.name!r} extracts no features of sounds, but has a {type(extractor).__name__}; {remedy}"
            )
        return cast("SequenceFeatureExtractor", extractor)

    @cached_property
    def _hearing(self) -> Hearing:
        extractor = self._extractor
        return hearing(self._pretrained.network, extractor, self.name)

    def _probe(self) -> Vectors:
        vectors: list[Vectors] = []
        batches = [[sound[: self._hearing.window]] for sound in probe_sounds(self._rate)]
        device = resolve_device(self._device)
        in_threads(self._forward, batches, lambda _, rows: vectors.append(rows), device=device)
        return np.concatenate(vectors)

    def _to_bfloat16(self) -> Undo:
        return to_bfloat16(self._hearing.module)

    def _forward(self, sounds: Sequence[Samples]) -> Vectors:
        rows: Vectors = self._hearing.vectors(sounds).float().cpu().numpy()
        return rows
