"""Two ways to the same vectors, timed in turns, and the rate at which the machine multiplies matrices.

Belongs here: turns, ratios, rates. Does not: what the sides are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from report import Figure, figure, tell

from aura.embeddings.threads import in_threads

RATE_SECONDS = 1.0
"""How long each rate is measured."""


def in_turns(sides: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of each side in each run; the order is reversed from run to run."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for run in range(runs):
        names = list(sides) if run % 2 == 0 else list(sides)[::-1]
        for name in names:
            start = time.perf_counter()
            sides[name]()
            seconds[name].append(time.perf_counter() - start)
            tell(f"  run {run + 1}: {name} took {seconds[name][-1]:.1f} s")
    return seconds


def throughput(
    what: str, seconds: Mapping[str, list[float]], items: int, goals: Mapping[str, float], unit: str = "items/s"
) -> list[Figure]:
    """Items per second of every side, and how many times faster the first one is than each of the others.

    Args:
        what: Begins the names of the figures.
        seconds: Of each side, the one that is judged first.
        items: Encoded in each run.
        goals: Smallest ratio to a side; a side without one has no goal.
        unit: What an item is.
    """
    ours, *others = seconds
    found = [figure(f"{what}, {side}", [items / each for each in seconds[side]], unit) for side in seconds]
    for side in others:
        ratios = [theirs / own for theirs, own in zip(seconds[side], seconds[ours], strict=True)]
        found.append(
            figure(
                f"{what}, times faster than {side}", ratios, "ratio", against=side, goal=goals.get(side), at_least=True
            )
        )
    return found


def agreement(what: str, vectors: np.ndarray, reference: np.ndarray, against: str) -> Figure:
    """The smallest cosine between the vectors [n, d] of the same items."""
    units = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (vectors, reference)]
    return figure(
        f"{what}, smallest cosine",
        [float((units[0] * units[1]).sum(1).min())],
        "cosine",
        against=against,
        goal=0.999,
        at_least=True,
    )


def product_rate(shapes: Sequence[tuple[int, int]], rows: int, dtype: torch.dtype, device: str = "cpu") -> float:
    """GFLOP/s of linear layers [in, out] one after the other, on every core at once."""
    layers = [torch.nn.Linear(*shape).to(device, dtype) for shape in shapes]
    inputs = [torch.randn(rows, shape[0]).to(device, dtype) for shape in shapes]
    flops = sum(2.0 * rows * wide * tall for wide, tall in shapes)

    def work(_: int) -> tuple[int, float]:
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < RATE_SECONDS:
            for layer, given in zip(layers, inputs, strict=True):
                layer(given)
            if device == "cuda":
                torch.cuda.synchronize()
            done += 1
        return done, time.perf_counter() - start

    rates: list[float] = []
    in_threads(
        work,
        range(torch.get_num_threads() if device == "cpu" else 1),
        lambda _, result: rates.append(result[0] * flops / result[1] / 1e9),
        device=device,
    )
    return sum(rates)


def bert_flops(lengths: np.ndarray, layers: int, width: int, inner: int) -> float:
    """Multiplications and additions of a BERT on texts of these lengths [n], without padding."""
    tokens, squares = float(lengths.sum()), float((lengths.astype(np.float64) ** 2).sum())
    return layers * (2 * tokens * (4 * width**2 + 2 * width * inner) + 4 * squares * width)
