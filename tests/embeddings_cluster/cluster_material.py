"""What the tests encode: texts, and digits as files of images and sounds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
from embeddings_tiny_models import WORDS
from joint_material import melody
from PIL import Image
from sklearn.datasets import load_digits

from aura.embeddings.incremental import EmbeddingReport
from aura.embeddings.table import EmbeddingTable
from aura.settings_sections import EmbeddingSettings

TEXTS = [" ".join(WORDS.split()[start : start + length]) for start in range(14) for length in (1, 2, 3, 7, 30)]


def text_items(texts: list[str] = TEXTS) -> pa.Table:
    """A listing of texts."""
    ids = [hashlib.blake2b(f"{place} {text}".encode(), digest_size=16).hexdigest() for place, text in enumerate(texts)]
    empty = pa.array([None] * len(texts), pa.string())
    described = {"item_id": ids, "uri": ids, "modality": ["text"] * len(texts), "label": empty, "sublabel": empty}
    return pa.table({**described, "text": pa.array(texts, pa.large_string())})


def write_digits(directory: Path, count: int) -> Path:
    """Handwritten digits as PNG files, in a directory for each."""
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images[:count], digits.target[:count], strict=True)):
        path = directory / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).astype(np.uint8)).resize((32, 32)).save(path)
    return directory


def write_melodies(directory: Path, count: int) -> Path:
    """Short melodies as WAV files, in a directory for each digit."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = directory / str(number % 10) / f"{number:04d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(melody(number % 10, 300 + number, rng))
    return directory


def on_cpu(**models: Path) -> EmbeddingSettings:
    """Settings of these models: `on_cpu(text_model=directory)`."""
    return EmbeddingSettings(device="cpu", dtype="float32", **{name: str(path) for name, path in models.items()})


def assert_equal(there: tuple[EmbeddingTable, EmbeddingReport], here: tuple[EmbeddingTable, EmbeddingReport]) -> None:
    """The same table byte by byte, and the same report but for the time that it took."""
    assert there[0].table.equals(here[0].table, check_metadata=True)
    assert there[0].vectors.tobytes() == here[0].vectors.tobytes()
    assert there[0].model == here[0].model
    for name in ("reason", "encoded", "reused", "removed", "set_aside", "tokens", "chunked", "truncated"):
        assert getattr(there[1], name) == getattr(here[1], name), name
