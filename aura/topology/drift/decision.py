"""From distances to one of the two outcomes of a decision: the test, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aura.topology.distances import bottleneck, pairwise, wasserstein
from aura.topology.drift.permutation import energy_test, smallest_p_value
from aura.topology.drift.report import Component, Decided, Outcome, Unavailable
from aura.topology.drift.settings import DriftSettings

FEWEST = 2
"""Units on a side below which no spread within the side can be seen."""


def too_few(reference: int, current: int, settings: DriftSettings, unit: str) -> Unavailable | None:
    """Say that samples of these sizes cannot raise an alarm, whatever they hold; None where they can."""
    sizes = f"{reference} {unit} of the reference and {current} now"
    if min(reference, current) < FEWEST:
        return Unavailable(f"too little: {sizes}, at least {FEWEST} are needed on each side")
    smallest = smallest_p_value(reference, current)
    if smallest > settings.level:
        return Unavailable(
            f"too little: with {sizes} no p-value can be less than {smallest:.2g}, and the level is"
            f" {settings.level:.2g}: wait for more, or allow more false alarms"
        )
    return None


def decide(
    distances: NDArray[np.float64], reference: int, names: Sequence[str], method: str, settings: DriftSettings
) -> Decided:
    """Make the energy test and tell it as a report does.

    Args:
        distances: float64 [c, n, n], the first `reference` units being the reference's.
        reference: Units of the reference's sample.
        names: What the c distances are between.
        method: What was compared with what.
        settings: Level, permutations, seed.
    """
    found = energy_test(
        distances, reference, level=settings.level, permutations=settings.permutations, seed=settings.seed
    )
    parts = zip(names, found.energies.tolist(), found.scores.tolist(), strict=True)
    return Decided(
        method=method,
        reference=reference,
        current=distances.shape[1] - reference,
        components=tuple(Component(name, energy, score) for name, energy, score in parts),
        statistic=found.statistic,
        threshold=found.threshold,
        p_value=found.p_value,
        level=settings.level,
        null=tuple(found.null.tolist()),
    )


def diagram_distances(
    diagrams: Sequence[Sequence[NDArray[np.float64]]], settings: DriftSettings
) -> NDArray[np.float64]:
    """Distances [c, n, n] between the diagrams [m, 2] of n blocks, for each of c kinds of diagrams; no bar infinite."""
    distance = bottleneck if settings.distance == "bottleneck" else wasserstein
    return np.stack([pairwise(each, distance) for each in diagrams])


def decide_by_shape(
    distances: NDArray[np.float64], reference: int, names: Sequence[str], of_what: str, settings: DriftSettings
) -> Decided:
    """Test the distances between diagrams of blocks.

    Args:
        distances: float64 [c, n, n], from `diagram_distances`, the blocks of the reference first.
        reference: Blocks of the reference.
        names: What the c kinds of diagrams are, such as "H0".
        of_what: What a block is.
        settings: Distance, level, permutations, seed.
    """
    method = (
        f"{settings.distance} distances between the persistence diagrams of {of_what}, energy test on"
        f" {settings.permutations} permutations of the blocks, the largest score of {', '.join(names)}"
    )
    return decide(distances, reference, names, method, settings)


def decide_by_vectors(
    reference: NDArray[np.float64], current: NDArray[np.float64], of_what: str, settings: DriftSettings
) -> Outcome:
    """Test vectors by their Euclidean distances; unavailable where there are too few.

    Args:
        reference: float64 [n, d].
        current: float64 [k, d].
        of_what: What a vector is of.
        settings: Level, permutations, seed.
    """
    unavailable = too_few(len(reference), len(current), settings, "items")
    if unavailable is not None:
        return unavailable
    distances = euclidean_distances(np.concatenate((reference, current)))
    method = f"Euclidean distances between {of_what}, energy test on {settings.permutations} permutations of the items"
    return decide(distances[None], len(reference), ("distance",), method, settings)


def euclidean_distances(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances [n, n] by one matrix product, symmetric, with a zero diagonal.

    An error of about 1e-8 of the cloud's radius, from cancellation, is far below what distances vary by.
    """
    centred = points - points.mean(axis=0)
    squares = np.einsum("ij,ij->i", centred, centred)
    squared = squares[:, None] + squares - 2.0 * (centred @ centred.T)
    distances: NDArray[np.float64] = np.sqrt(np.maximum(np.maximum(squared, squared.T), 0.0))
    np.fill_diagonal(distances, 0.0)
    return distances
