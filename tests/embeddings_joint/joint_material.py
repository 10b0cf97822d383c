"""Items for joint models: the real digit images, their names, and short melodies as their sounds.

Every digit has a melody of its own, played by several "speakers" at their own pitch; wave files of 8 kHz.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile

from aura.corpus.digits import DigitsSource
from aura.corpus.manifest import OK
from aura.corpus.rows import content_id
from aura.embeddings.joint.config import JointConfig
from aura.embeddings.joint.data import JointData, JointItem

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("ann", "bob", "cleo")
RATE = 8_000
FSDD = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "fsdd" / "recordings"

TINY = JointConfig(width=16, layers=1, heads=2, steps=8, batch=20, mel_bins=16)
SMALL = JointConfig(width=32, layers=1, heads=2, steps=150, batch=40, mel_bins=16)


def names() -> tuple[JointItem, ...]:
    return tuple(JointItem(content_id(name.encode()), name, str(digit)) for digit, name in enumerate(NAMES))


@cache
def images(count: int | None) -> tuple[JointItem, ...]:
    source = DigitsSource()
    rows = source.scan().items("image").to_pylist()[:count]
    return tuple(JointItem(row["item_id"], source.read(row["uri"], row["item_id"]), row["label"]) for row in rows)


def melody(digit: int, pitch: float, rng: np.random.Generator) -> bytes:
    """Three notes, the digit written in a scale, of a third of a second, with a little noise; a WAV file."""
    notes = (digit % 3, digit // 3, (digit * 2) % 5)
    times = np.arange(RATE // 8) / RATE
    tones = [np.sin(2 * np.pi * pitch * 2 ** (note / 3) * times) * np.hanning(len(times)) for note in notes]
    wave = np.concatenate(tones) * rng.uniform(0.2, 0.6)
    buffer = io.BytesIO()
    noisy = (wave + 0.005 * rng.standard_normal(len(wave))).astype(np.float32)
    soundfile.write(buffer, noisy, RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


@cache
def sounds(takes: int) -> tuple[JointItem, ...]:
    rng = np.random.default_rng(0)
    found = []
    for speaker_number, speaker in enumerate(SPEAKERS):
        for digit in range(10):
            for _ in range(takes):
                content = melody(digit, 300 * 1.1**speaker_number * rng.uniform(0.98, 1.02), rng)
                found.append(JointItem(content_id(content), content, str(digit), speaker))
    return tuple(found)


def digit_data(*, image_count: int | None = 300, takes: int = 8) -> JointData:
    items = {"text": names(), "image": images(image_count)}
    return JointData({**items, "audio": sounds(takes)} if takes else items)


def manifest(rows: list[dict[str, str | None]]) -> pa.Table:
    """A manifest of these rows; what a row does not say is null, and it is usable."""
    columns = ("item_id", "uri", "modality", "label", "sublabel", "group", "text", "status")
    full = [{"uri": f"memory:{number}", "status": OK, **row} for number, row in enumerate(rows)]
    return pa.table({name: pa.array([row.get(name) for row in full], pa.string()) for name in columns})


def spoken_digits() -> tuple[JointData, frozenset[str]]:
    """The digit images, their names and the recordings of FSDD; and the ids of takes 0 to 4 of every speaker."""
    spoken, test = [], set()
    for path in sorted(FSDD.glob("*.wav")):
        digit, speaker, take = path.stem.split("_")
        content = path.read_bytes()
        spoken.append(JointItem(content_id(content), content, digit, speaker))
        if int(take) < 5:
            test.add(spoken[-1].item_id)
    return JointData({"text": names(), "image": images(None), "audio": tuple(spoken)}), frozenset(test)
