"""Clouds of the regimes in which engines differ: float64 [n, d], or distances [n, n]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Cloud = NDArray[np.float64]


def torus(n: int, seed: int) -> Cloud:
    """A torus of radii 2 and 1 in space, with noise."""
    rng = np.random.default_rng(seed)
    around, along = rng.uniform(0, 2 * np.pi, size=(2, n))
    radius = 2 + np.cos(around)
    surface = np.column_stack((radius * np.cos(along), radius * np.sin(along), np.sin(around)))
    return surface + 0.05 * rng.normal(size=surface.shape)


def unit(points: Cloud) -> Cloud:
    """Points on the unit sphere."""
    scaled: Cloud = points / np.linalg.norm(points, axis=1, keepdims=True)
    return scaled


def clustered(n: int, seed: int) -> Cloud:
    """Unit vectors in 384 dimensions: twelve clusters, each spread over eight dimensions, like topics."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.normal(size=(12, 384)))
    bases = np.stack([np.linalg.qr(rng.normal(size=(384, 8)))[0] for _ in range(12)])
    cluster = rng.integers(12, size=n)
    offsets = np.einsum("nk,ndk->nd", 0.3 * rng.normal(size=(n, 8)) / np.sqrt(8), bases[cluster])
    return unit(centres[cluster] + offsets)


def structureless(n: int, seed: int) -> Cloud:
    """Random unit vectors in 384 dimensions."""
    return unit(np.random.default_rng(seed).normal(size=(n, 384)))


def correlation_distances(n: int, seed: int) -> Cloud:
    """Distances sqrt(2 (1 - |correlation|)) of signals that share eight factors."""
    rng = np.random.default_rng(seed)
    signals = rng.normal(size=(n, 8)) @ rng.normal(size=(8, 600)) + 1.5 * rng.normal(size=(n, 600))
    distances = np.sqrt(2 * np.maximum(0.0, 1 - np.abs(np.corrcoef(signals))))
    distances = np.maximum(distances, distances.T)
    np.fill_diagonal(distances, 0.0)
    return distances
