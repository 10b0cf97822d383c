"""Clouds like those of text embeddings, and the drifts that are planted in them.

Twelve topics of unequal size in 384 dimensions; an item is its topic's direction, a place in the topic's eight own
dimensions and a remainder in all of them, scaled to length 1. Two items of one topic have a cosine of about 0.5, of two
topics about 0.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

import numpy as np
from numpy.typing import NDArray

from aura.topology.drift.embeddings import DriftReference, embedding_drift
from aura.topology.drift.report import DriftReport
from drift_figures.trials import SETTINGS

DIMENSION, TOPICS, OWN = 384, 12, 8
ITEMS = 600
"""Items of either side: 15 blocks of 40."""
TOPIC, PLACE, REMAINDER = 0.7, 0.6, 0.35
NOON = datetime(2026, 1, 1, tzinfo=UTC)

STRENGTHS = {
    "a topic takes this share of the others": (0.05, 0.1, 0.2, 0.3, 0.5),
    "a new topic with this share": (0.02, 0.05, 0.1, 0.2, 0.4),
    "a loop where this share had none": (0.05, 0.1, 0.2, 0.4, 0.8),
    "a space turned by this angle": (0.1, 0.2, 0.3, 0.5, 1.5),
}

Cloud = NDArray[np.float64]


class Population:
    """Twelve topics, two spare directions for what is planted, and a rotation of the whole space."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.centres = _unit(rng.normal(size=(TOPICS + 1, DIMENSION)))
        self.own = rng.normal(size=(TOPICS + 1, OWN, DIMENSION)) / np.sqrt(OWN * DIMENSION)
        self.sizes = rng.dirichlet(np.full(TOPICS, 5.0))
        self.plane = np.linalg.qr(rng.normal(size=(DIMENSION, 2)))[0].T
        self.planes = np.linalg.qr(rng.normal(size=(DIMENSION, DIMENSION)))[0]

    def items(self, count: int, rng: np.random.Generator) -> Cloud:
        """Draw items of all topics."""
        return self.of_topics(rng.choice(TOPICS, size=count, p=self.sizes), rng)

    def of_topics(self, topics: NDArray[np.int64], rng: np.random.Generator) -> Cloud:
        """Draw an item of each of these topics; the one past the last is that which only drift brings."""
        places = np.einsum("io,iod->id", rng.normal(size=(len(topics), OWN)), self.own[topics])
        return _unit(TOPIC * self.centres[topics] + PLACE * places + _remainder(len(topics), rng))

    def disc(self, count: int, rng: np.random.Generator, *, hollow: bool) -> Cloud:
        """Draw items of a topic that fills a plane: on a circle, or with the same covariance and without its hole."""
        angle = rng.uniform(0, 2 * np.pi, count)
        radius = np.ones(count) if hollow else np.sqrt(rng.exponential(size=count))
        places = radius[:, None] * (np.column_stack((np.cos(angle), np.sin(angle))) @ self.plane)
        return _unit(TOPIC * self.centres[TOPICS] + places + _remainder(count, rng))

    def turned(self, cloud: Cloud, angle: float) -> Cloud:
        """Turn the space by this angle in each of 192 random planes."""
        axes = cloud @ self.planes
        even, odd = axes[:, ::2].copy(), axes[:, 1::2].copy()
        axes[:, ::2] = np.cos(angle) * even - np.sin(angle) * odd
        axes[:, 1::2] = np.sin(angle) * even + np.cos(angle) * odd
        return axes @ self.planes.T


def no_drift(seed: int) -> DriftReport:
    """Decide about two samples of one population."""
    population, rng = _population(), np.random.default_rng([1, seed])
    return _decide(population.items(ITEMS, rng), population.items(ITEMS, rng), seed)


def planted(name: str, strength: float, seed: int) -> DriftReport:
    """Decide about a sample with this drift at this strength."""
    population, rng = _population(), np.random.default_rng([2, seed])
    before, now = population.items(ITEMS, rng), population.items(ITEMS, rng)
    if name == "a space turned by this angle":
        return _decide(before, population.turned(before, strength), seed, same=True)
    moved = rng.random(ITEMS) < strength
    if name == "a topic takes this share of the others":
        now[moved] = population.of_topics(np.zeros(moved.sum(), dtype=np.int64), rng)
    elif name == "a new topic with this share":
        now[moved] = population.of_topics(np.full(moved.sum(), TOPICS), rng)
    elif name == "a loop where this share had none":
        had = rng.random(ITEMS) < strength
        before[had] = population.disc(int(had.sum()), rng, hollow=False)
        now[moved] = population.disc(int(moved.sum()), rng, hollow=True)
    else:
        raise ValueError(f"no such drift: {name!r}, known are {sorted(STRENGTHS)}")
    return _decide(before, now, seed)


@cache
def _population() -> Population:
    return Population(0)


def _decide(before: Cloud, now: Cloud, seed: int, *, same: bool = False) -> DriftReport:
    model = {"model": "planted", "fingerprint": ""}
    ids = [f"{seed}-{number}" for number in range(2 * ITEMS)]
    reference = DriftReference.take(ids[:ITEMS], before, made_at=NOON, **model)
    return embedding_drift(reference, ids[:ITEMS] if same else ids[ITEMS:], now, settings=SETTINGS, **model)


def _unit(vectors: Cloud) -> Cloud:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _remainder(count: int, rng: np.random.Generator) -> Cloud:
    return REMAINDER * rng.normal(size=(count, DIMENSION)) / np.sqrt(DIMENSION)
