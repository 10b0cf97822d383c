"""Networks of messages and of correlations, and the drifts that are planted in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aura.topology.drift.networks import network_drift
from aura.topology.drift.report import DriftReport
from aura.topology.networks import NetworkSeries, correlation_windows, message_windows
from drift_figures.trials import SETTINGS

NODES, GROUPS = 20, 4
WINDOWS = 12
"""Of either side."""
MESSAGES = 200
"""Of a window."""
INSIDE = 0.8
"""Share of messages within the sender's group."""

SIGNALS, FACTORS = 12, 3
ROWS = 100
"""Of a window: about ten correlation times."""
MEMORY = 0.8
"""Autocorrelation from one row to the next: it falls to 1/e in 4.5 rows, and nine rows tell as much as one alone."""

WANDERING = (0.1, 1.0, 5.0)
"""Windows in which the coupling of signals forgets where it was."""

STRENGTHS = {
    "names that this share of the nodes exchanges": (0.1, 0.2, 0.4, 0.7, 1.0),
    "new names for this share, groups dissolved by half": (0.0, 0.3, 0.6, 0.9, 1.0),
    "groups dissolved by this share": (0.05, 0.1, 0.2, 0.35, 0.5),
}


def no_drift_in_messages(seed: int) -> DriftReport:
    """Decide about two stretches of one kind of traffic."""
    rng = np.random.default_rng([3, seed])
    return _decide(_traffic(rng), _traffic(rng))


def no_drift_in_signals(seed: int) -> DriftReport:
    """Decide about two stretches of the same autocorrelated signals."""
    rng = np.random.default_rng([4, seed])
    return _decide(_signals(rng), _signals(rng))


def wandering_signals(windows: float, seed: int) -> DriftReport:
    """Decide about two stretches of signals whose coupling wanders and forgets within so many windows."""
    rng = np.random.default_rng([6, seed])
    return _decide(_signals(rng, windows), _signals(rng, windows))


def planted(name: str, strength: float, seed: int) -> DriftReport:
    """Decide about traffic with this drift at this strength."""
    rng = np.random.default_rng([5, seed])
    names, inside = [f"n{node}" for node in range(NODES)], INSIDE
    touched = rng.permutation(NODES)[: round(strength * NODES)]
    if name == "names that this share of the nodes exchanges":
        for node, other in zip(touched, np.roll(touched, 1), strict=True):
            names[node] = f"n{other}"
    elif name == "new names for this share, groups dissolved by half":
        inside *= 0.5
        for node in touched:
            names[node] = f"new{node}"
    elif name == "groups dissolved by this share":
        inside *= 1.0 - strength
    else:
        raise ValueError(f"no such drift: {name!r}, known are {sorted(STRENGTHS)}")
    return _decide(_traffic(rng), _traffic(rng, names, inside))


def _decide(before: NetworkSeries, now: NetworkSeries) -> DriftReport:
    return network_drift(before, now, source="planted", settings=SETTINGS)


def _traffic(rng: np.random.Generator, names: list[str] | None = None, inside: float = INSIDE) -> NetworkSeries:
    """Draw messages of nodes in groups; a message stays in its sender's group with the probability `inside`."""
    count = WINDOWS * MESSAGES
    senders = rng.integers(0, NODES, count)
    size = NODES // GROUPS
    within = senders // size * size + (senders % size + rng.integers(1, size, count)) % size
    anywhere = (senders + rng.integers(1, NODES, count)) % NODES
    receivers = np.where(rng.random(count) < inside, within, anywhere)
    called = np.array(names or [f"n{node}" for node in range(NODES)])
    return message_windows(called[senders].tolist(), called[receivers].tolist(), window=MESSAGES)


def _signals(rng: np.random.Generator, wander: float = 0.0) -> NetworkSeries:
    """Draw signals that follow three factors, all autoregressive of order 1.

    With `wander` the weight of the factors is no constant: its logarithm is autoregressive too, with that memory in
    windows.
    """
    rows = WINDOWS * ROWS
    paths = _autoregressive(rng, rows, FACTORS + SIGNALS, MEMORY)
    weight = np.exp(_autoregressive(rng, rows, 1, np.exp(-1.0 / (wander * ROWS)))) if wander else np.ones((rows, 1))
    signals = weight * paths[:, np.arange(SIGNALS) % FACTORS] + paths[:, FACTORS:]
    return correlation_windows(signals, [f"s{number}" for number in range(SIGNALS)], window=ROWS)


def _autoregressive(rng: np.random.Generator, rows: int, count: int, memory: float) -> NDArray[np.float64]:
    """Stationary paths [rows, count] of variance 1."""
    from scipy.signal import lfilter

    noise = rng.normal(size=(rows, count)) * np.sqrt(1.0 - memory**2)
    first = rng.normal(size=(1, count))
    paths: NDArray[np.float64] = lfilter([1.0], [1.0, -memory], noise, axis=0, zi=memory * first)[0]
    return paths
