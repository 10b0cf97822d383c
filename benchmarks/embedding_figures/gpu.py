"""The rows about texts, images and sounds on CUDA, and how much of the device's rate the networks use."""

from __future__ import annotations

from pathlib import Path

import torch
from report import Figure, figure, tell

from embedding_figures import images, sounds, text
from embedding_figures.sides import product_rate

TEXTS, IMAGES, SOUNDS = 6000, 1024, 256
SQUARE = 4096


def figures(data: Path | None, runs: int) -> list[Figure]:
    """All rows about CUDA; one row that says so where there is no device."""
    if not torch.cuda.is_available():
        tell("left out: no CUDA device")
        return [figure("CUDA devices: no CUDA device, so no rows about it", [0.0], "devices")]
    rate = product_rate([(SQUARE, SQUARE)], SQUARE, torch.bfloat16, "cuda")
    found = [figure(f"{torch.cuda.get_device_name()}, products in bfloat16", [rate], "GFLOP/s")]
    found += text.measured("cuda", text.python_texts(TEXTS), runs)
    found += images.measured("cuda", images.pictures(IMAGES), runs, rate)
    return found + sounds.measured("cuda", sounds.spoken_digits(data, SOUNDS), runs, rate)
