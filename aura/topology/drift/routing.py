"""Drift of routing: which experts of a mixture are wanted together, in windows of items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aura.topology.cloud import checked_cloud
from aura.topology.drift.embeddings import DriftReference, rounded
from aura.topology.drift.networks import network_drift
from aura.topology.drift.report import DriftReport, Side
from aura.topology.drift.samples import SampleError, two_samples
from aura.topology.drift.settings import DriftSettings
from aura.topology.networks import NetworkSeries, correlation_windows


def routing_drift(
    reference: DriftReference,
    ids: Sequence[str],
    weights: NDArray[np.floating],
    *,
    model: str,
    fingerprint: str,
    window: int,
    settings: DriftSettings | None = None,
) -> DriftReport:
    """Decide whether the experts' network is the one that the reference's routing weights make.

    Items are dealt out as in `embedding_drift`, so that no item stands on both sides, and put in random order. Each
    window of them gives a network: experts are joined by the correlation of their weights. Items are no time series,
    so windows are exchangeable without drift.

    Args:
        reference: Routing weights to compare with, one row an item.
        ids: Unique ids of the current items.
        weights: [n, experts] what the router gives each expert for each item, finite; compared as float32, as the
            reference is kept.
        model: Name of the model.
        fingerprint: Digest of the model.
        window: Items of a window, at least 3.
        settings: How to decide; None: the defaults.

    Raises:
        CloudError: The weights are empty, misshapen, or not finite in float32.
        SampleError: An id occurs twice, or there are not as many ids as weights.
        NetworkError: The window is too short.
    """
    chosen = settings or DriftSettings()
    now = rounded(checked_cloud(weights))
    if len(now) != len(ids):
        raise SampleError(f"{len(ids)} ids and {len(now)} rows of weights: expected one row for each id")
    dealt = two_samples(reference.ids, ids, seed=chosen.seed)
    report = network_drift(
        _series(reference.vectors[dealt.reference], window),
        _series(now[dealt.current], window),
        source=model,
        settings=chosen,
    )
    current = Side(source=model, fingerprint=fingerprint, made_at=None, items=len(ids))
    return replace(report, reference=reference.side, current=current, shared=dealt.shared, block_size=window)


def _series(weights: NDArray[np.floating], window: int) -> NetworkSeries:
    return correlation_windows(weights, [f"expert {number}" for number in range(weights.shape[1])], window=window)
