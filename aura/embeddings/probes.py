"""The fixed inputs on which a model's arithmetic is settled.

Belongs here: a few texts, images and sounds of many kinds. Does not: the comparison (`aura.embeddings.encoder`).

They are the same in every process, so that all of them settle on the same. Images and sounds are drawn by formulas:
smooth, sharp, dark, bright and noisy ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SENTENCES = (
    "A man is playing a guitar in front of a small crowd.",
    "Return the sorted list, or raise ValueError if it is empty.",
    "The quarterly report shows that costs rose by 3.7 % while revenue fell.",
    "Die Messung wurde bei 21 °C und einer Luftfeuchte von 40 % wiederholt.",
    "Le chat dort sur le canapé pendant que la pluie tombe.",
    "El servidor no responde; vuelva a intentarlo más tarde.",
    "Сегодня ночью ожидается сильный снег и ветер.",
    "東京の天気は晴れで、気温は二十度です。",
    "الطقس جميل اليوم والسماء صافية.",
    "def area(radius: float) -> float: return math.pi * radius**2",
    '{"id": 1024, "tags": ["a", "b"], "ok": true}',
    "E = mc^2, and the gradient of f at x is zero.",
    "🙂🚀 great work!!! see https://example.org/a?b=c",
    "x",
    "no",
    "THE END",
)
_REPEATS = (1, 3, 20)
_SIDE = 160
_IMAGES = 8
_SOUND_SECONDS = (0.4, 1.0, 3.0, 6.0)


def texts() -> list[str]:
    """Texts in several languages and notations, each short, longer, and as long as many models take."""
    return [" ".join([sentence] * repeats) for repeats in _REPEATS for sentence in _SENTENCES]


def images() -> list[NDArray[np.uint8]]:
    """Images [side, side, 3]: waves of growing frequency, half of them with noise."""
    y, x = np.mgrid[0:_SIDE, 0:_SIDE] / _SIDE
    noise = np.random.default_rng(0)
    found = []
    for number in range(_IMAGES):
        frequency, phase = 2.0 ** (number / 2), number * np.arange(3)
        waves = np.sin(2 * np.pi * frequency * (x[..., None] * (1 + phase / 7) + y[..., None]) + phase)
        level = 128 + 100 * waves * (0.3 + 0.1 * number) + (number % 2) * noise.normal(0, 30, (_SIDE, _SIDE, 3))
        found.append(np.clip(level, 0, 255).astype(np.uint8))
    return found


def sounds(rate: int) -> list[NDArray[np.float32]]:
    """Sounds [n] at a sampling rate: rising tones with overtones, half of them in noise."""
    noise = np.random.default_rng(0)
    found = []
    for number, seconds in enumerate(_SOUND_SECONDS):
        t = np.arange(round(seconds * rate)) / rate
        pitch = 110.0 * 2**number * t * (1 + t / seconds)
        tone = sum(np.sin(2 * np.pi * pitch * overtone) / overtone for overtone in (1, 2, 3))
        envelope = np.minimum(1.0, 8 * np.minimum(t, seconds - t))
        found.append((0.3 * tone * envelope + (number % 2) * noise.normal(0, 0.05, len(t))).astype(np.float32))
    return found
