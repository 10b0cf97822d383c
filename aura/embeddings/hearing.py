"""The networks behind the audio encoder: Whisper's encoder, CLAP, and models of the wave such as wav2vec 2.0.

Belongs here: samples to features to vectors, per kind of network. Does not: decoding, windows, batches
(`aura.embeddings.audio`).

Whisper: Radford et al. 2022, arXiv 2212.04356. CLAP: Wu et al. 2022, arXiv 2211.06687. wav2vec 2.0: Baevski et al.
2020, arXiv 2006.11477.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from aura.embeddings.errors import EncodingError
from aura.embeddings.sound import Samples

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, SequenceFeatureExtractor

WAVE_SECONDS = 30
"""Window of the models that take a wave of any length; their attention grows with its square."""

WAVE_MIN_SECONDS = 0.1
"""What is shorter is padded with silence to this: the first layers of these models need 25 ms."""

MEL_FLOOR = 1e-10
"""Smallest power of a band, that of the library."""


class Hearing(Protocol):
    """A network that gives sounds a vector."""

    @property
    def window(self) -> int:
        """Samples of the longest sound."""
        ...

    @property
    def module(self) -> torch.nn.Module:
        """The parts that compute."""
        ...

    def vectors(self, sounds: Sequence[Samples]) -> Tensor:
        """Vectors [n, d], of any length, of sounds no longer than the window."""
        ...


def hearing(network: PreTrainedModel, extractor: SequenceFeatureExtractor, name: str) -> Hearing:
    """The way in which this network is asked.

    Args:
        network: A model of `transformers`.
        extractor: Its feature extractor.
        name: Name of the model.

    Raises:
        EncodingError: it is no audio model.
    """
    if network.config.model_type == "whisper":
        return WhisperHearing(network, extractor)
    if hasattr(network, "get_audio_features"):
        return ClapHearing(network, extractor)
    if network.main_input_name == "input_values":
        return WaveHearing(network, extractor)
    raise EncodingError(
        f"model {name!r} ({type(network).__name__}) does not encode sounds; name an audio model, such as Whisper, CLAP "
        f"or wav2vec 2.0"
    )


class WhisperHearing:
    """The mean of the encoder's hidden states over the frames that hold sound.

    All sounds are padded to the window, as in training: the encoder attends to the silence, and without it the states
    of the sound differ.
    """

    def __init__(self, network: PreTrainedModel, extractor: SequenceFeatureExtractor) -> None:
        import torch

        # Only the encoder listens; the decoder, more than half of the weights, is given back.
        network.decoder = torch.nn.Identity()
        self._extractor = cast("Any", extractor)
        self._encoder = cast("torch.nn.Module", network.encoder)
        self._positions = int(network.config.max_source_positions)

    @property
    def window(self) -> int:
        """Samples of the longest sound."""
        return int(self._extractor.n_samples)

    @property
    def module(self) -> torch.nn.Module:
        """The encoder."""
        return self._encoder

    def vectors(self, sounds: Sequence[Samples]) -> Tensor:
        """Mean hidden states."""
        import torch

        hidden = self._encoder(_features(self._extractor, sounds, self._encoder)).last_hidden_state.float()
        counts = [max(1, -(-len(sound) * self._positions // self.window)) for sound in sounds]
        return torch.stack([states[:count].mean(dim=0) for states, count in zip(hidden, counts, strict=True)])


class ClapHearing:
    """The projected features of CLAP; short sounds are repeated to the window, as in training."""

    def __init__(self, network: PreTrainedModel, extractor: SequenceFeatureExtractor) -> None:
        import torch

        self._network = cast("Any", network)
        self._extractor = cast("Any", extractor)
        self._extractor._np_extract_fbank_features = partial(_log_mel, self._extractor)  # noqa: SLF001
        self._module = torch.nn.ModuleList([self._network.audio_model, self._network.audio_projection])

    @property
    def window(self) -> int:
        """Samples of the longest sound."""
        return int(self._extractor.nb_max_samples)

    @property
    def module(self) -> torch.nn.Module:
        """The audio side."""
        return self._module

    def vectors(self, sounds: Sequence[Samples]) -> Tensor:
        """Projected features."""
        import torch

        features = _features(self._extractor, sounds, self._module)
        # The extractor calls a sound at random longer than the window where none is; none of these is.
        is_longer = torch.zeros((len(sounds), 1), dtype=torch.bool, device=features.device)
        return cast("Tensor", self._network.get_audio_features(features, is_longer=is_longer).pooler_output)


class WaveHearing:
    """The mean of the hidden states of a model that takes the wave itself; each sound alone, without padding."""

    def __init__(self, network: PreTrainedModel, extractor: SequenceFeatureExtractor) -> None:
        self._network = network
        self._extractor = cast("Any", extractor)

    @property
    def window(self) -> int:
        """Samples of the longest sound."""
        return WAVE_SECONDS * int(self._extractor.sampling_rate)

    @property
    def module(self) -> torch.nn.Module:
        """The whole network."""
        return self._network

    def vectors(self, sounds: Sequence[Samples]) -> Tensor:
        """Mean hidden states."""
        import torch

        shortest = int(WAVE_MIN_SECONDS * self._extractor.sampling_rate)
        means = []
        for sound in sounds:
            long_enough = np.pad(sound, (0, max(0, shortest - len(sound))))
            hidden = self._network(_features(self._extractor, [long_enough], self._network)).last_hidden_state
            means.append(hidden.float().mean(dim=1))
        return torch.cat(means)


def _log_mel(extractor: Any, wave: Samples, filters: NDArray[np.float64]) -> NDArray[np.float32]:  # noqa: ANN401
    """The spectrogram [frames, bands] in decibels that CLAP's extractor makes, all frames at once.

    The extractor goes frame by frame through Python, which was a third of the time of CLAP in bfloat16.
    """
    from transformers.audio_utils import power_to_db, window_function

    size, hop = extractor.fft_window_size, extractor.hop_length
    padded = np.pad(wave.astype(np.float64), size // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    spectrum = np.fft.rfft(frames * window_function(size, "hann"))
    power = (spectrum.real**2 + spectrum.imag**2) @ filters
    return cast("NDArray[np.float32]", power_to_db(np.maximum(power, MEL_FLOOR)).astype(np.float32))


def _features(extractor: Any, sounds: Sequence[Samples], module: torch.nn.Module) -> Tensor:  # noqa: ANN401
    """What the extractor makes of sounds, where and as what the network computes."""
    extracted = extractor(list(sounds), sampling_rate=extractor.sampling_rate, return_tensors="pt")
    parameter = next(module.parameters())
    features = extracted["input_features"] if "input_features" in extracted else extracted["input_values"]
    return cast("Tensor", features.to(parameter.device, parameter.dtype))
