"""Drift of networks: windows of one stretch of time against windows of another."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from aura.topology.drift.decision import decide_by_shape, decide_by_vectors, diagram_distances, too_few
from aura.topology.drift.permutation import neighbours_alike
from aura.topology.drift.report import DriftReport, Outcome, Side, Unavailable
from aura.topology.drift.samples import SampleError
from aura.topology.drift.settings import DriftSettings
from aura.topology.networks import Direction, Network, NetworkSeries

FEWEST_SHARED = 2
"""Nodes of the same name on both sides below which there is no edge to compare."""


def network_drift(
    reference: NetworkSeries,
    current: NetworkSeries,
    *,
    source: str,
    reference_made_at: datetime | None = None,
    made_at: datetime | None = None,
    settings: DriftSettings | None = None,
) -> DriftReport:
    """Decide whether the current windows come from the distribution that the reference's windows came from.

    The topological test compares the persistence diagrams of the windows' networks, filtered in both directions: it
    knows no names, so it takes a node that is replaced by another in the same place for the same. The plain test
    compares the weights of the edges between nodes that both sides have by name: it sees who talks to whom, and loses
    sight of what was renamed.

    Both take windows to be exchangeable without drift. A signal that remembers its past for less than a window hardly
    matters; a coupling that wanders from window to window does, and the tests find its wandering. The report's
    `neighbours_alike` says whether that is so: then take longer windows, or leave gaps between them.

    Args:
        reference: What to compare with.
        current: What is there now, of the same kind and length of window.
        source: Name of what is observed.
        reference_made_at: When the reference was taken.
        made_at: When the current windows were taken.
        settings: How to decide; of the sizes `most_blocks` (more windows are thinned out evenly) and
            `most_nodes` matter.

    Raises:
        SampleError: The two sides differ in kind or in the length of their windows.
    """
    chosen = settings or DriftSettings()
    if reference.window != current.window:
        raise SampleError(
            f"windows of {reference.window} in the reference and of {current.window} now: networks of unequal windows"
            " differ by that alone, cut both alike"
        )
    before, now = _thinned(reference.networks, chosen.most_blocks), _thinned(current.networks, chosen.most_blocks)
    if before and now and before[0].kind != now[0].kind:
        raise SampleError(f"the reference holds {before[0].kind} and the current side {now[0].kind}: compare one kind")
    topology, alike = _by_topology(before, now, chosen)
    return DriftReport(
        kind="network",
        reference=Side(source, "", reference_made_at, len(reference.networks)),
        current=Side(source, "", made_at, len(current.networks)),
        shared=0,
        block_size=1,
        neighbours_alike=alike,
        settings=chosen,
        topology=topology,
        plain=_by_edges(before, now, chosen),
    )


def _thinned(networks: Sequence[Network], most: int) -> list[Network]:
    places = np.unique(np.linspace(0, len(networks) - 1, min(most, len(networks))).round().astype(np.int64))
    return [networks[place] for place in places]


def _by_topology(
    before: Sequence[Network], now: Sequence[Network], settings: DriftSettings
) -> tuple[Outcome, float | None]:
    """Test the shape; beside it the p-value of `neighbours_alike`."""
    unavailable = too_few(len(before), len(now), settings, "windows")
    if unavailable is not None:
        return unavailable, None
    largest = max(len(each.names) for each in (*before, *now))
    if largest > settings.most_nodes:
        reason = (
            f"a window has {largest} nodes, at most {settings.most_nodes} are compared by shape: take a part of them"
        )
        return Unavailable(reason), None
    names: list[str] = []
    diagrams: list[Sequence[NDArray[np.float64]]] = []
    for direction in Direction:
        bars = [each.bars(direction, max_dimension=settings.max_dimension) for each in (*before, *now)]
        names += [f"H{dimension}, {direction.value}" for dimension in range(settings.max_dimension + 1)]
        diagrams += zip(*bars, strict=True)
    distances = diagram_distances(diagrams, settings)
    alike = neighbours_alike(distances, len(before), permutations=settings.permutations, seed=settings.seed)
    return decide_by_shape(distances, len(before), names, "the networks of windows", settings), alike


def _by_edges(before: Sequence[Network], now: Sequence[Network], settings: DriftSettings) -> Outcome:
    unavailable = too_few(len(before), len(now), settings, "windows")
    if unavailable is not None:
        return unavailable
    shared = sorted(_names(before) & _names(now))
    if len(shared) < FEWEST_SHARED:
        return Unavailable(
            f"the sides share {len(shared)} names of {len(_names(before))} and {len(_names(now))}: edges can only be"
            " compared between nodes that both have"
        )
    of_what = f"the weights of the edges between the {len(shared)} nodes that both sides have by name"
    return decide_by_vectors(_edge_weights(before, shared), _edge_weights(now, shared), of_what, settings)


def _names(networks: Sequence[Network]) -> set[str]:
    return {name for each in networks for name in each.names}


def _edge_weights(networks: Sequence[Network], names: Sequence[str]) -> NDArray[np.float64]:
    """Weights [n, e] of all edges between these nodes; 0 where there is none."""
    place = {name: number for number, name in enumerate(names)}
    upper = np.triu_indices(len(names), 1)
    rows = np.zeros((len(networks), len(upper[0])))
    for row, network in zip(rows, networks, strict=True):
        mine = [number for number, name in enumerate(network.names) if name in place]
        theirs = [place[network.names[number]] for number in mine]
        weights = np.zeros((len(names), len(names)))
        weights[np.ix_(theirs, theirs)] = np.nan_to_num(network.weights[np.ix_(mine, mine)])
        row[:] = weights[upper]
    return rows
