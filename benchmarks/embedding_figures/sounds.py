"""Whisper-tiny, Whisper-base and CLAP on spoken digits beside the plain loop over `transformers`.

The loop decodes and resamples up to 32 sounds and takes them together through extractor and network in float32. Both
sides pad to the window that the model was trained with. The networks have their real architecture and seeded weights:
the time does not depend on the weights. The sounds are the Free Spoken Digit Dataset, `fsdd` in the data directory.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from report import Figure, figure, tell
from scipy.signal import resample_poly

from aura.embeddings.audio import open_audio_encoder
from embedding_figures.sides import agreement, in_turns, throughput

SOUNDS = 16
PLAIN_BATCH = 32
GOAL = 2.0
WHISPERS = {"tiny": (384, 4, 6), "base": (512, 6, 8)}
"""Width, layers and heads of the encoder, from the paper's table of sizes (arXiv 2212.04356)."""


def save_whisper(directory: Path, size: str) -> None:
    """A Whisper of this size with seeded weights."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    torch.manual_seed(0)
    width, layers, heads = WHISPERS[size]
    config = WhisperConfig(
        d_model=width,
        encoder_layers=layers,
        encoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_layers=1,
        decoder_attention_heads=heads,
        decoder_ffn_dim=4 * width,
    )
    WhisperModel(config).save_pretrained(directory)
    WhisperFeatureExtractor().save_pretrained(directory)


def save_clap(directory: Path) -> None:
    """CLAP with seeded weights."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    torch.manual_seed(0)
    ClapModel(ClapConfig()).save_pretrained(directory)
    ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(directory)


MODELS = {
    "Whisper-tiny encoder (seeded weights)": lambda directory: save_whisper(directory, "tiny"),
    "Whisper-base encoder (seeded weights)": lambda directory: save_whisper(directory, "base"),
    "CLAP (seeded weights)": save_clap,
}


def spoken_digits(data: Path | None, count: int) -> list[bytes]:
    """Recordings spread over the data set; none where it is missing, which is said."""
    paths = sorted((data / "fsdd" / "recordings").glob("*.wav")) if data else []
    if not paths:
        tell("left out: no sounds in DATA/fsdd/recordings")
        return []
    chosen = np.linspace(0, len(paths) - 1, count).astype(int)
    return [paths[row].read_bytes() for row in chosen]


def figures(data: Path | None, runs: int) -> list[Figure]:
    """All rows about sounds, where there are any."""
    return measured("cpu", spoken_digits(data, SOUNDS), runs)


def measured(device: str, contents: list[bytes], runs: int, rate: float | None = None) -> list[Figure]:
    """Rows about these sounds on this device; `rate` in GFLOP/s adds the utilisation."""
    found: list[Figure] = []
    for name, save in MODELS.items() if contents else ():
        tell(f"{len(contents)} sounds, {name}, on {device}")
        with tempfile.TemporaryDirectory(prefix="aura-sounds-") as home:
            save(Path(home))
            ours = open_audio_encoder(home, device=device)
            plain = plain_loop(home, contents, device)
            sides = {"AURA": lambda ours=ours: ours.encode(contents).vectors, "transformers float32": plain}
            vectors = {side: call() for side, call in sides.items()}
            seconds = in_turns(sides, runs)
        what = f"{name} on {device}"
        found += throughput(what, seconds, len(contents), {"transformers float32": GOAL}, "sounds/s")
        found.append(agreement(what, vectors["AURA"], vectors["transformers float32"], "transformers float32"))
        if rate is not None:
            flops = plain.flops()
            reached = [flops * len(contents) / each / 1e9 / rate for each in seconds["AURA"]]
            found.append(figure(f"{what}, AURA, share of the rate of matrix products", reached, "share"))
    return found


class plain_loop:  # noqa: N801  used as a function
    """The loop of the library's documentation."""

    def __init__(self, directory: str, contents: list[bytes], device: str) -> None:
        from transformers import AutoFeatureExtractor, AutoModel

        self._contents, self._device = contents, device
        self._extractor = AutoFeatureExtractor.from_pretrained(directory)
        self._network = AutoModel.from_pretrained(directory, dtype=torch.float32).to(device).eval()

    def __call__(self) -> np.ndarray:
        """Vectors [n, d] of all sounds."""
        batches = range(0, len(self._contents), PLAIN_BATCH)
        return np.concatenate([self._vectors(self._contents[start:][:PLAIN_BATCH]) for start in batches])

    def flops(self) -> float:
        """Of one sound."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self._vectors(self._contents[:1])
        return float(counter.get_total_flops())

    def _vectors(self, contents: list[bytes]) -> np.ndarray:
        rate = self._extractor.sampling_rate
        sounds = []
        for content in contents:
            samples, own_rate = soundfile.read(io.BytesIO(content), dtype="float32")
            common = np.gcd(own_rate, rate)
            sounds.append(resample_poly(samples, rate // common, own_rate // common).astype(np.float32))
        features = self._extractor(sounds, sampling_rate=rate, return_tensors="pt")["input_features"].to(self._device)
        with torch.no_grad():
            if hasattr(self._network, "get_audio_features"):
                return self._network.get_audio_features(features).pooler_output.cpu().numpy()
            hidden = self._network.encoder(features).last_hidden_state
        counts = [-(-len(sound) * hidden.shape[1] // self._extractor.n_samples) for sound in sounds]
        return np.stack([states[:count].mean(0).cpu().numpy() for states, count in zip(hidden, counts, strict=True)])
