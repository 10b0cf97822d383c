"""Small texts with known words, and models that were trained on them for a moment."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The graph of the tests of the shell, on a home of one's own.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shell"))

from aura.experts.language.presets import PRESETS
from aura.experts.language.text import read_text
from aura.experts.language.tokens import tokenize
from aura.experts.language.training import train_language_models

WORDS = {
    "cities": ("harbour", "bridge", "market", "tower", "street", "river"),
    "numbers": ("seventeen", "forty", "ninety", "eleven", "thousand", "dozen"),
}


def write_domains(root: Path, files: int = 30) -> Path:
    """Two directories of texts: each file says its own things with the words of its domain."""
    for domain, words in WORDS.items():
        (root / domain).mkdir(parents=True)
        for number in range(files):
            lines = [
                f"The {words[(number + line) % 6]} of {words[(number * line) % 6]} is number {number} in line {line}."
                for line in range(20)
            ]
            (root / domain / f"{number:02d}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def text_directory(tmp_path_factory) -> Path:
    """A directory with two domains; only to be read."""
    return write_domains(tmp_path_factory.mktemp("text") / "domains")


@pytest.fixture(scope="session")
def tiny():
    """The preset that proves nothing."""
    return PRESETS["tiny"]


@pytest.fixture(scope="session")
def small_text(text_directory, tiny):
    """The directory as tokens."""
    return tokenize(read_text(str(text_directory), domain_bytes=tiny.domain_bytes), tiny.vocabulary)


@pytest.fixture(scope="session")
def tiny_models(small_text, tiny):
    """Both models of seed 0."""
    return train_language_models(small_text, tiny)
